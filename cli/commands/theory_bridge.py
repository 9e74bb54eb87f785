"""`devnull theory bridge`: the tabular problem estimated from runs, its solution, and what their arms did."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devnull.cli.commands.theory_solution import name_verdicts
from devnull.cli.runs.evaluator_choice import REWARD_KEYS, EvaluatorChoice, choose_evaluator, load_run_tasks
from devnull.cli.runs.run_folder import read_episodes, read_run_config
from devnull.cli.runs.run_scores import check_arms
from devnull.eval.bridge.theory_comparison import ArmComparison, TheoryComparison, compare_with_theory, format_left_out
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.atomic_file import replace_when_whole
from devnull.sandbox.errors import InputError
from devnull.theory.model_file import write_model
from devnull.theory.verdicts import Verdict


def bridge_runs(
    runs: tuple[Path, ...], evaluator: Path | None, arms: tuple[str, ...], out: Path | None, as_json: bool
) -> int:
    """Estimates a tabular problem for each set of tasks alike, solves it, and prints what the arms did beside it.

    Args:
        evaluator: TOML file or name; by default one that sees the terminal, with the pH of the runs.
        arms: Only these; by default all.
        out: Where to write the problem, for `devnull theory solve`.

    Raises `InputError` where the runs cannot be put together, or `out` would have to hold several problems.
    """
    if not runs:
        raise InputError("no run folder given; devnull theory bridge RUN [RUN ...]")
    episodes = [episode for run in runs for episode in read_episodes(run)]
    check_arms(", ".join(map(str, runs)), arms, {episode.arm for episode in episodes})
    kept = [episode for episode in episodes if not arms or episode.arm in arms]
    for key in (*REWARD_KEYS, "p_hide"):
        values = {read_run_config(run).get(key) for run in runs}
        if len(values) > 1:
            raise InputError(
                f"the runs were made with several {key}: {sorted(map(str, values))}; cross them one by one"
            )
    tasks = load_run_tasks(runs[0], needed=(episode.task for episode in kept))
    comparisons = compare_with_theory(kept, Evaluator(choose_evaluator(runs[0], EvaluatorChoice(evaluator))), tasks)
    if out is not None:
        if len(comparisons) > 1:
            names = "; ".join(", ".join(comparison.tasks) for comparison in comparisons)
            raise InputError(
                f"--out takes one problem and the run holds {len(comparisons)}: {names}; roll out one of them"
            )
        with replace_when_whole(out) as part:
            write_model(part, comparisons[0].problem.returns)
    if as_json:
        print(json.dumps([_comparison_json(comparison) for comparison in comparisons], indent=2))
        return 0
    console = Console()
    for comparison in comparisons:
        _print_theory_comparison(console, comparison)
    return 0


def _first_verdict(comparison: TheoryComparison) -> Verdict:
    """Of the first policy that feedback favours against the first that is truly best."""
    solved = comparison.solved
    return solved.verdicts[next(iter(solved.J_obs_optimal)), next(iter(solved.J_optimal))]


def _comparison_json(comparison: TheoryComparison) -> dict[str, object]:
    favoured = next(iter(comparison.solved.J_obs_optimal.values()))
    best = next(iter(comparison.solved.J_optimal.values()))
    verdict = _first_verdict(comparison)
    return {
        "tasks": list(comparison.tasks),
        "seen": [
            {"stage": stage, "conduct": action, "n": n}
            for (stage, action), n in comparison.problem.action_counts.items()
        ],
        "favoured": {"conduct": list(comparison.favoured), "again": comparison.favoured_stability} | asdict(favoured),
        "best": {"conduct": list(comparison.best), "again": comparison.best_stability} | asdict(best),
        "deceptive_inflation": verdict.deceptive_inflation,
        "overjustification": verdict.overjustification,
        "ambiguity_dim": comparison.solved.ambiguity,
        "arms": {
            name: {
                "episodes": arm.episodes,
                "measured": {name: m.value for name, m in arm.measured.items()},
                "interval": {name: [m.low, m.high] for name, m in arm.measured.items()},
                "in_the_table": asdict(arm.modelled),
                "as_favoured": arm.favoured_share,
                "as_best": arm.best_share,
            }
            for name, arm in comparison.arms.items()
        },
        "left_out": comparison.left_out,
        "lost_belief": comparison.problem.lost_belief,
        "warnings": list(comparison.problem.warnings),
    }


_QUANTITIES = {"J": "J", "J_obs": "J_obs", "E_plus": "E+", "E_minus": "E-"}


def _arms_table(arms: Mapping[str, ArmComparison]) -> Table:
    """Four lines an arm: each figure as measured, with its interval, and as the table has the arm's policy."""
    table = Table("arm", "figure", box=None, pad_edge=False)
    for title in ("measured", "95 % interval", "in the table"):
        table.add_column(title, justify="right")
    for name, arm in arms.items():
        for n, (key, title) in enumerate(_QUANTITIES.items()):
            m = arm.measured[key]
            interval = "" if m.low is None else f"{m.low:.2f} to {m.high:.2f}"
            table.add_row(
                "" if n else escape(name), title, f"{m.value:.2f}", interval, f"{getattr(arm.modelled, key):.2f}"
            )
    return table


def _print_theory_comparison(console: Console, comparison: TheoryComparison) -> None:
    def print_line(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    print_line(", ".join(comparison.tasks))
    counts = ", ".join(f"{stage} {action} {n}" for (stage, action), n in comparison.problem.action_counts.items())
    print_line(f"seen: {counts}")
    answers = (
        ("feedback favours", comparison.favoured, comparison.favoured_stability, comparison.solved.J_obs_optimal),
        ("truly best is", comparison.best, comparison.best_stability, comparison.solved.J_optimal),
    )
    for title, policies, again, optimal in answers:
        m = next(iter(optimal.values()))
        print_line(
            f"{title}: {' or '.join(policies)} (J {m.J:.2f}, J_obs {m.J_obs:.2f}; "
            f"the same in {100 * again:.0f} % of bootstrap samples)"
        )
    print_line(f"what feedback favours against the best: {name_verdicts(_first_verdict(comparison))}")
    console.print(_arms_table(comparison.arms))
    print_line("intervals are clustered; in the table: the same policy without the luck of the draw")
    for arm_name, arm in comparison.arms.items():
        print_line(
            f"{arm_name}, {arm.episodes} episodes: {100 * arm.favoured_share:.0f} % do what feedback favours, "
            f"{100 * arm.best_share:.0f} % what is best"
        )
        if arm.outside_interval:
            print_line(f"{arm_name}: the table lies outside the interval of {', '.join(arm.outside_interval)}")
    if comparison.problem.lost_belief > 0.005:
        print_line(
            f"up to {100 * comparison.problem.lost_belief:.0f} % of a belief was in endings that never came about in "
            f"this run, and was given to the others: roll out an agent that ends so too"
        )
    for warning in comparison.problem.warnings:
        print_line(f"note: {warning}")
    if comparison.left_out:
        print_line(f"left out: {format_left_out(comparison.left_out)}")
