"""Which disk is full, when a library's error does not say."""

import dataclasses
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devnull.sandbox.cache import cache_folder

_FULL = (errno.ENOSPC, errno.EDQUOT)


def find_full_disk(error: BaseException, args: Any) -> Path | str | None:
    """The file that found no space, or the fullest disk that a command with these arguments writes to.

    `None` where the error, and what caused it, is another one. Libraries that write weights put the system's error into
    the text of their own.
    """
    causes = [*_causes(error)]
    for each in causes:
        if isinstance(each, OSError) and each.errno in _FULL and each.filename is not None:
            return str(each.filename)
    full = [os.strerror(number) for number in _FULL]
    if not any((isinstance(e, OSError) and e.errno in _FULL) or any(text in str(e) for text in full) for e in causes):
        return None
    written = [*_paths(args), Path.cwd(), Path(tempfile.gettempdir()), cache_folder(), *_regular_stdout()]
    return min(map(_existing, written), key=_free_bytes)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _paths(value: Any) -> Iterator[Path]:
    """All paths among a command's arguments."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _paths(each)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _paths([getattr(value, field.name) for field in dataclasses.fields(value)])


def _regular_stdout() -> Iterator[Path]:
    """The file that stdout was sent to, if it was."""
    path = Path("/proc/self/fd/1")
    if path.is_file():
        yield path.resolve()


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _free_bytes(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
