"""Where this process may make memory cgroups (version 2): a rootless box then has one of its own."""

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

_PREFIX = "devnull-"
"""Of a box's cgroup; its launcher's process id follows (`native/cgroup.c`)."""


@cache
def find_memory_cgroup(proc: Path = Path("/proc/self")) -> Path | None:
    """The nearest folder, from this process's own cgroup upwards, in which a new one can bound memory.

    `None` where there is none: cgroups of version 1, an ordinary user outside a delegated cgroup, a container whose
    cgroups are read-only. Removes the cgroups that killed launchers have left there.
    """
    for folder in own_folders(proc):
        if _can_make(folder):
            _remove_left(folder)
            return folder
    return None


def own_folders(proc: Path) -> Iterator[Path]:
    """The process's own cgroup and all above it, as far as they are mounted here."""
    with contextlib.suppress(OSError, ValueError):  # no cgroups, or a path outside of what is mounted
        (path,) = [line[3:] for line in (proc / "cgroup").read_text().splitlines() if line.startswith("0::")]
        for mount in (proc / "mountinfo").read_text().splitlines():
            _, _, _, root, point, *_, kind, _, _ = mount.split(" ")
            if kind == "cgroup2":
                below = PurePosixPath(path).relative_to(root)
                yield from (Path(point, part) for part in (below, *below.parents))


def _can_make(folder: Path) -> bool:
    """Whether a cgroup made in `folder` bounds memory, and processes may be born there."""
    part = folder / f"{_PREFIX}{os.getpid()}-try"
    if not os.access(folder / "cgroup.procs", os.W_OK):
        return False
    try:
        part.mkdir()
    except OSError:
        return False
    bounds = (part / "memory.max").exists()
    part.rmdir()
    return bounds


def _remove_left(folder: Path) -> None:
    for part in folder.glob(f"{_PREFIX}*"):
        if not Path("/proc", part.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            with contextlib.suppress(OSError):  # in use all the same: by a process of another pid namespace
                part.rmdir()
