"""Opens a runtime by its name."""

from collections.abc import Callable

from devnull.sandbox.errors import InputError, RuntimeUnavailable
from devnull.sandbox.runtime import Runtime


def open_runtime(name: str = "auto", log: Callable[[str], None] = lambda line: None) -> Runtime:
    """The runtime of that name, its image or root file system built first if it is missing.

    Args:
        name: `docker`, `rootless` or `fake`; `auto`: docker where a daemon answers, else rootless.
        log: Gets a line for each step of a build.

    Raises:
        InputError: There is no runtime of that name.
        InfrastructureError: The runtime cannot be had here; the message names the fix.
    """
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
    raise InputError(f"no runtime {name!r}: auto, docker, rootless or fake")


def _open_auto(log: Callable[[str], None]) -> Runtime:
    from devnull.sandbox.docker_client import connect_docker

    try:
        connect_docker().close()
    except RuntimeUnavailable as error:
        log(f"{error}; going on rootless")
        return open_runtime("rootless", log)
    return open_runtime("docker", log)
