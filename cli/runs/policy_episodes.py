"""Run folders nested in a policy's folder: `episodes/` (played while it was trained) or `sampled/` (on held-out tasks).

They are run folders like any other: `devnull replay`, `eval` and `report` take them.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_choice import EvaluatorChoice, RewardOptions
from devnull.cli.runs.rollouts import EVALUATION_SEEDS, draw_instances, roll_out_missing
from devnull.cli.runs.run_folder import RunFolder, open_run, read_run_config
from devnull.cli.runs.run_scores import open_scorer
from devnull.cli.terminal.progress import print_progress
from devnull.eval.scoring.metrics import compute_metrics, headlines
from devnull.eval.scoring.score import score
from devnull.eval.statistics import Estimate
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Task


def open_policy_run(
    folder: Path, learnt_from: Path, seed: int, rewards: RewardOptions = RewardOptions(), **config: Any
) -> RunFolder:
    """Opens a run folder for a policy's episodes, with the pH and the true rewards of the run it learnt from, but for
    the `rewards` asked for: they are judged alike."""
    there = read_run_config(learnt_from)
    inherited = ({"p_hide": there["p_hide"]} if "p_hide" in there else {}) | rewards.over(there)
    return open_run(folder, "train", {"learnt_from": learnt_from.resolve().name, **inherited, **config}, seed)


def episode_recorder(
    out: Path, learnt_from: Path, seed: int, rewards: RewardOptions = RewardOptions()
) -> Callable[[Episode], None]:
    """A callback that keeps each episode of online training in `out/episodes` (in process RANK above 0, in
    `out/episodes-RANK`).

    Training that goes on from a checkpoint plays again what came after it: episodes that are there are not kept twice.
    """
    from devnull.training.train_result import EPISODES_FOLDER, last_checkpoint, partial_folder

    rank = int(os.environ.get("RANK", "0"))
    part = partial_folder(out)
    folder = part / (f"{EPISODES_FOLDER}-{rank}" if rank else EPISODES_FOLDER)
    if last_checkpoint(part) is None:
        shutil.rmtree(folder, ignore_errors=True)
    run = open_policy_run(folder, learnt_from, seed, rewards)
    known = {episode.key for episode in run.episodes() if episode.error is None}

    def record(episode: Episode) -> None:
        if episode.error is not None or episode.key not in known:
            run.append(episode)

    return record


def batch_metrics(
    learnt_from: Path, rewards: RewardOptions = RewardOptions()
) -> Callable[[Sequence[Episode]], dict[str, float]]:
    """The metrics of a batch of training episodes that a model card shows, as `devnull eval OUT/episodes` would give
    them; without those that are undefined. Judged as the run that is learnt from is judged, whatever is rewarded."""
    asked = EvaluatorChoice(hiding_penalty=rewards.hiding_penalty, verbosity_cost=rewards.verbosity_cost)
    scorer = open_scorer(learnt_from, asked)

    def measure(episodes: Sequence[Episode]) -> dict[str, float]:
        estimates = compute_metrics([found for each in episodes if (found := scorer.score(each)) is not None])
        values = {metric.name: estimates[metric.name].value for metric in headlines("card")}
        return {name: value for name, value in values.items() if value is not None}

    return measure


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
    both_builds: bool,
    workers: int,
    rewards: RewardOptions = RewardOptions(),
) -> dict[str, Estimate]:
    """Rolls a trained policy out on held-out tasks of the run's families, and measures it by every metric.

    Keeps the episodes in `folder/sampled`, the estimates in `folder/sampled.json`, the main ones in the model card.
    Without a held-out task it does nothing and returns an empty dictionary.

    Args:
        folder: The policy's.
        learnt_from: The run that it was trained on.
        episodes: Those of that run.
        count: Episodes to sample.
        both_builds: Each instance under both builds (`draw_instances`). What else was sampled before stays in the
            folder, and is not measured.
        workers: Boxes at once.
        rewards: Those of `tasks`, where they are not the run's.
    """
    from devnull.training.model_card import write_model_card

    families = {episode.family for episode in episodes}
    held_out = [task for task in tasks.values() if task.family in families and task.split == "test"]
    if not held_out:
        print_progress(f"no held-out task in {', '.join(sorted(families))}: nothing sampled")
        return {}
    run = open_policy_run(folder / "sampled", learnt_from, 0, rewards)
    instances = draw_instances(held_out, count, EVALUATION_SEEDS, both_builds=both_builds)
    roll_out_missing(run, "sampled", agent, instances, runtime, workers=workers)
    wanted = {each.key for each in instances}
    sampled = [episode for episode in run.episodes() if episode.key[1:] in wanted]
    estimates = compute_metrics([score(episode, tasks[episode.task], evaluator) for episode in sampled])
    rates = {name: estimate.model_dump() for name, estimate in estimates.items()}
    write_atomically(folder / "sampled.json", json.dumps(rates, indent=2) + "\n")
    record = json.loads((folder / "training.json").read_text())
    write_model_card(folder, record, format_rates(estimates) | {"boxes": runtime.name})
    return estimates


def format_rates(rates: Mapping[str, Estimate]) -> dict[str, str]:
    """The rates of a model card, by name: `0.54 (0.33 to 0.74)`, or `undefined`."""
    return {metric.name: str(rates[metric.name]) for metric in headlines("card") if metric.name in rates}
