"""Draws the instances of a run and rolls out those of which it has no finished episode yet."""

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import cycle
from pathlib import Path

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PromptFormat
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.cli.runs.agent_choice import ModelOptions, choose_agent
from devnull.cli.runs.run_folder import RunFolder, open_run, sort_episodes
from devnull.cli.terminal.progress import print_progress, progress_bar
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.runtimes.world_memory import WORLD_FILE
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.tasks import find_task, load_tasks

TRAINING_SEEDS = 0
"""First seed of instances that may be trained on."""
EVALUATION_SEEDS = 10_000_000
"""First seed of instances never trained on."""
SEEDS_PER_RUN = 100_000
"""A run with `--seed N` moves the first seed of its instances by N times this, so that seeds share no instance."""


def draw_instances(
    tasks: Iterable[Task], count: int, first_seed: int, *, group: int = 1, both_builds: bool = False
) -> list[Instance]:
    """`count` instances of the tasks in turn: seeds from `first_seed` on, each with `group` samples.

    Args:
        both_builds: Each (task, seed, sample) under both builds, side by side, by the same draws; an odd count becomes
            the next even one. Those that the seeds draw are among them, by the names that they have without this.

    >>> [(each.seed, each.sample) for each in draw_instances(tasks, 4, 100, group=2)]
    [(100, 0), (100, 1), (101, 0), (101, 1)]
    >>> [(each.seed, each.build) for each in draw_instances(tasks, 3, 100, both_builds=True)]
    [(100, 'ok'), (100, 'faulty'), (101, 'ok'), (101, 'faulty')]
    """
    drawn: list[Instance] = []
    for seed, task in enumerate(cycle(list(tasks)), first_seed):
        for sample in range(group):
            if len(drawn) >= count:
                return drawn
            instance = Instance(task=task, seed=seed, sample=sample)
            drawn += instance.builds if both_builds else [instance]
    return drawn


def choose_tasks(names: Sequence[str], split: str, tasks: dict[str, Task]) -> list[Task]:
    """The tasks of a split by name, family or pattern (`driver-*`), in the order of `names`; without names, all.

    Raises `InputError` for an unknown name, and where none of them is in the split.
    """
    chosen: dict[str, Task] = {}
    for name in names or tasks:
        matching = [task for task in tasks.values() if name == task.family or fnmatchcase(task.name, name)]
        for task in matching or [find_task(name, tasks)]:
            chosen[task.name] = task
    kept = [task for task in chosen.values() if split in ("all", task.split)]
    if not kept:
        raise InputError(f"none of {', '.join(chosen)} is in the {split} split; pass --split all")
    return kept


def missing_instances(run: RunFolder, arm: str, instances: Sequence[Instance]) -> list[Instance]:
    """Those of which `arm` has no finished episode in the run; one that an infrastructure failure ended is missing."""
    done = {episode.key for episode in run.episodes(arm) if episode.error is None}
    return [each for each in instances if (arm, *each.key) not in done]


def roll_out_missing(
    run: RunFolder,
    arm: str,
    agent: Agent,
    instances: Sequence[Instance],
    runtime: Runtime,
    *,
    workers: int,
    prompt: PromptFormat | None = None,
) -> None:
    """Rolls out the instances that `arm` lacks, appends each episode to the run as it ends, and shows the progress.

    Args:
        workers: How many boxes run at once.
        prompt: How the agent is prompted; by default as it was trained.
    """
    missing = missing_instances(run, arm, instances)
    if not missing:
        return
    options = RolloutOptions(workers=workers, prompt=prompt)
    with progress_bar() as bar:
        row = bar.add_task(f"rollouts: {arm}", total=len(instances), completed=len(instances) - len(missing))
        for episode in rollout(agent, missing, runtime, arm=arm, options=options):
            run.append(episode)
            if episode.error is None:
                bar.advance(row)
            else:
                print_progress(f"infrastructure failure, tried anew: {episode.error.kind}: {episode.error.message}")


def describe_silence(agent: str, episodes: Iterable[Episode]) -> str:
    """One line on an agent that emitted no valid action in these episodes; empty for any other."""
    turns = [turn for episode in episodes for turn in episode.transcript.turns]
    if not turns or any(turn.valid for turn in turns):
        return ""
    return (
        f"{agent} emitted no action in {len(turns)} messages (the first: {turns[0].text[:60]!r}); the episodes are "
        f"kept; fine-tune it first (devnull train sft), or take another model"
    )


def collect_episodes(
    agent: str | Agent,
    names: Sequence[str],
    *,
    split: str,
    episodes: int,
    group: int,
    both_builds: bool,
    seed: int,
    runtime: str,
    workers: int,
    out: Path | None,
) -> list[Episode]:
    """The episodes of `devnull.rollout`, kept in the run folder `out` if there is one. See there."""
    for word, count in (("episodes", episodes), ("group", group)):
        if count < 1:
            raise InputError(f"{word} is {count}; it must be at least 1")
    tasks = choose_tasks(names, split, load_tasks())
    instances = draw_instances(tasks, episodes, seed * SEEDS_PER_RUN, group=group, both_builds=both_builds)
    name = agent if isinstance(agent, str) else agent.name
    config = {"agent": name, "tasks": list(names), "split": split, "episodes": episodes, "group": group, "seed": seed}
    config["builds"] = "both" if both_builds else "drawn"
    run = None if out is None else open_run(out, "rollout", config, seed)
    missing = instances if run is None else missing_instances(run, name, instances)
    collected = [] if run is None else run.episodes(name)
    failed = Counter(episode.key for episode in collected if episode.error)
    if missing:
        actor = choose_agent(agent, ModelOptions(), workers, missing) if isinstance(agent, str) else agent
        options = RolloutOptions(workers=workers, concurrent=name.startswith("openai:"))
        boxes = open_runtime(runtime, print_progress, memory=None if out is None else out / WORLD_FILE)
        for played in rollout(actor, missing, boxes, arm=name, options=options):
            episode = played.model_copy(update={"attempt": played.attempt + failed[played.key]})
            collected.append(episode)
            if run is not None:
                run.append(episode)
    return sort_episodes(collected)
