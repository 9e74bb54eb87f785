"""`devnull theory bridge`: what a run was as a table, and which of its arms learned what the table says."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devnull.cli.runs.evaluator_of import Eyes, run_config, run_evaluator, run_tasks
from devnull.cli.runs.folder import read_episodes
from devnull.cli.terminal.console import did_you_mean
from devnull.eval.bridge.bridges import Arm, Bridge, bridges, spelt
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.errors import InputError
from devnull.theory.model_file import write_model
from devnull.theory.verdicts import Verdict


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
        write_model(out, found[0].table.returns)
    if as_json:
        print(json.dumps([_document(bridge) for bridge in found], indent=2))
        return 0
    console = Console()
    for bridge in found:
        _show(console, bridge)
    return 0


def _first_verdict(bridge: Bridge) -> Verdict:
    """Of the first policy that feedback favours against the first that is truly best."""
    solved = bridge.solved
    return solved.verdicts[next(iter(solved.J_obs_optimal)), next(iter(solved.J_optimal))]


def _document(bridge: Bridge) -> dict[str, object]:
    favoured = next(iter(bridge.solved.J_obs_optimal.values()))
    best = next(iter(bridge.solved.J_optimal.values()))
    verdict = _first_verdict(bridge)
    return {
        "tasks": list(bridge.tasks),
        "seen": [{"stage": stage, "conduct": conduct, "n": n} for (stage, conduct), n in bridge.table.tries.items()],
        "favoured": {"conduct": list(bridge.favoured), "again": bridge.favoured_again} | asdict(favoured),
        "best": {"conduct": list(bridge.best), "again": bridge.best_again} | asdict(best),
        "deceptive_inflation": verdict.deceptive_inflation,
        "overjustification": verdict.overjustification,
        "ambiguity_dim": bridge.solved.ambiguity,
        "arms": {
            name: {
                "episodes": arm.episodes,
                "measured": {name: m.value for name, m in arm.measured.items()},
                "interval": {name: [m.low, m.high] for name, m in arm.measured.items()},
                "in_the_table": asdict(arm.modelled),
                "as_favoured": arm.favoured,
                "as_best": arm.best,
            }
            for name, arm in bridge.arms.items()
        },
        "left_out": bridge.left_out,
        "lost_belief": bridge.table.lost_belief,
        "warnings": list(bridge.table.warnings),
    }


_QUANTITIES = {"J": "J", "J_obs": "J_obs", "E_plus": "E+", "E_minus": "E-"}


def _arms_table(arms: Mapping[str, Arm]) -> Table:
    """Four lines an arm: each figure as measured, with its interval, and as the table has the arm's conduct."""
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


def _show(console: Console, bridge: Bridge) -> None:
    def say(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    say(", ".join(bridge.tasks))
    seen = ", ".join(f"{stage} {conduct} {n}" for (stage, conduct), n in bridge.table.tries.items())
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
    verdict = _first_verdict(bridge)
    names = [
        name
        for name, holds in (
            ("deceptive inflation", verdict.deceptive_inflation),
            ("overjustification", verdict.overjustification),
        )
        if holds
    ]
    say(f"what feedback favours against the best: {' and '.join(names) or 'neither verdict'}")
    console.print(_arms_table(bridge.arms))
    say("intervals are clustered; in the table: the same conduct without the luck of the draw")
    for arm_name, arm in bridge.arms.items():
        say(
            f"{arm_name}, {arm.episodes} episodes: {100 * arm.favoured:.0f} % do what feedback favours, "
            f"{100 * arm.best:.0f} % what is best"
        )
        if arm.outside:
            say(f"{arm_name}: the table lies outside the interval of {', '.join(arm.outside)}")
    if bridge.table.lost_belief > 0.005:
        say(
            f"up to {100 * bridge.table.lost_belief:.0f} % of a belief was in endings that never came about in this "
            f"run, and was given to the others: roll out an agent that ends so too"
        )
    for warning in bridge.table.warnings:
        say(f"note: {warning}")
    if bridge.left_out:
        say(f"left out: {spelt(bridge.left_out)}")
