"""How a command makes its boxes, as its options say."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devnull.cli.terminal.progress import print_progress
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.runtimes.world_memory import WORLD_FILE

MEMORY_OPTIONS = ("remember", "memory")
"""Where results come from, not what they are: a run may go on with others."""


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Whether a command remembers what boxes say; a base of its `Args`."""

    remember: bool = False
    """Make a box only for what no two boxes have said yet, and answer the rest from memory (docs/remembered.md)."""
    memory: Path | None = None
    """The file of what is remembered, which several runs may share; by default RUN/world.jsonl. Implies --remember."""


def open_boxes(runtime: str, options: MemoryOptions, run: Path, log: Callable[[str], None] = print_progress) -> Runtime:
    """The runtime of that name, remembered as `options` say, by default in a file of the run folder.

    Args:
        log: Gets what there is to say of the choice, and of a build.

    Raises as `open_runtime` does.
    """
    return open_runtime(
        runtime,
        log,
        remember=options.remember or options.memory is not None,
        memory=options.memory or run / WORLD_FILE,
    )
