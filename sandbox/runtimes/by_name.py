"""Opens a runtime by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from devnull.sandbox.errors import InfrastructureError, InputError, RuntimeUnavailable
from devnull.sandbox.image.manifest import NO_MANIFEST
from devnull.sandbox.runtime import Runtime

RuntimeName = Literal["auto", "docker", "rootless", "remembered"]
"""As commands take it; `fake`, for tests, is one more."""


def open_runtime(
    name: str = "auto",
    log: Callable[[str], None] = lambda line: None,
    *,
    remember: bool = False,
    memory: Path | None = None,
) -> Runtime:
    """The runtime of that name, its image or root file system built first if it is missing.

    Args:
        name: `docker`, `rootless` or `fake`; `auto`: docker where a daemon answers, else rootless; `remembered`:
            the same with `remember`, and without any box where none can be had here.
        log: Gets a line for each step of a build.
        remember: Make a box only for what is not remembered, and remember what it says.
        memory: The file of what is remembered; without one it ends with the runtime.

    Raises:
        InputError: There is no runtime of that name, or `memory` is no such file.
        InfrastructureError: The runtime cannot be had here; the message names the fix.
    """
    if remember or name == "remembered":
        return _open_remembered(name, log, memory)
    if name == "auto":
        return _open_auto(log)
    if name == "docker":
        from devnull.sandbox.image.docker_image import ensure_image, image_manifest
        from devnull.sandbox.runtimes.docker import DockerRuntime

        image = ensure_image(log)
        return DockerRuntime(image, manifest=image_manifest(image))
    if name == "rootless":
        from devnull.sandbox.image.rootfs import ensure_rootfs, rootfs_manifest
        from devnull.sandbox.runtimes.rootless import RootlessRuntime

        rootfs = ensure_rootfs(log)
        return RootlessRuntime(rootfs, manifest=rootfs_manifest(rootfs))
    if name == "fake":
        from devnull.sandbox.runtimes.fake import FakeRuntime

        return FakeRuntime()
    raise InputError(f"no runtime {name!r}: auto, docker, rootless, remembered or fake")


def _open_auto(log: Callable[[str], None]) -> Runtime:
    from devnull.sandbox.docker_client import connect_docker

    try:
        connect_docker().close()
    except RuntimeUnavailable:
        log("no Docker daemon answers: boxes are rootless")
        return open_runtime("rootless", log)
    return open_runtime("docker", log)


def _open_remembered(name: str, log: Callable[[str], None], file: Path | None) -> Runtime:
    from devnull.sandbox.runtimes.remembered import RememberedRuntime
    from devnull.sandbox.runtimes.world_memory import WorldMemory

    if name == "fake":
        raise InputError("fake boxes are the host itself, which changes: they cannot be remembered")
    memory = WorldMemory(file)
    try:
        boxes = open_runtime("auto" if name == "remembered" else name, log)
    except InfrastructureError as error:
        if name != "remembered":
            raise
        return RememberedRuntime(error, memory)
    return RememberedRuntime(boxes, memory, getattr(boxes, "manifest", NO_MANIFEST))
