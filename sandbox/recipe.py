"""What the task image is made of, and where it is kept. The digest of the recipe names the image."""

import hashlib
import io
import os
import tarfile
from functools import cache
from pathlib import Path

from devnull.sandbox.errors import InputError
from devnull.sandbox.tasks import family_files

_SANDBOX = Path(__file__).parent
_REPOSITORY = "devnull-task"
LABEL = "org.devnull.image"
_GLOBS = ("native/Makefile", "native/*.[ch]", "box/*.sh", "box/*.py", "corpus/packages.txt", "corpus/pack.py")
"""Files of this package that the build context holds under `sandbox/`, but for the families; `.dockerignore` lets the
same files through."""


def recipe() -> dict[str, Path]:
    """The files of the build context by their name in it, sorted. A family is a folder beside its TOML;
    those of `DEVNULL_TASKS` are laid beside the corpus's own."""
    files = {"Dockerfile": _SANDBOX / "Dockerfile"}
    files |= {f"sandbox/{path.relative_to(_SANDBOX)}": path for pattern in _GLOBS for path in _SANDBOX.glob(pattern)}
    for toml in family_files():
        folder = toml.with_suffix("")
        if not (folder / "build.sh").is_file():
            raise InputError(f"{toml}: its packages have no sources: {folder}/build.sh is missing (docs/tasks.md)")
        files |= {f"sandbox/corpus/{path.relative_to(folder.parent)}": path for path in folder.rglob("*")}
    return {name: path for name, path in sorted(files.items()) if path.is_file() and path.suffix != ".pyc"}


def digest_of(files: dict[str, Path]) -> str:
    """12 hex digits over names, contents and executable bits."""
    total = hashlib.sha256()
    for name, path in files.items():
        data = path.read_bytes()
        executable = bool(path.stat().st_mode & 0o100)
        total.update(f"{name}\0{len(data)}\0{executable}\0".encode() + data)
    return total.hexdigest()[:12]


@cache
def _digest() -> str:
    """Of this checkout's recipe, read once in a process: what runs together uses one image."""
    return digest_of(recipe())


def tag() -> str:
    return f"{_REPOSITORY}:{_digest()}"


def pack_context(files: dict[str, Path]) -> io.BytesIO:
    """A tar of the context with fixed times, owners and modes, so that a builder's cache is hit in any checkout."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, path in files.items():
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            tar.addfile(entry, io.BytesIO(data))
    packed.seek(0)
    return packed


def cache_folder() -> Path:
    """Where exported root file systems and manifests are kept; made if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "devnull"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rootfs_folder() -> Path:
    return cache_folder() / f"rootfs-{_digest()}"


def manifest_file() -> Path:
    return cache_folder() / f"manifest-{_digest()}.json"
