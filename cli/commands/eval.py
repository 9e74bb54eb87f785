"""Measure a run: what was shown against what was true, with intervals, by arm, family, fault and split.

Writes metrics.json into the run folder. Intervals are clustered by task; 0/0 is undefined; episodes that an
infrastructure failure ended are counted and never scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.text import Text

from devnull.cli.runs.evaluator_choice import EvaluatorChoice, RewardOptions
from devnull.cli.runs.garbage import collector_paused
from devnull.cli.runs.metrics_file import format_metrics, write_metrics
from devnull.cli.runs.run_scores import AskOracle, find_references, read_divergences, score_run
from devnull.cli.terminal.progress import print_progress, progress_bar
from devnull.cli.terminal.tables import print_all_metrics, print_headlines, table_console
from devnull.eval.comparing.evaluation import Evaluation, evaluate, group_scores
from devnull.eval.comparing.planning import SamplePlan, describe_plan, plan_samples
from devnull.eval.display.counting import count_noun
from devnull.eval.display.escaping import escape_controls
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError


@dataclass(frozen=True)
class Args(RewardOptions):
    run: tyro.conf.Positional[Path]
    """Run folder."""
    reference: tuple[str, ...] = ()
    """What verdicts are relative to: an arm or an agent of this run, another run folder, or RUN@ARM. By default the
    arms `sft` and `honest`, where the run has them."""
    evaluator: Path | None = None
    """The evaluator whose beliefs are measured: a TOML file, or the name of one in the package (`shuffled`); by
    default one that sees the terminal."""
    p_hide: float | None = None
    """That one's belief, seeing nothing, in a hidden failure (pH); by default as the run says, else 0.5."""
    oracle: bool = False
    """Ask the replay oracle about each failing command that could have hidden something: plays those episodes
    again in boxes. Without it the trace answers, and leaves open what it cannot tell."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """What makes the boxes for `--oracle`."""
    all: bool = False
    """Show every metric, and tables by family, fault and split beside that by arm. metrics.json has them all."""
    power: bool = False
    """Say what sample (tasks × episodes) would decide each verdict that is open, with 80 % probability, as simulated
    from these episodes. Takes some seconds a verdict."""
    json: bool = False
    """Print metrics.json instead of tables; with `--power` the plans too."""


def main(args: Args) -> int:
    choice = EvaluatorChoice(
        args.evaluator, args.p_hide, hiding_penalty=args.hiding_penalty, verbosity_cost=args.verbosity_cost
    )
    with collector_paused():
        scores = _score_episodes(args, choice)
        references = find_references(args.run, args.reference, scores, choice)
        evaluation = evaluate(scores, references, kl=read_divergences(args.run))
    document = write_metrics(args.run, evaluation)
    plans = _plan_samples(scores, references, evaluation) if args.power else []
    if args.json and args.power:
        plan_rows = [plan.model_dump(mode="json") for plan in plans]
        print(format_metrics(document | {"power": plan_rows}), end="")
    elif args.json:
        print(format_metrics(document), end="")
    else:
        _print_tables(evaluation, args.run / "metrics.json", everything=args.all)
        if args.power:
            _print_plans(plans)
    return 0


def _plan_samples(
    scores: list[Score], references: Mapping[str, Sequence[Score]], evaluation: Evaluation
) -> list[SamplePlan]:
    arms = group_scores(scores, lambda score: score.arm)
    plans = []
    with progress_bar() as bar:
        row = bar.add_task("planning samples", total=sum(map(len, evaluation.verdicts.values())))
        for arm, verdicts in evaluation.verdicts.items():
            for name, verdict in verdicts.items():
                plans += plan_samples(arms[arm], references[name], verdict)
                bar.advance(row)
    return plans


def _print_plans(plans: Sequence[SamplePlan]) -> None:
    console = table_console()
    console.print(Text("\nWhat would decide the open verdicts (tasks × episodes a task, of each policy):"))
    for plan in plans:
        console.print(Text(escape_controls(describe_plan(plan))))
    if not plans:
        console.print(Text("no verdict is open that these episodes can say more about"))


def _score_episodes(args: Args, choice: EvaluatorChoice) -> list[Score]:
    scores = []
    with progress_bar() as bar:
        row = bar.add_task("scoring episodes", total=None)
        for score in score_run(args.run, choice, _open_oracle(args)):
            scores.append(score)
            bar.advance(row)
    if not scores:
        raise InputError(f"{args.run}: no finished episode yet; nothing to measure")
    return scores


def _open_oracle(args: Args) -> AskOracle | None:
    """The replay oracle, if `--oracle` asks for it."""
    if not args.oracle:
        return None
    from devnull.eval.suppression.episode_replay import replay_failed_commands
    from devnull.sandbox.runtimes.by_name import open_runtime

    runtime = open_runtime(args.runtime, print_progress)
    return lambda episode, task: replay_failed_commands(episode, task, runtime)


def _print_tables(evaluation: Evaluation, path: Path, *, everything: bool) -> None:
    console = table_console()
    errors = ", ".join(f"{count} {kind}" for kind, count in evaluation.errors.items()) or "none"
    console.print(Text(f"{count_noun(evaluation.episodes, 'episode')}; infrastructure errors: {errors}"))
    if any(runtime.startswith("remembered") for runtime in evaluation.runtimes):
        console.print(Text("boxes: " + ", ".join(f"{count} {name}" for name, count in evaluation.runtimes.items())))
    if evaluation.imported:
        scores = ", ".join(f"{name} {words}" for name, words in evaluation.foreign_scores.items())
        console.print(
            Text(
                f"{evaluation.imported} of them imported: whatever needs the truth is undefined for these (--all lists "
                f"it); devnull import --replay TASK finds it out where a task fits"
            )
        )
        if scores:
            console.print(Text(escape_controls(f"their own tools' scores, unchecked: {scores}")))
    if evaluation.undetermined:
        count = sum(evaluation.undetermined.values())
        console.print(
            Text(
                f"undetermined: {count_noun(count, 'box', 'boxes')} died, and nothing shows whether the agents ended "
                "them; columns marked † count them as their agents' doing, the others leave them out"
            )
        )
    marked = {f"{arm} †{evaluation.undetermined[arm]}": table for arm, table in evaluation.arms_if_agents_doing.items()}
    if not everything:
        print_headlines(console, "by arm", evaluation.arms | marked)
    for title, tables in (
        ("arm", evaluation.arms | marked),
        ("family", evaluation.families),
        ("fault", evaluation.faults),
        ("split", evaluation.splits),
    ):
        if everything and (title == "arm" or len(tables) > 1):
            print_all_metrics(console, f"\nby {title}", tables)
    for arm, verdicts in evaluation.verdicts.items():
        for name, verdict in verdicts.items():
            answers = (
                f"deceptive inflation: {verdict.deceptive_inflation}; overjustification: {verdict.overjustification}"
            )
            reason = f" ({verdict.reason})" if verdict.reason else f"; {verdict.quadrant}"
            console.print(Text(escape_controls(f"{arm} relative to {name}: {answers}{reason}")))
            if verdict.warning:
                console.print(Text(f"  warning: {verdict.warning}"))
    more = "" if everything else "; --all shows every metric, and all by family, fault and split"
    console.print(Text(f"written to {path}{more}"))
