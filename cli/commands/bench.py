"""Measure speed, side by side with the alternatives, or how often statistics err, and print tables.

    devnull bench sandbox
    devnull bench statistics -- --quick

Each benchmark is a script in `benchmarks/`, with its own `--help`; this command finds and runs it.
"""

import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

import devnull
from devnull.sandbox.errors import InputError, did_you_mean

_BENCHMARKS = Path(devnull.__file__).parent / "benchmarks"


@dataclass(frozen=True)
class Args:
    name: Annotated[str, tyro.conf.Positional]
    """Which: `sandbox`, `rollout`, `train`, `claims`, `eval`, `oracle`, `report`, `resamples`, `statistics`,
    `theory`."""
    rest: Annotated[tuple[str, ...], tyro.conf.Positional] = field(default=())
    """Its own arguments, after `--`."""


def main(args: Args) -> int:
    known = sorted(path.stem for path in _BENCHMARKS.glob("*.py") if not path.stem.startswith("_"))
    if args.name not in known:
        raise InputError(f"no benchmark {args.name!r}; there are {', '.join(known)}{did_you_mean(args.name, known)}")
    path = _BENCHMARKS / f"{args.name}.py"
    own_argv = sys.argv
    sys.argv = [f"devnull bench {args.name}", *args.rest]
    try:
        status = runpy.run_path(str(path), run_name="__main__").get("status", 0)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = own_argv
    return int(status)
