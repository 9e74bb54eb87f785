"""One process writes to a run folder at a time: a lock that ends with its holder, however that one ends."""

import contextlib
import errno
import fcntl
import os
import platform
import sys
import time
from pathlib import Path

from devnull.sandbox.errors import InputError

_held: dict[tuple[int, int], int] = {}
"""Descriptors of the locks of this process, by device and inode: it may open a folder that it holds again."""


def lock_folder(folder: Path, name: str = "", option: str = "--out") -> None:
    """Holds `folder` for writing until this process ends.

    Args:
        name: Of a part of the folder that is written alone, beside its other parts.
        option: What names another folder.

    Raises `InputError` with who holds it, where another process does. A file system without locks is let pass.
    """
    path = folder / f".lock{name and '-'}{name}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) in _held:
        os.close(descriptor)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return
        raise InputError(
            f"{folder} is being written by {holder or 'another process'}; wait for it, or pass another {option}"
        ) from None
    since = time.strftime("%H:%M:%S", time.localtime())
    command = " ".join(["devnull", *sys.argv[1:4]])
    holder = f"process {os.getpid()} on {platform.node()} since {since} ({command} ...)"
    with contextlib.suppress(OSError):  # on a full disk the lock holds without a name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
    _held[status.st_dev, status.st_ino] = descriptor
