"""Picks a runtime by name."""

from collections.abc import Callable
from typing import Literal

from devnull.sandbox.errors import InputError, RuntimeUnavailable
from devnull.sandbox.runtime import Runtime

RuntimeName = Literal["auto", "docker", "rootless", "fake"]


def open_runtime(name: str = "auto", say: Callable[[str], None] = lambda line: None) -> Runtime:
    """The runtime of that name, its image or root file system built first if it is missing (`say` hears of it).

    `auto`: docker where a daemon answers, else rootless. Raises `InputError` for another name, an
    `InfrastructureError` with the fix if the runtime cannot be had.
    """
    if name == "auto":
        return _open_auto(say)
    if name == "docker":
        from devnull.sandbox.image import ensure_image
        from devnull.sandbox.runtime_docker import DockerRuntime

        return DockerRuntime(ensure_image(say))
    if name == "rootless":
        from devnull.sandbox.image import ensure_rootfs
        from devnull.sandbox.runtime_rootless import RootlessRuntime

        return RootlessRuntime(ensure_rootfs(say))
    if name == "fake":
        from devnull.sandbox.runtime_fake import FakeRuntime

        return FakeRuntime()
    raise InputError(f"no runtime {name!r}: auto, docker, rootless or fake")


def _open_auto(say: Callable[[str], None]) -> Runtime:
    """Docker where a daemon answers, else rootless."""
    from devnull.sandbox.runtime_docker import connect

    try:
        connect().close()
    except RuntimeUnavailable as error:
        say(f"{error}; going on rootless")
        return open_runtime("rootless", say)
    return open_runtime("docker", say)
