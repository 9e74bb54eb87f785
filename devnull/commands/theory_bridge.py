"""`devnull theory bridge`: what a run was as a table, and which of its arms learned what the table says."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devnull.console import did_you_mean
from devnull.eyes import Eyes, run_config, run_evaluator, run_tasks
from devnull.runs import read_episodes
from rewards.bridge import Bridge, bridges
from rewards.evaluator import Evaluator
from sandbox.errors import InputError
from theory.model_file import write_model
from theory.verdicts import Verdict


def cross(
    runs: tuple[Path, ...], evaluator: Path | None, arms: tuple[str, ...], out: Path | None, as_json: bool
) -> int:
    """Estimates, prints, and writes the problem where asked."""
    if not runs:
        raise InputError("no run folder given; devnull theory bridge RUN [RUN ...]")
    episodes = [episode for run in runs for episode in read_episodes(run)]
    known = {episode.arm for episode in episodes}
    for arm in arms:
        if arm not in known:
            raise InputError(
                f"no arm {arm!r} in these runs{did_you_mean(arm, known)}; there are {', '.join(sorted(known))}"
            )
    kept = [episode for episode in episodes if not arms or episode.arm in arms]
    for key in ("hiding_penalty", "p_hide"):
        values = {run_config(run).get(key) for run in runs}
        if len(values) > 1:
            raise InputError(
                f"the runs were made with several {key}: {sorted(map(str, values))}; cross them one by one"
            )
    tasks = run_tasks(runs[0], needed=(episode.task for episode in kept))
    found = bridges(kept, Evaluator(run_evaluator(runs[0], Eyes(evaluator))), tasks)
    if out is not None:
        if len(found) > 1:
            names = "; ".join(", ".join(bridge.tasks) for bridge in found)
            raise InputError(f"--out takes one problem and the run holds {len(found)}: {names}; roll out one of them")
        write_model(out, found[0].returns)
    if as_json:
        print(json.dumps([document(bridge) for bridge in found], indent=2))
        return 0
    console = Console()
    for bridge in found:
        show(console, bridge)
    return 0


def first_verdict(bridge: Bridge) -> Verdict:
    """Of the first policy that feedback favours against the first that is truly best."""
    solved = bridge.solved
    return solved.verdicts[next(iter(solved.J_obs_optimal)), next(iter(solved.J_optimal))]


def document(bridge: Bridge) -> dict[str, object]:
    favoured = next(iter(bridge.solved.J_obs_optimal.values()))
    best = next(iter(bridge.solved.J_optimal.values()))
    verdict = first_verdict(bridge)
    return {
        "tasks": list(bridge.tasks),
        "seen": [{"stage": stage, "conduct": conduct, "n": n} for (stage, conduct), n in bridge.tries.items()],
        "favoured": {"conduct": list(bridge.favoured), "again": bridge.favoured_again} | asdict(favoured),
        "best": {"conduct": list(bridge.best), "again": bridge.best_again} | asdict(best),
        "deceptive_inflation": verdict.deceptive_inflation,
        "overjustification": verdict.overjustification,
        "ambiguity_dim": bridge.solved.ambiguity,
        "arms": {
            name: {
                "episodes": arm.episodes,
                "measured": asdict(arm.measured),
                "in_the_table": asdict(arm.modelled),
                "as_favoured": arm.favoured,
                "as_best": arm.best,
            }
            for name, arm in bridge.arms.items()
        },
        "lost_belief": bridge.lost_belief,
        "warnings": list(bridge.warnings),
    }


def show(console: Console, bridge: Bridge) -> None:
    def say(text: str) -> None:
        console.print(escape(text), highlight=False)

    say(", ".join(bridge.tasks))
    seen = ", ".join(f"{stage} {conduct} {n}" for (stage, conduct), n in bridge.tries.items())
    say(f"seen: {seen}")
    answers = (
        ("feedback favours", bridge.favoured, bridge.favoured_again, bridge.solved.J_obs_optimal),
        ("truly best is", bridge.best, bridge.best_again, bridge.solved.J_optimal),
    )
    for title, conducts, again, optimal in answers:
        m = next(iter(optimal.values()))
        say(
            f"{title}: {' or '.join(conducts)} (J {m.J:.2f}, J_obs {m.J_obs:.2f}; "
            f"the same in {100 * again:.0f} % of bootstrap samples)"
        )
    verdict = first_verdict(bridge)
    names = [
        name
        for name, holds in (
            ("deceptive inflation", verdict.deceptive_inflation),
            ("overjustification", verdict.overjustification),
        )
        if holds
    ]
    say(f"what feedback favours against the best: {' and '.join(names) or 'neither verdict'}")
    table = Table("arm", "episodes", box=None, pad_edge=False)
    for name in ("J", "J_obs", "E+", "E-"):
        table.add_column(name, justify="right")
    table.add_column("as favoured", justify="right")
    table.add_column("as best", justify="right")
    for name, arm in bridge.arms.items():
        measured, modelled = arm.measured, arm.modelled
        figures = [
            f"{getattr(measured, key):.2f} ({getattr(modelled, key):.2f})"
            for key in ("J", "J_obs", "E_plus", "E_minus")
        ]
        shares = (f"{100 * arm.favoured:.0f} %", f"{100 * arm.best:.0f} %")
        table.add_row(escape(name), str(arm.episodes), *figures, *shares)
    console.print(table)
    say("as measured (in brackets: the same conduct in the table, without the luck of the draw)")
    for arm_name, arm in bridge.arms.items():
        if arm.favoured > 0.5:
            say(f"{arm_name} does what feedback favours, in {100 * arm.favoured:.0f} % of its episodes")
    if bridge.lost_belief > 0.005:
        say(
            f"up to {100 * bridge.lost_belief:.0f} % of a belief was in endings that never came about in this run, and "
            f"was given to the others: roll out an agent that ends so too"
        )
    for warning in bridge.warnings:
        say(f"note: {warning}")
