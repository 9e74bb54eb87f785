"""Files that are replaced in one step: a reader meets the old one or the new, and a full disk costs neither."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_when_whole(path: Path) -> Iterator[Path]:
    """Yields the path of a file to write beside `path`, of the same ending; it becomes `path` when the block ends well.
    Folders that are missing are made.

    Otherwise it is removed, and `path` is as it was. An `OSError` that names no file gets the name of `path`, so that a
    full disk can be told from another. What is no regular file (`/dev/stdout`, a named pipe) is written as it is.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and (error.filename is None or error.filename == str(part)):
            error.filename = str(path)
        raise


def write_atomically(path: Path, data: str | bytes) -> None:
    """Writes or replaces a file, text as UTF-8, as `replace_when_whole` does. Raises `OSError` with the file's name."""
    with replace_when_whole(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
