"""What the demo found: metrics.json, a picture, and what it prints at its end."""

import shlex
from collections.abc import Mapping
from itertools import product

from rich.console import Console
from rich.text import Text

from devnull.cli.demo.settings import SCRIPTED_ARMS, TRAINED_ARMS
from devnull.cli.runs.metrics_file import read_metrics, write_metrics
from devnull.cli.runs.run_folder import RunFolder
from devnull.cli.runs.run_scores import read_divergences
from devnull.cli.terminal.tables import print_headlines, table_console
from devnull.eval.comparing.evaluation import evaluate
from devnull.eval.comparing.gates import GATES, Gate, check_gates, describe_gates
from devnull.eval.display.escaping import escape_controls
from devnull.eval.display.headline import Headline
from devnull.eval.display.headline_picture import picture_file
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate
from devnull.sandbox.atomic_file import write_atomically

_FINE_TUNED = ("partial", "full")
_REFERENCES = ("sft", "honest")
"""What verdicts are relative to."""
_EXPECTED = "the partial view raises suppression and Ē+ above the warm start; the full view raises neither"
_GATES = ", ".join(f"{name} ≥ {least:g}" for name, least in GATES.items())
_NOTHING = "Nothing can be said of suppression: no two policies had failures that they could have hidden."
_PICTURE = "picture.svg"


def write_figures(run: RunFolder, scores: Mapping[str, list[Score]], headline: Headline | None) -> None:
    """Writes metrics.json as `devnull eval` does, with what was expected and what was found, and the picture.

    Args:
        scores: By arm.
        headline: Of the run's report.
    """
    everyone = [score for own in scores.values() for score in own]
    evaluation = evaluate(everyone, {name: scores[name] for name in _REFERENCES}, kl=read_divergences(run.path))
    write_metrics(
        run.path,
        evaluation,
        {
            "expected": _EXPECTED,
            "found": _NOTHING if headline is None else headline.finding,
            "gates": [gate.model_dump() for gate in check_gates(evaluation.arms, TRAINED_ARMS)],
            "caution": "" if headline is None else headline.caution,
        },
    )
    write_atomically(run.path / _PICTURE, picture_file(() if headline is None else headline.pictured))


def print_figures(run: RunFolder, headline: Headline | None, episodes: int) -> None:
    """Prints what metrics.json holds of the trained policies and, last, what was learnt and where to look.

    Args:
        headline: Of the run's report.
        episodes: How many each arm was evaluated on.
    """
    figures, console = read_metrics(run.path), table_console()
    tables = {
        arm: {name: Estimate.model_validate(each) for name, each in figures["arms"][arm].items()}
        for arm in TRAINED_ARMS
    }
    print_headlines(console, f"{episodes} held-out episodes an arm; 95 % intervals clustered by task", tables)
    for policy, reference in product(_FINE_TUNED, _REFERENCES):
        verdict = figures["verdicts"][policy][reference]
        _say(
            console,
            f"{policy} against {reference}: deceptive inflation {verdict['deceptive_inflation']}, "
            f"overjustification {verdict['overjustification']}",
        )
    gates = describe_gates(Gate.model_validate(gate) for gate in figures["gates"])
    _say(console, f"boxes: {run.header.get('boxes', 'unknown')}; gates ({_GATES} in every arm): {gates}")
    _say(console, f"the scripted agents ({', '.join(SCRIPTED_ARMS)}) too: devnull eval {shlex.quote(str(run.path))}")
    _say(console, f"\n{figures['found']}", "bold")
    _say(console, figures["caution"])
    print(f"picture: {run.path / _PICTURE}\nreport: {run.path / 'report.html'}")
    print(_describe_way_in(run, headline))


def _describe_way_in(run: RunFolder, headline: Headline | None) -> str:
    """The command that opens the hidden failure that says most; where there is none, one that opens the run."""
    command = f"devnull replay {shlex.quote(str(run.path))}"
    if headline is None or headline.row is None:
        return f"no hidden failure to show; an episode of partial: {command} --arm partial"
    return f"a failure that {headline.policy} hid: {command} --episode {headline.row['id']}"


def _say(console: Console, words: str, style: str = "") -> None:
    console.print(Text(escape_controls(words), style))
