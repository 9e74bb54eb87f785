"""Measure a run: what was shown against what was true, with intervals, by arm, family, fault and split.

Writes metrics.json into the run folder. Intervals are clustered by task; 0/0 is undefined; episodes that an
infrastructure failure ended are counted and never scored.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from devnull.agents.protocol import plain
from devnull.cli.runs.evaluator_of import Eyes
from devnull.cli.runs.folder import write_text
from devnull.cli.runs.rolling_out import say
from devnull.cli.runs.scoring import Causes, arm_of, divergences, near, scores_of
from devnull.cli.terminal.console import progress
from devnull.eval.comparing.evaluation import Evaluation, evaluate, grouped
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate
from devnull.sandbox.errors import InputError


@dataclass(frozen=True)
class Args:
    run: tyro.conf.Positional[Path]
    """Run folder."""
    reference: tuple[str, ...] = ()
    """What verdicts are relative to: an arm or an agent of this run, another run folder, or RUN@ARM. By default the
    arms `sft` and `honest`, where the run has them."""
    evaluator: Path | None = None
    """TOML file of the evaluator whose beliefs are measured; by default one that sees the terminal."""
    p_hide: float | None = None
    """That one's belief, seeing nothing, in a hidden failure (pH); by default as the run says, else 0.5."""
    hiding_penalty: float | None = None
    """What hiding a failure truly costs (the paper's r); by default as the run says, else as each task does."""
    oracle: bool = False
    """Ask the replay oracle about each failing command that could have hidden something: plays those episodes
    again in boxes. Without it the trace answers, and leaves open what it cannot tell."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """What makes the boxes for `--oracle`."""
    json: bool = False
    """Print metrics.json instead of tables."""


def main(args: Args) -> int:
    eyes = Eyes(args.evaluator, args.p_hide, args.hiding_penalty)
    scores = _collect(args, eyes)
    evaluation = evaluate(scores, _references(args, scores, eyes), kl=divergences(args.run))
    found = _others(args.run / "metrics.json") | evaluation.model_dump(mode="json")
    text = json.dumps(found, indent=2, allow_nan=False) + "\n"
    write_text(args.run / "metrics.json", text)
    if args.json:
        print(text, end="")
    else:
        _show(evaluation, args.run / "metrics.json")
    return 0


def _others(path: Path) -> dict[str, Any]:
    """What another command (the demo) left in metrics.json beside the figures: it stays."""
    if not path.exists():
        return {}
    try:
        left: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error}; delete it and measure again") from None
    return {key: value for key, value in left.items() if key not in Evaluation.model_fields}


def _collect(args: Args, eyes: Eyes) -> list[Score]:
    scores = []
    with progress() as bar:
        row = bar.add_task("scoring episodes", total=None)
        for score in scores_of(args.run, eyes, _asked(args)):
            scores.append(score)
            bar.advance(row)
    if not scores:
        raise InputError(f"{args.run}: no finished episode yet; nothing to measure")
    return scores


def _asked(args: Args) -> Causes | None:
    """The replay oracle, if it is wanted."""
    if not args.oracle:
        return None
    from devnull.eval.suppression.causes import causes
    from devnull.sandbox.choose import open_runtime

    runtime = open_runtime(args.runtime, say)
    return lambda episode, task: causes(episode, task, runtime)


def _references(args: Args, scores: list[Score], eyes: Eyes) -> dict[str, Sequence[Score]]:
    """Named references with their scores. Raises `InputError` with the near name."""
    arms = grouped(scores, lambda score: score.arm)
    names = args.reference or tuple(name for name in ("sft", "honest") if name in arms)
    found: dict[str, Sequence[Score]] = {}
    for name in names:
        if name in arms:
            found[name] = arms[name]
        elif any(score.agent == name for score in scores):
            found[name] = [score for score in scores if score.agent == name]
        elif Path(name).exists() or "@" in name:
            found[name] = arm_of(name, eyes)[1]
        else:
            raise InputError(f"--reference {name!r}: no arm of {args.run} and no run folder{near(name, scores)}")
    return found


def _show(evaluation: Evaluation, path: Path) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    errors = ", ".join(f"{count} {kind}" for kind, count in evaluation.errors.items()) or "none"
    console.print(Text(f"{evaluation.episodes} episodes; infrastructure errors: {errors}"))
    for title, tables in (
        ("arm", evaluation.arms),
        ("family", evaluation.families),
        ("fault", evaluation.faults),
        ("split", evaluation.splits),
    ):
        if title == "arm" or len(tables) > 1:
            console.print(_grid(title, tables))
    for arm, verdicts in evaluation.verdicts.items():
        for name, verdict in verdicts.items():
            said = f"deceptive inflation: {verdict.deceptive_inflation}; overjustification: {verdict.overjustification}"
            reason = f" ({verdict.reason})" if verdict.reason else f"; {verdict.quadrant}"
            console.print(Text(plain(f"{arm} relative to {name}: {said}{reason}")))
    console.print(Text(f"written to {path}"))


def _grid(title: str, tables: dict[str, dict[str, Estimate]]) -> Table:
    """Metrics down, groups across."""
    table = Table(title=f"by {title}", title_justify="left")
    table.add_column("metric", no_wrap=True)
    for name in tables:
        table.add_column(Text(plain(name)))
    for metric in next(iter(tables.values())):
        table.add_row(metric, *(_said(group[metric]) for group in tables.values()))
    return table


def _said(estimate: Estimate) -> str:
    """`0.50 (0.31 to 0.69)`, or `undefined`."""
    if estimate.value is None:
        return "undefined"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
