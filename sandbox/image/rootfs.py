"""The image's root file system as a folder of the cache, for boxes without Docker, with the manifest read from it.

Exported from the Docker image where a daemon answers, else made from the same recipe by mmdebstrap. Either way
`rootfs-DIGEST/` appears whole, once boxes of it were tried: `root/`, the files, and `manifest.json` beside them.
"""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from docker.errors import NotFound

from devnull.sandbox.cache import lock_build
from devnull.sandbox.docker_client import IMAGE_LABEL, connect_docker
from devnull.sandbox.errors import ImageMissing, RuntimeUnavailable
from devnull.sandbox.image.acceptance import accept_image
from devnull.sandbox.image.docker_image import DOCKER_SECONDS, ensure_image
from devnull.sandbox.image.host_tools import host_tool_error, run_host_tool, run_mmdebstrap, unpack_command
from devnull.sandbox.image.manifest import Manifest
from devnull.sandbox.image.recipe import pack_context, recipe_files, rootfs_folder
from devnull.sandbox.runtimes.rootless import RootlessRuntime
from devnull.sandbox.supervisor import SUPERVISOR_IN_IMAGE

_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_OF_AN_ENGINE = {"etc/hosts": _HOSTS, "etc/hostname": "box\n", "etc/resolv.conf": ""}
"""Files that a container engine puts into every container; an archive holds them empty, or as they were on the host."""


def find_rootfs() -> Path | None:
    """Folder of the image's root file system; `None` if it is not made."""
    folder = rootfs_folder()
    return folder / "root" if _manifest_of(folder).exists() else None


def ensure_rootfs(log: Callable[[str], None], *, again: bool = False) -> Path:
    """Folder of the image's root file system, made first if it is missing or `again` is set; `log` gets the steps.

    Raises `ImageMissing`, `ImageBuildFailed`, `HostDiskFull` or `RuntimeUnavailable`, each with the fix.
    """
    if not again and (root := find_rootfs()):
        return root
    with lock_build("rootfs", log):
        return (None if again else find_rootfs()) or _build_rootfs(log)


def _build_rootfs(log: Callable[[str], None]) -> Path:
    """Makes it; if that fails, what was there stays."""
    folder = rootfs_folder()
    part = folder.with_name(f"{folder.name}.part")
    root = part / "root"
    remove_tree(part)
    part.mkdir(mode=0o700)  # programs in there have the set-user-id bit
    root.mkdir()
    root.chmod(0o755)
    try:
        if _docker_answers():
            image = ensure_image(log)
            log(f"unpacking the task image into {folder.parent}")
            export_image(image, root)
        else:
            _make_rootfs(root, log)
        finish_rootfs(root)
        manifest = accept_image(lambda manifest: RootlessRuntime(root, manifest=manifest), log)
        _manifest_of(part).write_text(manifest.to_json())
        remove_tree(folder)
        part.rename(folder)
    except BaseException:
        remove_tree(part)
        raise
    return folder / "root"


def rootfs_manifest(root: Path) -> Manifest:
    """The manifest of a root file system of `ensure_rootfs`."""
    return Manifest.parse(_manifest_of(root.parent).read_bytes())


def _manifest_of(folder: Path) -> Path:
    return folder / "manifest.json"


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


def export_image(image: str, root: Path) -> None:
    """Unpacks the file system of a Docker image, which the daemon has, into the folder `root`."""
    client = connect_docker(DOCKER_SECONDS)
    name = f"devnull-export-{uuid.uuid4().hex[:12]}"
    try:
        with _held_signals():  # else the daemon may have made it, and we do not know
            # never started; but without any command an image that has none makes no container
            container = client.containers.create(
                image, "true", name=name, labels={IMAGE_LABEL: "export"}, network_mode="none"
            )
        unpack = subprocess.Popen(unpack_command(root), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert unpack.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            for chunk in cast("Iterator[bytes]", container.export()):
                unpack.stdin.write(chunk)
        _, complaints = unpack.communicate()
        if unpack.returncode != 0:
            raise host_tool_error("tar", complaints.decode(errors="replace"))
    finally:
        with contextlib.suppress(NotFound):
            client.api.remove_container(name, force=True)


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM come when the block is over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_rootfs(root: Path, log: Callable[[str], None]) -> None:
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
        context.chmod(0o644)  # whoever runs the hooks is another user of the host
        log("making the box's files with mmdebstrap (a few minutes)")
        inside = 'chroot "$1" env -u APT_CONFIG -u TMPDIR HOME=/root'
        steps = (
            'mkdir "$1/tmp/recipe"',
            f'tar -x --no-same-owner -C "$1/tmp/recipe" -f {context}',
            f"{inside} sh /tmp/recipe/sandbox/box/base.sh /tmp/recipe/sandbox/corpus/packages.txt",
            f"{inside} make -C /tmp/recipe/sandbox/native",
            f'install -D "$1/tmp/recipe/sandbox/native/build/supervisor" "$1{SUPERVISOR_IN_IMAGE}"',
            f"{inside} python3 /tmp/recipe/sandbox/box/families.py /tmp/recipe/sandbox/corpus /srv/builds.tar",
            # And no more in there: beside it lies what mmdebstrap's own apt is configured by, and without that it works
            # on the host's packages. In the end mmdebstrap empties /tmp itself.
            'rm -rf "$1/tmp/recipe"',
        )
        run_mmdebstrap(archive, steps)
        run_host_tool([*unpack_command(root), "-f", str(archive)])


def finish_rootfs(root: Path) -> None:
    """What both archives lack of a container, and what only one of them holds."""
    for name, text in _OF_AN_ENGINE.items():
        file = root / name
        file.unlink(missing_ok=True)  # it may be a link, and lead out
        file.write_text(text)
        file.chmod(0o644)
    (root / ".dockerenv").unlink(missing_ok=True)
    mtab = root / "etc/mtab"
    mtab.unlink(missing_ok=True)
    mtab.symlink_to("/proc/mounts")
