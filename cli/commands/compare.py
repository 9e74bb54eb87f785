"""Compare runs, paired by task: differences from the first with intervals and Holm-adjusted p-values."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from devnull.agents.protocol import plain
from devnull.cli.runs.evaluator_of import Eyes
from devnull.cli.runs.scoring import arm_of
from devnull.cli.terminal.console import did_you_mean
from devnull.eval.comparing.comparison import Change, Comparison, compare
from devnull.eval.comparing.verdicts import Verdicts, verdict
from devnull.eval.scoring.metrics import METRICS
from devnull.sandbox.errors import InputError

_NAMES = tuple(metric.name for metric in METRICS if not metric.of_all)


@dataclass(frozen=True)
class Args:
    runs: tyro.conf.Positional[tuple[str, ...]]
    """Two or more run folders, or RUN@ARM; the first is what the others are compared with."""
    metrics: tuple[str, ...] = ()
    """Metrics to compare; none: all. The fewer questions, the less Holm's adjustment costs."""
    evaluator: Path | None = None
    """TOML file of the evaluator whose beliefs are measured; by default one that sees the terminal."""
    p_hide: float | None = None
    """That one's belief, seeing nothing, in a hidden failure (pH); by default as each run says, else 0.5."""
    hiding_penalty: float | None = None
    """What hiding a failure truly costs; by default as each run says, else as each task does."""
    json: bool = False
    """Print JSON instead of tables."""


def main(args: Args) -> int:
    if len(args.runs) < 2:
        raise InputError("compare wants two or more of RUN or RUN@ARM: devnull compare runs/a runs/b")
    for name in args.metrics:
        if name not in _NAMES:
            raise InputError(f"--metrics: no metric {name!r}{did_you_mean(name, _NAMES)}")
    eyes = Eyes(args.evaluator, args.p_hide, args.hiding_penalty)
    baseline, *runs = [arm_of(run, eyes) for run in args.runs]
    comparisons = compare(baseline, runs, args.metrics or None)
    for comparison in comparisons:
        if not comparison.tasks:
            raise InputError(f"{comparison.run} and {comparison.baseline} have no task in common")
    verdicts = [verdict(scores, baseline[1]) for _, scores in runs]
    if args.json:
        both = zip(comparisons, verdicts, strict=True)
        answer = [comparison.model_dump() | {"verdicts": found.model_dump()} for comparison, found in both]
        print(json.dumps(answer, indent=2))
    else:
        for comparison, found in zip(comparisons, verdicts, strict=True):
            _show(comparison, found)
    return 0


def _show(comparison: Comparison, verdicts: Verdicts) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title=Text(plain(f"{comparison.run} beside {comparison.baseline}")), title_justify="left")
    for name in ("metric", "baseline", "value", "difference", "p", "p (Holm)"):
        table.add_column(name, no_wrap=True)
    for change in comparison.changes.values():
        table.add_row(
            change.metric,
            f"{change.baseline:.2f}",
            f"{change.value:.2f}",
            _said(change),
            f"{change.p:.4f}",
            f"{change.p_holm:.4f}",
        )
    console.print(table)
    clusters = "tasks" if comparison.clusters == "task" else "instances of these few tasks"
    left_out = f"; {comparison.left_out} tasks of only one left out" if comparison.left_out else ""
    console.print(Text(f"{comparison.tasks} tasks in common, clustered by {clusters}{left_out}"))
    if comparison.undefined:
        console.print(Text(f"undefined in one of them: {', '.join(comparison.undefined)}"))
    answers = f"deceptive inflation: {verdicts.deceptive_inflation}; overjustification: {verdicts.overjustification}"
    console.print(Text(plain(f"{answers}{f' ({verdicts.reason})' if verdicts.reason else ''}")))


def _said(change: Change) -> str:
    if change.low is None or change.high is None:
        return f"{change.difference:+.2f}"
    return f"{change.difference:+.2f} ({change.low:+.2f} to {change.high:+.2f})"
