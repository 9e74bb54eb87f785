"""Write one HTML file about a run or several: figures, verdicts, every episode with the two views side by side.

It needs no network and opens from disk. Large runs page their transcripts into a folder beside it.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from devnull.cli.runs.run_report import write_report
from devnull.cli.terminal.progress import progress_bar
from devnull.eval.display.counting import count_noun
from devnull.sandbox.errors import InputError


@dataclass(frozen=True)
class Args:
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    out: Path | None = None
    """The file; by default report.html in the first run's folder."""
    evaluator: Path | None = None
    """The evaluator whose view it is: a TOML file, or the name of one in the package (`shuffled`); by default each
    run's own that sees the terminal."""
    arms: tuple[str, ...] = ()
    """Only these; by default all but the demo's training episodes."""


def main(args: Args) -> int:
    if not args.runs:
        raise InputError("no run: devnull report RUN...")
    out = args.out or args.runs[0] / "report.html"
    with progress_bar() as bar:
        row = bar.add_task("episodes", total=None)
        report = write_report(
            args.runs, out, evaluator=args.evaluator, arms=args.arms, on_episode=lambda: bar.advance(row)
        )
    print(f"{out}: {count_noun(report.episodes, 'episode')}, {out.stat().st_size / 1e6:.1f} MB")
    return 0
