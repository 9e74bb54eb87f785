"""Steps that commands share: draw instances, roll out what a run still owes, show progress."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import TYPE_CHECKING

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode
from devnull.agents.rollout import rollout
from devnull.cli.runs.folder import Run
from devnull.cli.terminal.console import progress
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance, Task

if TYPE_CHECKING:
    from devnull.training.trl_run import OnStep

TRAINING_SEEDS = 0
EVALUATION_SEEDS = 10_000_000
"""First seed of instances never trained on. A run's own seed moves both by `SEEDS_PER_RUN` a step."""
SEEDS_PER_RUN = 100_000


def say(message: str) -> None:
    """A plain line of progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def draw_instances(tasks: Iterable[Task], count: int, first_seed: int, *, group: int = 1) -> list[Instance]:
    """What `count` episodes meet: the tasks in turn, each instance with a seed of its own and `group` samples."""
    turns = enumerate(islice(cycle(list(tasks)), -(-count // group)), first_seed)
    return [Instance(task=task, seed=seed, sample=n) for seed, task in turns for n in range(group)][:count]


def with_hiding_penalty(task: Task, penalty: float) -> Task:
    """The same task, hiding a failure costing `penalty` at every stage."""
    stages = [
        stage.model_copy(update={"rewards": stage.rewards.model_copy(update={"hiding_penalty": penalty})})
        for stage in task.stages
    ]
    return task.model_copy(update={"stages": tuple(stages)})


def roll_out(
    run: Run, arm: str, agent: Agent, instances: Sequence[Instance], runtime: Runtime, *, workers: int
) -> None:
    """Appends the episodes that `arm` still owes, and shows how far it is."""
    owed = owed_instances(run, arm, instances)
    if not owed:
        return
    with progress() as bar:
        row = bar.add_task(f"rollouts: {arm}", total=len(instances), completed=len(instances) - len(owed))
        for episode in rollout(agent, owed, runtime, arm=arm, workers=workers):
            run.append(episode)
            if episode.error is None:
                bar.advance(row)
            else:
                say(f"infrastructure failure, tried anew: {episode.error.kind}: {episode.error.message}")


def check_acts(name: str, episodes: Iterable[Episode]) -> None:
    """Raises `InputError` for an agent none of whose messages was an action. Its episodes stay as they are."""
    turns = [turn for episode in episodes for turn in episode.transcript.turns]
    if turns and not any(turn.valid for turn in turns):
        raise InputError(
            f"{name} emitted no action in {len(turns)} messages (the first: {turns[0].text[:60]!r}); the episodes are "
            f"kept; fine-tune it first (devnull train sft), or take another model"
        )


def owed_instances(run: Run, arm: str, instances: Sequence[Instance]) -> list[Instance]:
    """Those without a finished episode in the run."""
    done = {episode.key for episode in run.episodes(arm) if episode.error is None}
    return [each for each in instances if (arm, each.task.name, each.seed, each.sample) not in done]


@contextmanager
def training_progress(*names: str) -> "Iterator[dict[str, OnStep]]":
    """A bar over optimiser steps for each, with the loss; elsewhere than on a terminal, a line for every tenth of the
    way."""
    with progress() as bar:

        def row(name: str) -> "OnStep":
            number = bar.add_task(f"training: {name}", total=None)

            def on_step(step: int, steps: int, logged: Mapping[str, float]) -> None:
                loss = f" (loss {logged['loss']:.3f})" if "loss" in logged else ""
                bar.update(number, completed=step, total=steps, description=f"training: {name}{loss}")
                if not sys.stderr.isatty() and step * 10 // steps > (step - 1) * 10 // steps:
                    say(f"training: {name}: step {step} of {steps}{loss}")

            return on_step

        yield {name: row(name) for name in names}
