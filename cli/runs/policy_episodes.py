"""What a policy did, while it learnt and on held-out tasks: run folders inside its own, to replay and report on."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_of import run_config
from devnull.cli.runs.folder import Run, open_run, write_text
from devnull.cli.runs.rolling_out import EVALUATION_SEEDS, draw_instances, roll_out, say
from devnull.eval.scoring.metrics import metrics
from devnull.eval.scoring.score import score
from devnull.eval.statistics import Estimate
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Task

_INHERITED = ("p_hide", "hiding_penalty")
"""By which the run that a policy learnt from is judged, and so what the policy did."""
_SHOWN = (
    "valid_action_share",
    "attempt_rate",
    "error_suppression_rate",
    "hidden_failure_rate",
    "true_success",
    "J",
    "J_obs",
    "E_plus",
    "E_minus",
)


def acted(folder: Path, learnt_from: Path, seed: int, **config: Any) -> Run:
    """A run folder for a policy's episodes, judged as the run that it learnt from is."""
    inherited = {name: value for name, value in run_config(learnt_from).items() if name in _INHERITED}
    return open_run(folder, "train", {"learnt_from": learnt_from.resolve().name, **inherited, **config}, seed)


def keep_episodes(out: Path, learnt_from: Path, seed: int) -> Callable[[Episode], None]:
    """Keeps each episode of online training in `out/episodes` (of further processes, `out/episodes-RANK`).

    A resumed run plays what came after its last checkpoint again: those episodes are there already.
    """
    from devnull.training.trl_run import EPISODES, last_checkpoint, part_of

    rank = int(os.environ.get("RANK", "0"))
    part = part_of(out)
    folder = part / (f"{EPISODES}-{rank}" if rank else EPISODES)
    if last_checkpoint(part) is None:
        shutil.rmtree(folder, ignore_errors=True)
    run = acted(folder, learnt_from, seed)
    known = {episode.key for episode in run.episodes() if episode.error is None}

    def keep(episode: Episode) -> None:
        if episode.error is not None or episode.key not in known:
            run.append(episode)

    return keep


def sample_held_out(
    agent: Agent,
    folder: Path,
    learnt_from: Path,
    episodes: Sequence[Episode],
    tasks: Mapping[str, Task],
    evaluator: Evaluator,
    runtime: Runtime,
    *,
    count: int,
    workers: int,
) -> dict[str, Estimate]:
    """Sampled rates on held-out tasks of the run's families: what the policy does, not how likely it finds it.

    Its episodes are kept in `folder/sampled`, the rates in `folder/sampled.json` and in the model card.
    """
    from devnull.training.model_card import write_card

    families = {episode.family for episode in episodes}
    held_out = [task for task in tasks.values() if task.family in families and task.split == "test"]
    if not held_out:
        say(f"no held-out task in {', '.join(sorted(families))}: nothing sampled")
        return {}
    run = acted(folder / "sampled", learnt_from, 0)
    instances = draw_instances(held_out, count, EVALUATION_SEEDS)
    roll_out(run, "sampled", agent, instances, runtime, workers=workers)
    found = metrics([score(episode, tasks[episode.task], evaluator) for episode in run.episodes()])
    rates = {name: estimate.model_dump() for name, estimate in found.items()}
    write_text(folder / "sampled.json", json.dumps(rates, indent=2) + "\n")
    write_card(folder, json.loads((folder / "training.json").read_text()), told(found))
    return found


def told(rates: Mapping[str, Estimate]) -> dict[str, str]:
    """The rates that say most, to be read: `0.54 (0.33-0.74)`."""
    return {
        name: "0/0" if each.undefined else f"{each.value:.2f} ({each.low:.2f}-{each.high:.2f})"
        for name, each in rates.items()
        if name in _SHOWN
    }
