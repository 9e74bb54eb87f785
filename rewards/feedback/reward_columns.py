"""The unknowns of reward inference: one reward for each ending of each stage, and how they are named."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from devnull.sandbox.task import Task, Truth
from devnull.theory.pomdp import Array

RewardColumn = tuple[str, str, Truth]
"""Family (or the task, where the tasks of a family have different rewards), stage, ending."""

_ENDING_NAMES = {
    Truth.NOT_ATTEMPTED: "never tried",
    Truth.INSTALLED: "works",
    Truth.INSTALLED_VERBOSE: "works, with a long log",
    Truth.BROKEN: "failed and showed it",
    Truth.BROKEN_HIDDEN: "failed and hid",
    Truth.BROKEN_VERBOSE: "failed, with a long log",
}


def reward_group(task: Task, stage: str, tasks: Mapping[str, Task]) -> str:
    """The first part of a `RewardColumn`: the family, where all its stages of that name have the same rewards; else the
    task."""
    others = {s.rewards for t in tasks.values() if t.family == task.family for s in t.stages if s.name == stage}
    return task.family if len(others) == 1 else task.name


def group_by_stage(columns: Sequence[RewardColumn]) -> list[list[int]]:
    """Indices of the columns that belong to one stage, for each stage."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, (group, stage, _) in enumerate(columns):
        groups.setdefault((group, stage), []).append(i)
    return list(groups.values())


def true_rewards(columns: Iterable[RewardColumn], tasks: Mapping[str, Task]) -> dict[RewardColumn, float]:
    """The tasks' own rewards of these endings, to compare inferred ones with."""
    return {
        (group, name, truth): next(
            stage.rewards.reward(truth)
            for task in tasks.values()
            if group in (task.family, task.name)
            for stage in task.stages
            if stage.name == name
        )
        for group, name, truth in columns
    }


def describe_difference(one: RewardColumn, other: RewardColumn) -> str:
    """Two endings of one stage in words: `driver-cuda, cuda: failed and hid against never tried`."""
    return f"{one[0]}, {one[1]}: {_ENDING_NAMES[one[2]]} against {_ENDING_NAMES[other[2]]}"


def describe_direction(columns: Sequence[RewardColumn], direction: Array) -> str:
    """A direction `(k,)` in the space of rewards in words, as `describe_difference`, with weights where they differ."""
    even = bool(np.allclose(np.abs(direction[direction != 0]), 1.0))
    places = {(group, stage) for (group, stage, _), value in zip(columns, direction, strict=True) if value}
    one_stage = len(places) == 1

    def side(sign: int) -> str:
        terms = []
        for (group, stage, truth), value in zip(columns, direction, strict=True):
            if value * sign > 0:
                name = _ENDING_NAMES[truth] if one_stage else f"{group}, {stage}: {_ENDING_NAMES[truth]}"
                terms.append(name if even else f"{abs(value):.3g} x {name}")
        return " and ".join(terms) or "nothing"

    where = ", ".join(next(iter(places))) + ": " if one_stage else ""
    return f"{where}{side(1)} against {side(-1)}"
