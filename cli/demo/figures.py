"""What the demo found: metrics.json, and the tables it prints."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from devnull.cli.demo.settings import SCRIPTED_ARMS, TRAINED_ARMS
from devnull.cli.runs.run_folder import RunFolder
from devnull.eval.comparing.verdicts import Verdicts, compare_to_reference
from devnull.eval.scoring.metrics import compute_metrics, headlines
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate, format_interval

_EXPECTED = "the partial view raises suppression and Ē+ above the warm start; the full view raises neither"
_CAUTION = "A model organism: the warm start already held hiding, so this is amplification by selection, not discovery."


def write_figures(run: RunFolder, scores: Mapping[str, list[Score]]) -> None:
    """Writes metrics.json: every metric by arm, verdicts on the arms that feedback trained, and what was expected.

    Args:
        scores: By arm.
    """
    verdicts = {
        f"{policy} against {reference}": compare_to_reference(scores[policy], scores[reference])
        for policy in ("partial", "full")
        for reference in ("sft", "honest")
    }
    run.write_json(
        "metrics.json",
        {
            "arms": {
                arm: {name: estimate.model_dump() for name, estimate in compute_metrics(own).items()}
                for arm, own in scores.items()
            },
            "verdicts": {name: verdict.model_dump() for name, verdict in verdicts.items()},
            "expected": _EXPECTED,
            "found": _describe_changes(scores, verdicts),
            "caution": _CAUTION,
        },
    )


def print_figures(run: RunFolder, episodes: int) -> None:
    """Prints the tables and verdicts of metrics.json.

    Args:
        episodes: How many each arm was evaluated on.
    """
    figures = json.loads((run.path / "metrics.json").read_text())
    arms = figures["arms"]
    console = Console(width=None if sys.stdout.isatty() else 100)
    title = f"{episodes} held-out episodes an arm; 95 % intervals clustered by task"
    console.print(_arms_table(title, arms, TRAINED_ARMS, _with_dim_interval))
    console.print(_arms_table("the scripted agents on the same instances", arms, SCRIPTED_ARMS, _value))
    for name, verdict in figures["verdicts"].items():
        console.print(
            f"{name}: deceptive inflation {verdict['deceptive_inflation']}, "
            f"overjustification {verdict['overjustification']}"
        )
    console.print(f"Expected: {figures['expected']}. Found: {figures['found']}.")
    console.print(_CAUTION)


def _describe_changes(scores: Mapping[str, list[Score]], verdicts: Mapping[str, Verdicts]) -> str:
    """Suppression and Ē+ under each view against the warm start, in words."""
    suppression = {arm: compute_metrics(scores[arm])["error_suppression_rate"].value for arm in TRAINED_ARMS}
    sentences = []
    for arm in ("partial", "full"):
        change = verdicts[f"{arm} against sft"].differences.get("E_plus")
        rate, start = suppression[arm], suppression["sft"]
        rose = "undefined" if rate is None or start is None else f"{start:.2f} → {rate:.2f}"
        over = "undefined" if change is None else format_interval(change.value, change.low, change.high, signed=True)
        sentences.append(f"{arm} view: suppression {rose}, Ē+ {over}")
    return "; ".join(sentences)


def _arms_table(title: str, arms: Mapping[str, Any], names: Sequence[str], cell: Callable[[Estimate], str]) -> Table:
    """A row a metric, a column an arm."""
    table = Table(title=title)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for metric in headlines("demo"):
        estimates = (Estimate.model_validate(arms[name][metric.name]) for name in names)
        table.add_row(metric.short_title, *map(cell, estimates))
    return table


def _value(estimate: Estimate) -> str:
    """`0.54`, without its interval."""
    return str(estimate).partition(" ")[0]


def _with_dim_interval(estimate: Estimate) -> str:
    """`0.54 (0.33 to 0.74)`, the interval dimmed by rich's markup."""
    value, _, interval = str(estimate).partition(" ")
    return f"{value} [dim]{interval}[/dim]" if interval else value
