"""`devnull` and `python -m devnull`: sees that the package is whole, then hands over to the command line."""

import sys
from pathlib import Path

ROOMS = ("sandbox", "agents", "theory", "rewards", "training", "eval", "cli")
HERE = Path(__file__).parent


def run() -> int:
    """The console script."""
    complaint = _incomplete() or _foreign()
    if complaint:
        print(f"devnull: {complaint}", file=sys.stderr)
        return 1
    from devnull.cli.main import run

    return run()


def _incomplete() -> str | None:
    """A checkout without its links (an archive, a file system that has none) lacks the rooms."""
    missing = [room for room in ROOMS if not (HERE / room / "__init__.py").is_file()]
    if not missing:
        return None
    return (
        f"{HERE} lacks {', '.join(missing)}: these are symbolic links of the checkout and were lost on the way here; "
        f"clone it anew with `git -c core.symlinks=true clone`, or install it: pip install --force-reinstall devnull"
    )


def _foreign() -> str | None:
    """Another distribution's `devnull` that comes first on the path, or was installed over this one."""
    import devnull

    here = Path(devnull.__file__).resolve().parent if devnull.__file__ else None
    if here == HERE.resolve() and hasattr(devnull, "__version__"):
        return None
    return (
        f"another package named devnull lies at {here}; this one is at {HERE}: "
        f"pip uninstall the other, or use a virtual environment of its own"
    )


if __name__ == "__main__":
    sys.exit(run())
