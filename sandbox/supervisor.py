"""Finds the supervisor of this checkout, and builds it where there is a compiler."""

import shutil
import subprocess
from pathlib import Path

from sandbox.errors import RuntimeUnavailable

NATIVE = Path(__file__).parent / "native"


def find_supervisor() -> Path:
    """The static program `native/build/supervisor`, made first if its sources are newer.

    Raises `RuntimeUnavailable` without a compiler.
    """
    program = NATIVE / "build" / "supervisor"
    sources = [*NATIVE.glob("*.[ch]"), NATIVE / "Makefile"]
    if program.exists() and all(source.stat().st_mtime <= program.stat().st_mtime for source in sources):
        return program
    if shutil.which("make") is None or shutil.which("gcc") is None:
        if program.exists():
            return program
        raise RuntimeUnavailable(
            f"no supervisor at {program}, and no compiler to make one: install gcc and make, "
            "or take the one inside the image: devnull image export"
        )
    made = subprocess.run(["make", "-s", "-C", str(NATIVE)], capture_output=True, text=True)
    if made.returncode:
        raise RuntimeUnavailable(f"make -C {NATIVE} failed: {made.stderr.strip()[-500:]}")
    return program
