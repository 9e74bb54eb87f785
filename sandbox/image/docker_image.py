"""Builds and finds the task image, `devnull-task:DIGEST`, in the Docker daemon."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from devnull.sandbox.cache import cache_folder, lock_build
from devnull.sandbox.docker_client import connect_docker, short_error
from devnull.sandbox.errors import HostDiskFull, ImageBuildFailed, ImageMissing
from devnull.sandbox.image.acceptance import accept_image, read_manifest
from devnull.sandbox.image.host_tools import DEBIAN_SUITE, run_mmdebstrap
from devnull.sandbox.image.manifest import Manifest
from devnull.sandbox.image.recipe import image_tag, pack_context, recipe_files
from devnull.sandbox.runtimes.docker import DockerRuntime

_BASE = f"debian:{DEBIAN_SUITE}-slim"
_HOMEMADE_BASE = f"devnull-base:{DEBIAN_SUITE}"
DOCKER_SECONDS = 600
"""That one request may take: a build says nothing for minutes."""


def find_image() -> str | None:
    """Id of this recipe's task image, `None` if it is not built. Raises `RuntimeUnavailable`."""
    try:
        return str(connect_docker(DOCKER_SECONDS).images.get(image_tag()).id)
    except ImageNotFound:
        return None


def ensure_image(log: Callable[[str], None], *, again: bool = False) -> str:
    """Id of the task image, built first if it is missing or `again` is set; `log` gets a line for each step.

    Raises `RuntimeUnavailable`, `ImageMissing`, `ImageBuildFailed` or `HostDiskFull`.
    """
    if not again and (image := find_image()):
        return image
    with lock_build("image", log):
        return (None if again else find_image()) or _build_image(log)


def _build_image(log: Callable[[str], None]) -> str:
    """Builds the image from the recipe; returns its id. It is tagged once `accept_image` has tried it, never before."""
    client = connect_docker(DOCKER_SECONDS)
    tag = image_tag()
    base = _ensure_base(client, log)
    log(f"building {tag} from {base}")
    untried = f"{tag}-untried"
    try:
        _run_build(client, pack_context(recipe_files()), untried, {"BASE": base}, log)
        image = client.images.get(untried)
        name = str(image.id)
        _keep_manifest(name, accept_image(lambda manifest: DockerRuntime(name, manifest=manifest), log))
        image.tag(*tag.split(":"))
    finally:
        with contextlib.suppress(ImageNotFound):
            client.images.remove(untried, force=True)
    return name


def image_manifest(image: str) -> Manifest:
    """The manifest of an image, by its id: as its build kept it, or read from the image, which cannot change."""
    if manifest_file(image).exists():
        return Manifest.parse(manifest_file(image).read_bytes())
    return _keep_manifest(image, read_manifest(DockerRuntime(image)))


def manifest_file(image: str) -> Path:
    """Where the manifest of the image of that id is kept."""
    return cache_folder() / f"manifest-{image.removeprefix('sha256:')[:12]}.json"


def _keep_manifest(image: str, manifest: Manifest) -> Manifest:
    part = manifest_file(image).with_suffix(f".{os.getpid()}.part")
    part.write_text(manifest.to_json())
    part.rename(manifest_file(image))
    return manifest


def _run_build(
    client: docker.DockerClient, context: Any, tag: str, arguments: dict[str, str], log: Callable[[str], None]
) -> None:
    """One build of a packed context. Logs its steps; raises with the builder's last lines if it fails."""
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
                raise build_error(event["error"], last)
            for line in event.get("stream", "").splitlines():
                if line.startswith("Step "):
                    log(line)
                if line.strip():
                    last = [*last[-14:], line]
    except APIError as error:
        raise build_error(short_error(error), last) from error


def build_error(error: str, last: list[str]) -> HostDiskFull | ImageBuildFailed:
    """The error for a build that failed, given the daemon's message and the builder's last lines."""
    text = "\n".join(last)
    if "no space left on device" in (error + text).lower():
        return HostDiskFull(
            "docker: no space left on the daemon's disk while building the task image; "
            "free some (`devnull image prune`, `docker system prune`) and run it again"
        )
    return ImageBuildFailed(f"the task image did not build: {error.strip()}\n{text}")


def _ensure_base(client: docker.DockerClient, log: Callable[[str], None]) -> str:
    """A Debian image to build on: there already, pulled, or made here with mmdebstrap."""
    for name in (_BASE, _HOMEMADE_BASE):
        with contextlib.suppress(ImageNotFound):
            client.images.get(name)
            return name
    try:
        log(f"pulling {_BASE}")
        client.images.pull(_BASE)
        return _BASE
    except APIError as error:
        log(f"{_BASE} cannot be pulled ({short_error(error)}); making one")
    if not shutil.which("mmdebstrap"):
        raise ImageMissing(
            f"docker: {_BASE} cannot be pulled, and nothing here can make it; "
            "run `apt-get install -y mmdebstrap`, then this again"
        )
    with tempfile.TemporaryDirectory(prefix="devnull-base-") as scratch:
        archive = Path(scratch, "base.tar")
        run_mmdebstrap(archive)
        log(f"importing {_HOMEMADE_BASE}")
        repository, name = _HOMEMADE_BASE.split(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=name)
    return _HOMEMADE_BASE
