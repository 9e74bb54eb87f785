"""The user's cache, `$XDG_CACHE_HOME/devnull`: root file systems, manifests, the supervisor, models."""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/devnull`, by default `~/.cache/devnull`; made if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "devnull"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest_files(files: dict[str, Path]) -> str:
    """12 hex digits over names, contents and executable bits: names in the cache what is made of these files."""
    total = hashlib.sha256()
    for name, path in files.items():
        data = path.read_bytes()
        executable = bool(path.stat().st_mode & 0o100)
        total.update(f"{name}\0{len(data)}\0{executable}\0".encode() + data)
    return total.hexdigest()[:12]


@contextlib.contextmanager
def lock_build(name: str, log: Callable[[str], None], folder: Path | None = None) -> Iterator[None]:
    """One process at a time builds the thing of that name; the others wait (`log` gets a line) and find it built.

    A file system without locks is let pass.

    Args:
        folder: Where the thing lies, and the lock beside it; by default the user's cache.
    """
    with ((folder or cache_folder()) / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"waiting for another process that builds the {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield
