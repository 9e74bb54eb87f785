"""`devnull` and `python -m devnull`: checks that this package is whole and alone, then runs the command line."""

import sys
from pathlib import Path

_SUBPACKAGES = ("sandbox", "agents", "theory", "rewards", "training", "eval", "cli")
_HERE = Path(__file__).parent


def run() -> int:
    """The console script. Returns the exit status."""
    try:
        problem = _describe_missing_links() or _describe_other_package()
        if problem:
            print(f"devnull: {problem}", file=sys.stderr)
            return 1
        from devnull.cli.main import run_console_script

        return run_console_script()
    except KeyboardInterrupt:
        print("devnull: stopped; run the same command again", file=sys.stderr)
        return 130


def _describe_missing_links() -> str | None:
    """In a checkout the subpackages are symbolic links; archives and some file systems turn them into small files."""
    missing = [name for name in _SUBPACKAGES if not (_HERE / name / "__init__.py").is_file()]
    if not missing:
        return None
    return (
        f"{_HERE} lacks {', '.join(missing)}: these are symbolic links of the checkout and were lost on the way here; "
        f"clone it anew with `git -c core.symlinks=true clone`, or install it as a package"
    )


def _describe_other_package() -> str | None:
    """Another distribution's `devnull` may come first on the path, or have been installed over this one."""
    import devnull

    imported = Path(devnull.__file__).resolve().parent if devnull.__file__ else None
    if imported == _HERE.resolve() and hasattr(devnull, "load_run"):
        return None
    return (
        f"another package named devnull lies at {imported}; this one is at {_HERE}: "
        f"pip uninstall the other, or use a virtual environment of its own"
    )


if __name__ == "__main__":
    sys.exit(run())
