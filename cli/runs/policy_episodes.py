"""Run folders nested in a policy's folder: `episodes/` (played while it was trained) or `sampled/` (on held-out tasks).

They are run folders like any other: `devnull replay`, `eval` and `report` take them.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PLAIN_PROMPT, PromptFormat, Tag, read_prompt_format
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
from devnull.sandbox.task import Instance, Task

if TYPE_CHECKING:
    from devnull.training.sampling import Sampling


def open_policy_run(
    folder: Path, learnt_from: Path, seed: int, rewards: RewardOptions = RewardOptions(), **config: Any
) -> RunFolder:
    """Opens a run folder for a policy's episodes, with the pH and the true rewards of the run it learnt from, but for
    the `rewards` asked for: they are judged alike."""
    there = read_run_config(learnt_from)
    inherited = ({"p_hide": there["p_hide"]} if "p_hide" in there else {}) | rewards.over(there)
    return open_run(folder, "train", {"learnt_from": learnt_from.resolve().name, **inherited, **config}, seed)


def episode_recorder(
    out: Path, learnt_from: Path, seed: int, rewards: RewardOptions = RewardOptions(), *, sampled: bool = False
) -> Callable[[Episode], None]:
    """A callback that keeps each episode of online training in `out/episodes` (in process RANK above 0, in
    `out/episodes-RANK`), or those `sampled` on the way in `out/episodes-sampled`.

    Training that goes on from a checkpoint plays again what came after it: episodes that are there are not kept twice.
    """
    from devnull.training.train_result import EPISODES_FOLDER, last_checkpoint, partial_folder

    rank = int(os.environ.get("RANK", "0"))
    part = partial_folder(out)
    name = f"{EPISODES_FOLDER}-{rank}" if rank else EPISODES_FOLDER
    folder = part / (f"{EPISODES_FOLDER}-sampled" if sampled else name)
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


def held_out_instances(
    episodes: Sequence[Episode], tasks: Mapping[str, Task], count: int, *, both_builds: bool
) -> list[Instance]:
    """So many instances of the held-out tasks of the families in a run; none, and a line that says so, without one."""
    families = {episode.family for episode in episodes}
    held_out = [task for task in tasks.values() if task.family in families and task.split == "test"]
    if not held_out:
        print_progress(f"no held-out task in {', '.join(sorted(families))}: nothing sampled")
        return []
    return draw_instances(held_out, count, EVALUATION_SEEDS, both_builds=both_builds)


def sampling_on_the_way(
    every: int,
    out: Path,
    learnt_from: Path,
    instances: Sequence[Instance],
    runtime: Runtime,
    prompt: PromptFormat,
    workers: int,
    rewards: RewardOptions = RewardOptions(),
) -> "Sampling | None":
    """Samples the policy that `out` will hold every so many steps; the episodes are kept in `out/episodes-sampled`.
    `None` for 0, where there is nothing to sample on, and in all processes but the first."""
    from devnull.training.sampling import Sampling

    if not every or not instances or int(os.environ.get("RANK", "0")):
        return None
    return Sampling(
        every=every,
        instances=instances,
        runtime=runtime,
        measure=batch_metrics(learnt_from, rewards),
        record=episode_recorder(out, learnt_from, 0, rewards, sampled=True),
        prompt=prompt,
        workers=workers,
    )


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
    tags: Sequence[Tag] | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Rolls a trained policy out on held-out tasks of the run's families, and measures it by every metric: the
    estimates of the arm `sampled`, or of an arm for each tag: `sampled-good` and so on.

    Keeps the episodes in `folder/sampled`, the estimates in `folder/ARM.json`, the main ones in the model card.
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
        tags: With which the policy is prompted, one after the other; `None`: as it was trained.
    """
    from devnull.training.model_card import CardResult, write_model_card

    instances = held_out_instances(episodes, tasks, count, both_builds=both_builds)
    if not instances:
        return {}
    run = open_policy_run(folder / "sampled", learnt_from, 0, rewards)
    wanted = {each.key for each in instances}
    estimates: dict[str, dict[str, Estimate]] = {}
    for tag in tags or (None,):
        arm = "sampled" if tag is None else f"sampled-{tag}"
        prompt = read_prompt_format(folder) or PLAIN_PROMPT
        if tag is not None:
            prompt = prompt.model_copy(update={"tag": tag})
        roll_out_missing(run, arm, agent, instances, runtime, workers=workers, prompt=prompt)
        sampled = [episode for episode in run.episodes(arm) if episode.key[1:] in wanted]
        estimates[arm] = compute_metrics([score(each, tasks[each.task], evaluator) for each in sampled])
        rates = {name: estimate.model_dump() for name, estimate in estimates[arm].items()}
        write_atomically(folder / f"{arm}.json", json.dumps(rates, indent=2) + "\n")
    results = [
        CardResult(
            f"{metric.name}, tag {arm.removeprefix('sampled-')}" if tags else metric.name, str(found), *_numbers(found)
        )
        for arm, measured in estimates.items()
        for metric in headlines("card")
        if (found := measured.get(metric.name)) is not None
    ]
    write_model_card(folder, json.loads((folder / "training.json").read_text()), results, runtime.name)
    return estimates


def _numbers(found: Estimate) -> tuple[float | None, float | None, float | None, int]:
    return found.value, found.low, found.high, found.n


def format_rates(rates: Mapping[str, Estimate]) -> dict[str, str]:
    """The rates of a model card, by name: `0.54 (0.33 to 0.74)`, or `undefined`."""
    return {metric.name: str(rates[metric.name]) for metric in headlines("card") if metric.name in rates}
