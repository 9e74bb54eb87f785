"""Finds the supervisor, and builds it in the user's cache where there is a compiler."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from devnull.sandbox.errors import RuntimeUnavailable
from devnull.sandbox.recipe import cache_folder, digest_of

NATIVE = Path(__file__).parent / "native"


def find_supervisor() -> Path:
    """The static program of these sources, made first if it is not there; its folder is named by their digest.

    Raises `RuntimeUnavailable` without a compiler.
    """
    sources = {path.name: path for path in sorted([*NATIVE.glob("*.[ch]"), NATIVE / "Makefile"])}
    folder = cache_folder() / f"supervisor-{digest_of(sources)}"
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
