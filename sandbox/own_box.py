"""A box of the user's own making: a folder copied in, over devnull's root file system or that of a Docker image."""

import io
import shlex
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from docker.errors import APIError, NotFound

from devnull.sandbox.docker_client import connect_docker, short_error
from devnull.sandbox.errors import InputError
from devnull.sandbox.image.rootfs import ensure_rootfs, export_image, remove_tree
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.rootless import RootlessRuntime
from devnull.sandbox.session import HARNESS_SECONDS, BoxSession
from devnull.sandbox.supervisor import find_supervisor

FOLDER_IN_BOX = "/work"
"""Where the copied folder lies, and its command begins."""
_ARCHIVE = "/.devnull-folder.tar"


@contextmanager
def open_own_box(
    folder: Path | None, image: str | None, limits: Limits, log: Callable[[str], None] = lambda line: None
) -> Iterator[BoxSession]:
    """A rootless box without network, ended with the block; nothing in it reaches the host's files.

    Args:
        folder: Copied to `/work`, where the shell then stands; changes to it end with the box.
        image: A Docker image that the daemon has, with bash, its environment and working directory kept; `None`:
            devnull's own root file system.
        log: Gets a line for each step.

    Raises:
        InputError: No such folder or image, or the folder does not fit in the box.
        InfrastructureError: No box can be had; the message names the fix.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"--folder {folder}: no such folder")
    if image is None:
        with RootlessRuntime(ensure_rootfs(log)).start(limits) as session:
            _prepare(session, "cd /", folder)
            yield session
        return
    setup = _read_setup(image)
    scratch = Path(tempfile.mkdtemp(prefix="devnull-image-"))
    try:
        root = scratch / "root"
        root.mkdir()
        log(f"unpacking the image {image}")
        export_image(image, root)
        if not (root / "bin/bash").exists():
            raise InputError(f"--image {image}: it has no /bin/bash, which a box needs; install bash in it")
        with RootlessRuntime(root, find_supervisor()).start(limits) as session:
            _prepare(session, setup, folder)
            yield session
    finally:
        remove_tree(scratch)


def _read_setup(image: str) -> str:
    """Shell lines that give a shell the environment and the working directory of a Docker image."""
    client = connect_docker()
    try:
        config = client.images.get(image).attrs["Config"]
    except NotFound:
        raise InputError(f"--image {image}: the Docker daemon has no such image; docker pull it first") from None
    except APIError as error:
        raise InputError(f"--image {image}: {short_error(error)}") from None
    finally:
        client.close()
    exports = [f"export {shlex.quote(each)}" for each in config.get("Env") or ()]
    return "\n".join([*exports, f"cd {shlex.quote(config.get('WorkingDir') or '/')}"])


def _prepare(session: BoxSession, setup: str, folder: Path | None) -> None:
    """Sets the shell up and copies the folder in, before anything is watched."""
    if folder is not None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(folder, arcname=".", filter=_owned_by_root)
        try:
            session.write_file(_ARCHIVE, archive.getvalue(), mode=0o600)
        except OSError as error:
            raise InputError(f"--folder {folder}: {error.strerror} in the box; pass a larger --disk") from None
        setup += f"\nmkdir -p {FOLDER_IN_BOX} && tar -xf {_ARCHIVE} -C {FOLDER_IN_BOX} && rm {_ARCHIVE} && "
        setup += f"cd {FOLDER_IN_BOX}"
    result = session.run(setup, timeout=HARNESS_SECONDS)
    if result.exit_code != 0:
        raise InputError(f"the box cannot be set up: {result.shown.strip()[-300:]!a}; is --disk large enough?")


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The member as root's, who is the box's only user; sockets, pipes and devices stay behind."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member if member.isfile() or member.isdir() or member.issym() or member.islnk() else None
