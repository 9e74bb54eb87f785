"""Compare runs, paired by task: differences from the first with intervals and Holm-adjusted p-values.

With `--by seed` the runs are one recipe under several training seeds, pooled: `devnull compare RUN RUN RUN --by seed`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.text import Text

from devnull.cli.runs.evaluator_choice import EvaluatorChoice, RewardOptions
from devnull.cli.runs.run_scores import check_comparable, score_arm
from devnull.cli.runs.training_seeds import pair_training_seeds
from devnull.cli.terminal.tables import Column, print_table, table_console
from devnull.eval.comparing.comparison import COMPARED_METRICS, SIGNIFICANT, Comparison, MetricDifference, compare
from devnull.eval.comparing.seeds import SeedComparison, compare_seeds
from devnull.eval.comparing.verdicts import Verdicts, compare_to_reference
from devnull.eval.display.counting import count_noun
from devnull.eval.display.escaping import escape_controls
from devnull.eval.statistics import format_interval
from devnull.sandbox.errors import InputError, did_you_mean

_METRIC_NAMES = tuple(metric.name for metric in COMPARED_METRICS)


@dataclass(frozen=True)
class Args(RewardOptions):
    runs: tyro.conf.Positional[tuple[str, ...]]
    """Two or more run folders, or RUN@ARM; the first is what the others are compared with."""
    metrics: tuple[str, ...] = ()
    """Metrics to compare; none: the six that say most. The fewer questions, the less Holm's adjustment costs."""
    all: bool = False
    """Compare every metric."""
    by: Literal["run", "seed"] = "run"
    """`seed`: the runs are one recipe under several training seeds. Each run's arms are compared with its own
    reference arm, and the differences pooled over seeds and tasks."""
    reference: str | None = None
    """With `--by seed`: the reference arm of each run; by default `sft` or `honest`, where every run has it, else the
    first run is the reference of all the others."""
    evaluator: Path | None = None
    """The evaluator whose beliefs are measured: a TOML file, or the name of one in the package (`shuffled`); by
    default one that sees the terminal."""
    p_hide: float | None = None
    """That one's belief, seeing nothing, in a hidden failure (pH); by default as the runs say,
    which must say the same, else 0.5."""
    json: bool = False
    """Print JSON instead of tables."""


def main(args: Args) -> int:
    if len(args.runs) < 2:
        raise InputError("compare wants two or more of RUN or RUN@ARM: devnull compare runs/a runs/b")
    for name in args.metrics:
        if name not in _METRIC_NAMES:
            raise InputError(f"--metrics: no metric {name!r}{did_you_mean(name, _METRIC_NAMES)}")
    if args.reference is not None and args.by != "seed":
        raise InputError(
            "--reference goes with --by seed; without it the first run is what the others are compared with"
        )
    choice = EvaluatorChoice(
        args.evaluator, args.p_hide, hiding_penalty=args.hiding_penalty, verbosity_cost=args.verbosity_cost
    )
    names = _METRIC_NAMES if args.all else args.metrics or None
    return _compare_seeds(args, choice, names) if args.by == "seed" else _compare_runs(args, choice, names)


def _compare_runs(args: Args, choice: EvaluatorChoice, names: Sequence[str] | None) -> int:
    baseline, *runs = sides = [score_arm(run, choice) for run in args.runs]
    check_comparable(sides, choice)
    comparisons = compare(baseline, runs, names)
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


def _compare_seeds(args: Args, choice: EvaluatorChoice, names: Sequence[str] | None) -> int:
    found = [
        compare_seeds(policy, reference, pairs, names)
        for policy, reference, pairs in pair_training_seeds(args.runs, args.reference, choice)
    ]
    if args.json:
        print(json.dumps([each.model_dump() for each in found], indent=2))
    else:
        for each in found:
            _print_seeds(each)
    return 0


def _print_comparison(comparison: Comparison, verdicts: Verdicts) -> None:
    console = table_console()
    _print_changes(console, f"{comparison.run} beside {comparison.baseline}", list(comparison.changes.values()))
    clusters = "tasks" if comparison.clusters == "task" else "instances of these few tasks"
    left_out = f"; {count_noun(comparison.left_out, 'task')} of only one left out" if comparison.left_out else ""
    imported = "imported" in verdicts.reason
    shared = "" if imported else f"; {comparison.shared:.0%} of their instances are shared"
    console.print(Text(f"{count_noun(comparison.tasks, 'task')} in common, clustered by {clusters}{shared}{left_out}"))
    if not comparison.can_be_significant:
        console.print(Text(f"{_explain_hopeless(comparison, clusters)}; ask fewer --metrics, or play more tasks"))
    if comparison.undefined:
        console.print(Text(f"undefined in one of them: {', '.join(comparison.undefined)}"))
    answers = f"deceptive inflation: {verdicts.deceptive_inflation}; overjustification: {verdicts.overjustification}"
    if imported:
        answers = "no verdicts"
    console.print(Text(escape_controls(f"{answers}{f' ({verdicts.reason})' if verdicts.reason else ''}")))
    if verdicts.warning:
        console.print(Text(f"warning: {verdicts.warning}"))


def _explain_hopeless(comparison: Comparison, clusters: str) -> str:
    least, wanted = f"{comparison.smallest_p:.2g}", f"{SIGNIFICANT / comparison.tests:.2g}"
    return (
        f"no difference could be significant: with so few {clusters} no p is below {least}, "
        f"and Holm's adjustment over {comparison.tests} tests wants {wanted}"
    )


def _print_seeds(found: SeedComparison) -> None:
    console = table_console()
    title = f"{found.policy} beside {found.reference}, {len(found.seeds)} training seeds"
    _print_changes(console, title, list(found.changes.values()), found.by_seed)
    left_out = f"; {count_noun(found.left_out, 'task')} not in all of them left out" if found.left_out else ""
    console.print(
        Text(escape_controls(f"seeds: {', '.join(found.seeds)}; {count_noun(found.tasks, 'task')} in common{left_out}"))
    )
    for name, answer in found.verdicts.items():
        alone = ", ".join(found.verdicts_by_seed[name])
        console.print(Text(f"{name.replace('_', ' ')}: {answer} (each seed alone: {alone})"))


def _print_changes(
    console: Console,
    title: str,
    changes: Sequence[MetricDifference],
    by_seed: dict[str, tuple[float, ...]] | None = None,
) -> None:
    columns = [
        Column("metric", [change.metric for change in changes]),
        Column("baseline", [f"{change.baseline:.2f}" for change in changes]),
        Column("value", [f"{change.value:.2f}" for change in changes]),
        Column("difference", [format_interval(each.difference, each.low, each.high, signed=True) for each in changes]),
        Column("p", [f"{change.p:.4f}" for change in changes]),
        Column("p Holm", [f"{change.p_holm:.4f}" for change in changes]),
    ]
    if by_seed:
        cells = [" ".join(f"{value:+.2f}" for value in by_seed[change.metric]) for change in changes]
        columns.append(Column("by seed", cells, prose=True))
    print_table(console, columns, title)
