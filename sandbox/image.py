"""Builds and finds the task image, and its root file system for boxes without Docker.

Both come from one recipe (`Dockerfile`, `sandbox/box/`): an image `devnull-task:<digest>` where a
daemon answers, and a folder `rootfs-<digest>` that is exported from it, or made by mmdebstrap.
"""

import contextlib
import fcntl
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import docker
from docker.errors import APIError, DockerException, ImageNotFound

from devnull.sandbox import recipe
from devnull.sandbox.errors import HostDiskFull, ImageMissing, InfrastructureError, RuntimeUnavailable
from devnull.sandbox.manifest import EMPTY, Manifest
from devnull.sandbox.task import BUILDS

Say = Callable[[str], None]
_BASE = "debian:bookworm-slim"
_HOMEMADE_BASE = "devnull-base:bookworm"
_SUITE = "bookworm"
_SUPERVISOR = "usr/lib/devnull/supervisor"


class ImageBuildFailed(InfrastructureError):
    """The recipe did not run through; the message ends with the builder's last lines."""


def connect() -> docker.DockerClient:
    """A client of the daemon of `DOCKER_HOST`. Raises `RuntimeUnavailable`."""
    try:
        client = docker.from_env(timeout=600)
        weakref.finalize(client, client.api.close)  # its connections end with it
        client.ping()
        return client
    except DockerException as error:
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        raise RuntimeUnavailable(
            f"docker: no daemon at {host} ({_short(error)}); start it, or pass --runtime rootless"
        ) from None


def find_image() -> str | None:
    """Id of this checkout's task image, `None` if it is not built. Raises `RuntimeUnavailable`."""
    try:
        return str(connect().images.get(recipe.tag()).id)
    except ImageNotFound:
        return None


def ensure_image(say: Say) -> str:
    """Id of the task image, built first if it is missing. Raises an `InfrastructureError` of its own kind."""
    if found := find_image():
        return found
    with _locked("image", say):
        return find_image() or build_image(say)


def build_image(say: Say) -> str:
    """Builds the image from the recipe, whether or not there is one; returns its id."""
    client = connect()
    tag = recipe.tag()
    base = _ensure_base(client, say)
    say(f"building {tag} from {base}")
    _run_build(client, recipe.pack_context(recipe.recipe()), tag, {"BASE": base}, say)
    return str(client.images.get(tag).id)


def _run_build(client: docker.DockerClient, context: Any, tag: str, arguments: dict[str, str], say: Say) -> None:
    """One build of a packed context. Says its steps; raises with the builder's last lines if it fails."""
    last: list[str] = []
    try:
        events = client.api.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            buildargs=arguments,
            rm=True,
            forcerm=True,
            decode=True,
            use_config_proxy=True,
        )
        for event in events:
            if "error" in event:
                fail_build(event["error"], last)
            for line in event.get("stream", "").splitlines():
                if line.startswith("Step "):
                    say(line)
                if line.strip():
                    last = [*last[-14:], line]
    except APIError as error:
        fail_build(_short(error), last)


def fail_build(error: str, last: list[str]) -> None:
    text = "\n".join(last)
    if "no space left on device" in (error + text).lower():
        raise HostDiskFull(
            "docker: no space left on the daemon's disk while building the task image; "
            "free some (`devnull image prune`, `docker system prune`) and run it again"
        )
    raise ImageBuildFailed(f"the task image did not build: {error.strip()}\n{text}")


def _ensure_base(client: docker.DockerClient, say: Say) -> str:
    """A Debian image to build on: there already, pulled, or made here with mmdebstrap or debootstrap."""
    for name in (_BASE, _HOMEMADE_BASE):
        with contextlib.suppress(ImageNotFound):
            client.images.get(name)
            return name
    try:
        say(f"pulling {_BASE}")
        client.images.pull(_BASE)
        return _BASE
    except APIError as error:
        say(f"{_BASE} cannot be pulled ({_short(error)}); making one")
    with tempfile.TemporaryDirectory(prefix="devnull-base-") as scratch:
        archive = Path(scratch, "base.tar")
        if shutil.which("mmdebstrap"):
            _run_tool(["mmdebstrap", "--variant=minbase", _SUITE, str(archive)], say)
        elif shutil.which("debootstrap") and os.geteuid() == 0:
            _run_tool(["debootstrap", "--variant=minbase", _SUITE, f"{scratch}/root"], say)
            _run_tool(["tar", "-C", f"{scratch}/root", "-cf", str(archive), "."], say)
        else:
            raise ImageMissing(
                f"docker: {_BASE} cannot be pulled, and nothing here can make it; "
                "run `apt-get install -y mmdebstrap`, then this again"
            )
        say(f"importing {_HOMEMADE_BASE}")
        repository, name = _HOMEMADE_BASE.split(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=name)
    return _HOMEMADE_BASE


def ensure_rootfs(say: Say) -> Path:
    """Folder of the image's root file system, made first if it is missing: exported where Docker has
    or can build the image, else by mmdebstrap. Raises an `InfrastructureError` of its own kind."""
    folder = recipe.rootfs_folder()
    if folder.is_dir():
        return folder
    with _locked("rootfs", say):
        if folder.is_dir():
            return folder
        part = folder.with_name(f"{folder.name}.part")
        remove_tree(part)
        part.mkdir()
        try:
            if _docker_answers():
                _export_image(ensure_image(say), part, say)
            else:
                _make_rootfs(part, say)
            part.rename(folder)
        except BaseException:
            remove_tree(part)
            raise
    return folder


def _docker_answers() -> bool:
    try:
        connect()
    except RuntimeUnavailable:
        return False
    return True


def _export_image(image: str, folder: Path, say: Say) -> None:
    """Unpacks the image's file system into `folder`; as an ordinary user all of it belongs to the user."""
    say(f"unpacking the task image into {folder.parent}")
    container = connect().containers.create(image, labels={recipe.LABEL: "export"}, network_mode="none")
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
            _fail_tool("tar", complaints.decode(errors="replace"))
    finally:
        container.remove(force=True)


def _make_rootfs(folder: Path, say: Say) -> None:
    """The recipe without Docker: mmdebstrap, as root or as a user with subordinate ids."""
    if not shutil.which("mmdebstrap"):
        raise ImageMissing(
            "no Docker daemon to export the task image from, and no mmdebstrap to make its files; "
            "run `apt-get install -y mmdebstrap uidmap`, then this again"
        )
    with tempfile.TemporaryDirectory(prefix="devnull-recipe-") as scratch:
        Path(scratch).chmod(0o755)
        archive, context = Path(scratch, "rootfs.tar"), Path(scratch, "context.tar")
        context.write_bytes(recipe.pack_context(recipe.recipe()).getvalue())
        say("making the box's files with mmdebstrap (a few minutes)")
        steps = (
            'mkdir "$1/tmp/recipe"',
            f'tar -x --no-same-owner -C "$1/tmp/recipe" -f {context}',
            'chroot "$1" sh /tmp/recipe/sandbox/box/base.sh /tmp/recipe/sandbox/corpus/packages.txt',
            # base.sh empties /tmp, as the last thing that leaves traces there
            'mkdir "$1/tmp/recipe"',
            f'tar -x --no-same-owner -C "$1/tmp/recipe" -f {context}',
            'chroot "$1" make -C /tmp/recipe/sandbox/native',
            f'install -D "$1/tmp/recipe/sandbox/native/build/supervisor" "$1/{_SUPERVISOR}"',
            'chroot "$1" python3 /tmp/recipe/sandbox/box/families.py /tmp/recipe/sandbox/corpus /srv/builds.tar',
            'rm -rf "$1/tmp/recipe"',
        )
        hooks = [f"--customize-hook={step}" for step in steps]
        _run_tool(["mmdebstrap", "--variant=minbase", *hooks, _SUITE, str(archive)], say)
        owner = [] if os.geteuid() == 0 else ["--no-same-owner"]
        _run_tool(["tar", "-x", "-C", str(folder), "--exclude=./dev/*", *owner, "-f", str(archive)], say)


@cache
def manifest() -> Manifest:
    """What this checkout's image recorded; empty where neither image nor root file system is built."""
    kept = recipe.manifest_file()
    if not kept.exists():
        data = _read_manifest()
        if data is None:
            return EMPTY
        part = kept.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(data)
        part.rename(kept)
    return Manifest.parse(kept.read_bytes())


def _read_manifest() -> bytes | None:
    """The manifest as it lies in the image."""
    if (file := recipe.rootfs_folder() / BUILDS.lstrip("/")).exists():
        with tarfile.open(file) as builds:
            return _member(builds, "manifest.json")
    try:
        container = connect().containers.create(recipe.tag(), labels={recipe.LABEL: "export"}, network_mode="none")
    except (RuntimeUnavailable, ImageNotFound):
        return None
    try:
        stream, _ = container.get_archive(BUILDS)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            packed = _member(archive, Path(BUILDS).name)
        with tarfile.open(fileobj=io.BytesIO(packed)) as builds:
            return _member(builds, "manifest.json")
    finally:
        container.remove(force=True)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ImageBuildFailed(f"the task image holds no {name}; build it again: devnull image build")
    return file.read()


def _run_tool(command: list[str], say: Say) -> None:
    """Runs one host tool to its end. Raises with its last lines if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        _fail_tool(command[0], done.stderr or done.stdout)


def _fail_tool(tool: str, output: str) -> None:
    if "no space left on device" in output.lower():
        raise HostDiskFull(f"{tool}: no space left in {recipe.cache_folder()} or /tmp; free some and run it again")
    raise ImageBuildFailed(f"{tool} failed:\n" + "\n".join(output.strip().splitlines()[-15:]))


@contextlib.contextmanager
def _locked(name: str, say: Say) -> Iterator[None]:
    """One process at a time builds; the others wait and find it built."""
    with (recipe.cache_folder() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that builds the {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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


def _short(error: Exception) -> str:
    """The last, most telling part of a library's error, in one line."""
    text = str(getattr(error, "explanation", None) or error)
    return " ".join(text.split())[-160:]
