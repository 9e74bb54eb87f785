"""The image's root file system as a folder `rootfs-DIGEST` of the cache, for boxes without Docker.

Exported from the Docker image where a daemon answers, else made from the same recipe by mmdebstrap.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from devnull.sandbox.cache import lock_build
from devnull.sandbox.docker_client import IMAGE_LABEL, connect_docker
from devnull.sandbox.errors import ImageMissing, RuntimeUnavailable
from devnull.sandbox.image.docker_image import DEBIAN_SUITE, DOCKER_SECONDS, ensure_image
from devnull.sandbox.image.host_tools import host_tool_error, run_host_tool
from devnull.sandbox.image.recipe import pack_context, recipe_files, rootfs_folder
from devnull.sandbox.supervisor import SUPERVISOR_IN_IMAGE


def ensure_rootfs(log: Callable[[str], None]) -> Path:
    """Folder of the image's root file system, made first if it is missing; `log` gets a line for each step.

    Raises `ImageMissing`, `ImageBuildFailed` or `HostDiskFull`, each with the fix.
    """
    folder = rootfs_folder()
    if folder.is_dir():
        return folder
    with lock_build("rootfs", log):
        if folder.is_dir():
            return folder
        part = folder.with_name(f"{folder.name}.part")
        remove_tree(part)
        part.mkdir()
        try:
            if _docker_answers():
                _export_image(ensure_image(log), part, log)
            else:
                _make_rootfs(part, log)
            part.rename(folder)
        except BaseException:
            remove_tree(part)
            raise
    return folder


def remove_tree(folder: Path) -> None:
    """Removes a root file system, folders without write permission included."""
    if not folder.exists():
        return

    def unlock(function: Callable[..., Any], path: str, _: Any) -> None:
        Path(path).parent.chmod(0o700)
        if Path(path).is_dir() and not Path(path).is_symlink():
            Path(path).chmod(0o700)
        function(path)

    shutil.rmtree(folder, onerror=unlock)


def _docker_answers() -> bool:
    try:
        connect_docker()
    except RuntimeUnavailable:
        return False
    return True


def _export_image(image: str, folder: Path, log: Callable[[str], None]) -> None:
    """Unpacks the image's file system into `folder`; as an ordinary user all of it belongs to the user."""
    log(f"unpacking the task image into {folder.parent}")
    client = connect_docker(DOCKER_SECONDS)
    container = client.containers.create(image, labels={IMAGE_LABEL: "export"}, network_mode="none")
    try:
        unpack = subprocess.Popen(
            ["tar", "-x", "-C", str(folder), "--exclude=dev/*", *([] if os.geteuid() == 0 else ["--no-same-owner"])],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert unpack.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            for chunk in cast("Iterator[bytes]", container.export()):
                unpack.stdin.write(chunk)
        _, complaints = unpack.communicate()
        if unpack.returncode != 0:
            raise host_tool_error("tar", complaints.decode(errors="replace"))
    finally:
        container.remove(force=True)


def _make_rootfs(folder: Path, log: Callable[[str], None]) -> None:
    """The recipe without Docker: mmdebstrap, as root or as a user with subordinate ids."""
    if not shutil.which("mmdebstrap"):
        raise ImageMissing(
            "no Docker daemon to export the task image from, and no mmdebstrap to make its files; "
            "run `apt-get install -y mmdebstrap uidmap`, then this again"
        )
    with tempfile.TemporaryDirectory(prefix="devnull-recipe-") as scratch:
        Path(scratch).chmod(0o755)
        archive, context = Path(scratch, "rootfs.tar"), Path(scratch, "context.tar")
        context.write_bytes(pack_context(recipe_files()).getvalue())
        log("making the box's files with mmdebstrap (a few minutes)")
        steps = (
            'mkdir "$1/tmp/recipe"',
            f'tar -x --no-same-owner -C "$1/tmp/recipe" -f {context}',
            'chroot "$1" sh /tmp/recipe/sandbox/box/base.sh /tmp/recipe/sandbox/corpus/packages.txt',
            # base.sh empties /tmp, as the last thing that leaves traces there
            'mkdir "$1/tmp/recipe"',
            f'tar -x --no-same-owner -C "$1/tmp/recipe" -f {context}',
            'chroot "$1" make -C /tmp/recipe/sandbox/native',
            f'install -D "$1/tmp/recipe/sandbox/native/build/supervisor" "$1{SUPERVISOR_IN_IMAGE}"',
            'chroot "$1" python3 /tmp/recipe/sandbox/box/families.py /tmp/recipe/sandbox/corpus /srv/builds.tar',
            'rm -rf "$1/tmp/recipe"',
        )
        hooks = [f"--customize-hook={step}" for step in steps]
        run_host_tool(["mmdebstrap", "--variant=minbase", *hooks, DEBIAN_SUITE, str(archive)])
        owner = [] if os.geteuid() == 0 else ["--no-same-owner"]
        run_host_tool(["tar", "-x", "-C", str(folder), "--exclude=./dev/*", *owner, "-f", str(archive)])
