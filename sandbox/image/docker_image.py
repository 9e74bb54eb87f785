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

from devnull.sandbox.cache import lock_build
from devnull.sandbox.docker_client import connect_docker, short_error
from devnull.sandbox.errors import HostDiskFull, ImageBuildFailed, ImageMissing
from devnull.sandbox.image.host_tools import run_host_tool
from devnull.sandbox.image.recipe import image_tag, pack_context, recipe_files

DEBIAN_SUITE = "bookworm"
_BASE = "debian:bookworm-slim"
_HOMEMADE_BASE = "devnull-base:bookworm"
DOCKER_SECONDS = 600
"""That one request may take: a build says nothing for minutes."""


def find_image() -> str | None:
    """Id of this recipe's task image, `None` if it is not built. Raises `RuntimeUnavailable`."""
    try:
        return str(connect_docker(DOCKER_SECONDS).images.get(image_tag()).id)
    except ImageNotFound:
        return None


def ensure_image(log: Callable[[str], None]) -> str:
    """Id of the task image, built first if it is missing; `log` gets a line for each step.

    Raises `RuntimeUnavailable`, `ImageMissing`, `ImageBuildFailed` or `HostDiskFull`.
    """
    if image := find_image():
        return image
    with lock_build("image", log):
        return find_image() or build_image(log)


def build_image(log: Callable[[str], None]) -> str:
    """Builds the image from the recipe, whether or not there is one; returns its id. Raises as `ensure_image`."""
    client = connect_docker(DOCKER_SECONDS)
    tag = image_tag()
    base = _ensure_base(client, log)
    log(f"building {tag} from {base}")
    _run_build(client, pack_context(recipe_files()), tag, {"BASE": base}, log)
    return str(client.images.get(tag).id)


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
    """A Debian image to build on: there already, pulled, or made here with mmdebstrap or debootstrap."""
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
    with tempfile.TemporaryDirectory(prefix="devnull-base-") as scratch:
        archive = Path(scratch, "base.tar")
        if shutil.which("mmdebstrap"):
            run_host_tool(["mmdebstrap", "--variant=minbase", DEBIAN_SUITE, str(archive)])
        elif shutil.which("debootstrap") and os.geteuid() == 0:
            run_host_tool(["debootstrap", "--variant=minbase", DEBIAN_SUITE, f"{scratch}/root"])
            run_host_tool(["tar", "-C", f"{scratch}/root", "-cf", str(archive), "."])
        else:
            raise ImageMissing(
                f"docker: {_BASE} cannot be pulled, and nothing here can make it; "
                "run `apt-get install -y mmdebstrap`, then this again"
            )
        log(f"importing {_HOMEMADE_BASE}")
        repository, name = _HOMEMADE_BASE.split(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=name)
    return _HOMEMADE_BASE
