"""What memory a process can still have."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""By version of cgroups: the limit, what is used, and what `memory.stat` calls cached files that can go."""


def free_bytes(device: torch.device) -> int:
    """On a GPU also what torch keeps for it without using it; on a CPU no more than the process's cgroups leave, which
    are a container's or a batch job's limit. Without end where the system does not say."""
    if device.type != "cuda":
        return min(
            [_available(Path("/proc/meminfo")), *cgroups_leave(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
        )
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free: int = torch.cuda.mem_get_info(device)[0]
    return free + int(kept)


def _available(meminfo: Path) -> int:
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return 1024 * int(found[1]) if found else sys.maxsize


def cgroups_leave(membership: Path, mount: Path) -> Iterator[int]:
    """Bytes that each limited cgroup of the process, and each above it, still leaves.

    Args:
        membership: `/proc/self/cgroup`.
        mount: `/sys/fs/cgroup`.
    """
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version, root = (1, mount / "memory") if controllers else (2, mount)
        limit_file, used_file, cached = _FILES[version]
        own = Path(path.lstrip("/"))  # in a container often that of the host, which is not mounted there: its root is
        for folder in (root / own, *(root / parent for parent in own.parents)):
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                yield max(0, limit - used + (_number(folder / "memory.stat", f"{cached} ") or 0))


def _number(file: Path, before: str = "") -> int | None:
    """The number in a file's line that begins so; `None` for no such file or line, and for no limit."""
    try:
        found = re.search(rf"^{before}(\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
