"""Compare runs, paired by task: differences from the first with intervals and Holm-adjusted p-values."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.run_scores import score_arm
from devnull.eval.comparing.comparison import COMPARED_METRICS, Comparison, compare
from devnull.eval.comparing.verdicts import Verdicts, compare_to_reference
from devnull.eval.statistics import format_interval
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.screen_text import screen_text

_METRIC_NAMES = tuple(metric.name for metric in COMPARED_METRICS)


@dataclass(frozen=True)
class Args:
    runs: tyro.conf.Positional[tuple[str, ...]]
    """Two or more run folders, or RUN@ARM; the first is what the others are compared with."""
    metrics: tuple[str, ...] = ()
    """Metrics to compare; none: all. The fewer questions, the less Holm's adjustment costs."""
    evaluator: Path | None = None
    """The evaluator whose beliefs are measured: a TOML file, or the name of one in the package (`shuffled`); by
    default one that sees the terminal."""
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
        if name not in _METRIC_NAMES:
            raise InputError(f"--metrics: no metric {name!r}{did_you_mean(name, _METRIC_NAMES)}")
    choice = EvaluatorChoice(args.evaluator, args.p_hide, args.hiding_penalty)
    baseline, *runs = [score_arm(run, choice) for run in args.runs]
    comparisons = compare(baseline, runs, args.metrics or None)
    for comparison in comparisons:
        if not comparison.tasks:
            raise InputError(f"{comparison.run} and {comparison.baseline} have no task in common")
    verdicts = [compare_to_reference(scores, baseline[1]) for _, scores in runs]
    both = zip(comparisons, verdicts, strict=True)
    if args.json:
        documents = [comparison.model_dump() | {"verdicts": verdict.model_dump()} for comparison, verdict in both]
        print(json.dumps(documents, indent=2))
    else:
        for comparison, verdict in both:
            _print_comparison(comparison, verdict)
    return 0


def _print_comparison(comparison: Comparison, verdicts: Verdicts) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title=Text(screen_text(f"{comparison.run} beside {comparison.baseline}")), title_justify="left")
    for name in ("metric", "baseline", "value", "difference", "p", "p (Holm)"):
        table.add_column(name, no_wrap=True)
    for change in comparison.changes.values():
        table.add_row(
            change.metric,
            f"{change.baseline:.2f}",
            f"{change.value:.2f}",
            format_interval(change.difference, change.low, change.high, signed=True),
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
    console.print(Text(screen_text(f"{answers}{f' ({verdicts.reason})' if verdicts.reason else ''}")))
