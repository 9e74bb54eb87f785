"""Finds the supervisor, and builds it in the user's cache where there is a compiler."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from devnull.sandbox.cache import cache_folder, digest_files
from devnull.sandbox.errors import RuntimeUnavailable

NATIVE = Path(__file__).parent / "native"
"""The supervisor's sources and their Makefile."""
SUPERVISOR_IN_IMAGE = "/usr/lib/devnull/supervisor"
"""Where the task image and its root file system hold the program."""


def supervisor_folder() -> Path:
    """Where the program of these sources is kept, whether or not it is built; named by their digest."""
    sources = {path.name: path for path in sorted([*NATIVE.glob("*.[ch]"), NATIVE / "Makefile"])}
    return cache_folder() / f"supervisor-{digest_files(sources)}"


def find_supervisor() -> Path:
    """The static program of these sources, made first if it is not there.

    Raises `RuntimeUnavailable` without a compiler.
    """
    folder = supervisor_folder()
    program = folder / "supervisor"
    if program.exists():
        return program
    if shutil.which("make") is None or shutil.which("gcc") is None:
        raise RuntimeUnavailable(
            f"no supervisor at {program}, and no compiler to make one: install gcc and make, "
            "or take the one inside the image: devnull image export"
        )
    with tempfile.TemporaryDirectory(prefix="supervisor-", dir=cache_folder()) as part:
        made = subprocess.run(["make", "-s", "-C", str(NATIVE), f"OUT={part}"], capture_output=True, text=True)
        if made.returncode:
            raise RuntimeUnavailable(f"make -C {NATIVE} failed: {made.stderr.strip()[-500:]}")
        folder.mkdir(exist_ok=True)
        Path(part, "supervisor").replace(program)
    return program
