"""Boxes of the user's own making: a folder copied in, over devnull's root file system, an image or a folder."""

import errno
import io
import os
import shlex
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from docker.errors import APIError, NotFound
from docker.models.images import Image

from devnull.sandbox.cache import cache_folder, lock_build
from devnull.sandbox.docker_client import connect_docker, short_error
from devnull.sandbox.errors import InputError
from devnull.sandbox.image.rootfs import export_image, finish_rootfs, remove_tree
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.runtimes.docker import DockerRuntime
from devnull.sandbox.runtimes.rootless import RootlessRuntime
from devnull.sandbox.session import HARNESS_SECONDS, BoxSession
from devnull.sandbox.supervisor import find_supervisor

FOLDER_IN_BOX = "/work"
"""Where the copied folder lies, and its command begins."""
_ARCHIVE = "/.devnull-folder.tar"


def _quiet(line: str) -> None:
    pass


@dataclass(frozen=True)
class OwnBoxes:
    """Where boxes of one image come from, and how each is set up."""

    runtime: DockerRuntime | RootlessRuntime
    setup: str
    """Shell lines that give the box's shell the image's environment and working directory."""

    def start(self, limits: Limits, folder: Path | None = None) -> BoxSession:
        """A fresh box without network; nothing in it reaches the host's files.

        `folder`: copied to `/work`, where the shell then stands; changes to it end with the box.

        Raises `InputError` where there is no such folder or it does not fit, `InfrastructureError` where no box can be
        had; the message names the fix.
        """
        if folder is not None and not folder.is_dir():
            raise InputError(f"--folder {folder}: no such folder")
        session = self.runtime.start(limits)
        try:
            _prepare(session, self.setup, folder)
        except BaseException:
            session.close()
            raise
        return session


@contextmanager
def open_own_boxes(
    image: str | None, runtime: Literal["auto", "docker", "rootless"] = "rootless", log: Callable[[str], None] = _quiet
) -> Iterator[OwnBoxes]:
    """Boxes of one image, which stay possible until the end of the block.

    Args:
        image: A Docker image that the daemon has, with bash, its environment and working directory kept; or a folder
            that is a root file system, of which rootless boxes are made as it lies there; `None`: devnull's own.
        runtime: What makes the boxes; `auto`: docker where a daemon answers, else rootless.
        log: Gets a line for each step.

    Raises `InputError` for an image that is not there or has no bash, or for a folder and Docker;
    `InfrastructureError` where there are no boxes.
    """
    if image is None:
        own = open_runtime(runtime, log)
        assert isinstance(own, DockerRuntime | RootlessRuntime)
        yield OwnBoxes(own, "cd /")
        return
    if is_root_folder(image):
        if runtime == "docker":
            raise InputError(f"--image {image}: Docker makes no boxes of a folder; docker import it, or go rootless")
        yield OwnBoxes(RootlessRuntime(_checked(Path(image)), find_supervisor()), "cd /")
        return
    found, setup = _read_image(image)
    if runtime != "rootless":  # the daemon that has the image answers
        yield OwnBoxes(DockerRuntime(image, find_supervisor()), setup)
        return
    yield OwnBoxes(RootlessRuntime(_unpacked(image, found, log), find_supervisor()), setup)


@contextmanager
def open_own_box(
    folder: Path | None, image: str | None, limits: Limits, log: Callable[[str], None] = _quiet
) -> Iterator[BoxSession]:
    """One rootless box of `open_own_boxes`, ended with the block; arguments and errors as there and in `start`."""
    if folder is not None and not folder.is_dir():
        raise InputError(f"--folder {folder}: no such folder")
    with open_own_boxes(image, "rootless", log) as boxes, boxes.start(limits, folder) as session:
        yield session


def is_root_folder(image: str) -> bool:
    """The image is named as a folder of this machine: by a path that no Docker image can have, or bash is in it."""
    return image.startswith(("/", ".", "~")) or os.path.lexists(Path(image, "bin/bash"))


def _checked(root: Path) -> Path:
    """The folder, whole. Raises `InputError` where a box could not start on it."""
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise InputError(f"--image {root}: no such folder")
    if not (root / "bin/bash").exists():
        raise InputError(f"--image {root}: no root file system with /bin/bash, which a box needs; install bash in it")
    if missing := [name for name in ("proc", "dev") if not (root / name).is_dir()]:
        raise InputError(f"--image {root}: a box is mounted on folders that are not there: mkdir {' '.join(missing)}")
    return root


def _read_image(image: str) -> tuple[Image, str]:
    """What the daemon knows of an image; and shell lines that give a shell its environment and working directory."""
    client = connect_docker()
    try:
        found = client.images.get(image)
    except NotFound:
        raise InputError(f"--image {image}: the Docker daemon has no such image; docker pull it first") from None
    except APIError as error:
        raise InputError(f"--image {image}: {short_error(error)}") from None
    finally:
        client.close()
    config = found.attrs["Config"] or {}
    exports = [f"export {shlex.quote(each)}" for each in config.get("Env") or ()]
    return found, "\n".join([*exports, f"cd {shlex.quote(config.get('WorkingDir') or '/')}"])


def _unpacked(image: str, found: Image, log: Callable[[str], None]) -> Path:
    """The image's root file system in the cache, by the image's id; unpacked there the first time."""
    name = f"image-{str(found.id).rpartition(':')[2][:12]}"
    folder = cache_folder() / name
    with lock_build(name, log):
        if not folder.exists():
            log(f"exporting {image} ({found.attrs['Size'] >> 20} MiB), once, to {folder}; remove it when you like")
            _unpack(image, folder)
    return folder / "root"


def _unpack(image: str, folder: Path) -> None:
    """Makes `folder/root`, whole or not at all."""
    part = folder.with_name(f"{folder.name}.part")
    remove_tree(part)
    part.mkdir(mode=0o700)  # programs in there have the set-user-id bit
    try:
        root = part / "root"
        root.mkdir()
        root.chmod(0o755)
        export_image(image, root)
        if not (root / "bin/bash").exists():
            raise InputError(f"--image {image}: it has no /bin/bash, which a box needs; install bash in it")
        finish_rootfs(root)
        part.rename(folder)
    except BaseException:
        remove_tree(part)
        raise


def _prepare(session: BoxSession, setup: str, folder: Path | None) -> None:
    """Sets the shell up and copies the folder in, before anything is watched."""
    if folder is not None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(folder, arcname=".", filter=_owned_by_root)
        try:
            session.write_file(_ARCHIVE, archive.getvalue(), mode=0o600)
        except OSError as error:
            fix = "; pass a larger --disk" if error.errno == errno.ENOSPC else ""
            raise InputError(f"--folder {folder}: {error.strerror} in the box{fix}") from None
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
