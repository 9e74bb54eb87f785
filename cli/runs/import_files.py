"""Files that an import names: themselves, those of a folder, those of a pattern."""

import glob
from collections.abc import Sequence
from pathlib import Path

from devnull.sandbox.errors import InputError

_ENDINGS = {".json", ".jsonl", ".traj", ".eval", ".cast", ".parquet"}
"""Endings of transcripts, by which they are looked for in folders."""


def find_files(names: Sequence[str]) -> list[Path]:
    """The files that are named, each once, in the order of the names; those of folders and patterns sorted.

    Raises `InputError` for a name that is nothing, and for a folder or pattern without a file that can be a transcript.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            chosen = sorted(file for file in path.rglob("*") if file.suffix in _ENDINGS and _is_ours(file))
        elif path.exists():
            chosen = [path]
        elif glob.has_magic(name):
            # Path.glob takes no pattern that begins at the root
            chosen = sorted(file for file in map(Path, glob.glob(name, recursive=True)) if file.is_file())  # noqa: PTH207
        else:
            raise InputError(f"{name}: no such file")
        if not chosen:
            raise InputError(f"{name}: no transcript there; looked for {', '.join(sorted(_ENDINGS))}")
        found |= dict.fromkeys(chosen)
    return list(found)


def _is_ours(file: Path) -> bool:
    """A regular file; links to folders elsewhere are not followed, nor are hidden files read."""
    return file.is_file() and not any(part.startswith(".") for part in file.parts[-2:])
