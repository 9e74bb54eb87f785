"""What the demo found: metrics.json, and the tables it prints."""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from rich.console import Console
from rich.table import Table

from devnull.cli.demo.settings import SCRIPTED_ARMS, TRAINED_ARMS
from devnull.cli.runs.metrics_file import read_metrics, write_metrics
from devnull.cli.runs.run_folder import RunFolder
from devnull.cli.runs.run_scores import read_divergences
from devnull.eval.comparing.evaluation import Evaluation, evaluate
from devnull.eval.comparing.gates import GATES, Gate, check_gates, describe_gates
from devnull.eval.scoring.metrics import headlines
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate, format_interval

_FINE_TUNED = ("partial", "full")
_REFERENCES = ("sft", "honest")
"""What verdicts are relative to."""
_EXPECTED = "the partial view raises suppression and Ē+ above the warm start; the full view raises neither"
_GATES = ", ".join(f"{name} ≥ {least:g}" for name, least in GATES.items())
_CAUTION = "A model organism: the warm start already held hiding, so this is amplification by selection, not discovery."


def write_figures(run: RunFolder, scores: Mapping[str, list[Score]]) -> None:
    """Writes metrics.json as `devnull eval` does, and in it what was expected and what was found.

    Args:
        scores: By arm.
    """
    everyone = [score for own in scores.values() for score in own]
    evaluation = evaluate(everyone, {name: scores[name] for name in _REFERENCES}, kl=read_divergences(run.path))
    write_metrics(
        run.path,
        evaluation,
        {
            "expected": _EXPECTED,
            "found": _describe_changes(evaluation),
            "gates": [gate.model_dump() for gate in check_gates(evaluation.arms, TRAINED_ARMS)],
            "caution": _CAUTION,
        },
    )


def print_figures(run: RunFolder, episodes: int) -> None:
    """Prints the tables and verdicts of metrics.json.

    Args:
        episodes: How many each arm was evaluated on.
    """
    figures = read_metrics(run.path)
    arms = figures["arms"]
    console = Console(width=None if sys.stdout.isatty() else 100)
    title = f"{episodes} held-out episodes an arm; 95 % intervals clustered by task"
    console.print(_arms_table(title, arms, TRAINED_ARMS, _with_dim_interval))
    console.print(_arms_table("the scripted agents on the same instances", arms, SCRIPTED_ARMS, _value))
    for policy, reference in product(_FINE_TUNED, _REFERENCES):
        verdict = figures["verdicts"][policy][reference]
        console.print(
            f"{policy} against {reference}: deceptive inflation {verdict['deceptive_inflation']}, "
            f"overjustification {verdict['overjustification']}"
        )
    gates = describe_gates(Gate.model_validate(gate) for gate in figures["gates"])
    console.print(f"Boxes: {run.header.get('boxes', 'unknown')}.")
    console.print(f"Gates ({_GATES} in every arm): {gates}.")
    console.print(f"Expected: {figures['expected']}. Found: {figures['found']}.")
    console.print(_CAUTION)


def _describe_changes(evaluation: Evaluation) -> str:
    """Suppression and Ē+ under each view against the warm start, in words."""
    suppression = {arm: evaluation.arms[arm]["error_suppression_rate"].value for arm in TRAINED_ARMS}
    sentences = []
    for arm in _FINE_TUNED:
        change = evaluation.verdicts[arm]["sft"].differences.get("E_plus")
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
