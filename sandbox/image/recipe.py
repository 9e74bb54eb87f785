"""What the task image is made of, and where it is kept. The digest of the recipe names the image."""

import io
import tarfile
from functools import cache
from pathlib import Path

from devnull.sandbox.cache import cache_folder, digest_files
from devnull.sandbox.errors import InputError
from devnull.sandbox.tasks import family_files

_SANDBOX = Path(__file__).parent.parent
_REPOSITORY = "devnull-task"
_GLOBS = ("native/Makefile", "native/*.[ch]", "box/*.sh", "box/*.py", "corpus/packages.txt", "corpus/pack.py")
"""Files of this package that the build context holds under `sandbox/`, but for the families; `.dockerignore` lets the
same files through."""


def recipe_files() -> dict[str, Path]:
    """The files of the build context by their name in it, sorted.

    A family of tasks is a folder beside its TOML; those of `DEVNULL_TASKS` are put beside the corpus's own. Raises
    `InputError` for a family without `build.sh`.
    """
    files = {"Dockerfile": _SANDBOX / "Dockerfile"}
    files |= {f"sandbox/{path.relative_to(_SANDBOX)}": path for pattern in _GLOBS for path in _SANDBOX.glob(pattern)}
    for toml in family_files():
        folder = toml.with_suffix("")
        if not (folder / "build.sh").is_file():
            raise InputError(f"{toml}: its packages have no sources: {folder}/build.sh is missing (docs/tasks.md)")
        files |= {f"sandbox/corpus/{path.relative_to(folder.parent)}": path for path in folder.rglob("*")}
    return {name: path for name, path in sorted(files.items()) if path.is_file() and path.suffix != ".pyc"}


@cache
def _recipe_digest() -> str:
    """Of this installation's recipe, read once in a process: what runs together uses one image."""
    return digest_files(recipe_files())


def image_tag() -> str:
    """`devnull-task:DIGEST`: the name of the Docker image of this recipe."""
    return f"{_REPOSITORY}:{_recipe_digest()}"


def rootfs_folder() -> Path:
    """Where the root file system of this recipe and its manifest lie once they are made (`rootfs.py`)."""
    return cache_folder() / f"rootfs-{_recipe_digest()}"


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
