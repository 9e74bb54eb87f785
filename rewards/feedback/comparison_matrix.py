"""Comparisons as a logistic regression in the rewards: the evaluator's beliefs in both sides, and who won."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from devnull.agents.episode import Episode, EpisodeKey
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.comparisons import Preference, judge_again
from devnull.rewards.feedback.reward_columns import RewardColumn, reward_group
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.theory.pomdp import Array


@dataclass(frozen=True, eq=False)
class ComparisonMatrix:
    """Distinct comparisons as rows (n) over rewards (k): P(the one side is chosen) = σ(X θ)."""

    columns: tuple[RewardColumn, ...]
    """Endings that at least one belief gives a probability; the others were never judged."""
    X: Array
    """`(n, k)`: believed probabilities of the one side minus the other's, times β."""
    wins: Array
    """`(n,)`: how often the one side was chosen."""
    losses: Array
    """`(n,)`: how often the other side was chosen."""


def build_comparison_matrix(
    preferences: Iterable[Preference], episodes: Iterable[Episode], evaluator: Evaluator, tasks: Mapping[str, Task]
) -> ComparisonMatrix:
    """What the evaluator believed of both sides of each preference, worked out again from the episodes.

    Raises `InputError` for unknown episodes, and where there are no preferences.
    """
    known = {episode.key: episode for episode in episodes}
    betas = {member.name: member.beta for member in evaluator.members}
    beliefs: dict[tuple[EpisodeKey, str, bool], dict[RewardColumn, float]] = {}

    def believed(key: EpisodeKey, preference: Preference) -> dict[RewardColumn, float]:
        at = (key, preference.evaluator, preference.audited)
        if at not in beliefs:
            judged = judge_again(preference, key, known, evaluator, tasks)
            task = tasks[known[key].task]
            beliefs[at] = {
                (reward_group(task, stage, tasks), stage, truth): p
                for stage, chances in judged.belief.stages.items()
                for truth, p in chances.items()
            }
        return beliefs[at]

    sides = [(believed(p.chosen_key, p), believed(p.rejected_key, p), betas[p.evaluator]) for p in preferences]
    if not sides:
        raise InputError("no preferences to learn from; make some with `devnull label`")
    columns = tuple(sorted({column for a, b, _ in sides for column in (*a, *b)}))
    rows: dict[tuple[float, ...], list[int]] = {}
    for a, b, beta in sides:
        row = tuple(round(beta * (a.get(c, 0.0) - b.get(c, 0.0)), 12) + 0.0 for c in columns)
        flipped = tuple(-x + 0.0 for x in row)
        if row >= flipped:
            rows.setdefault(row, [0, 0])[0] += 1
        else:
            rows.setdefault(flipped, [0, 0])[1] += 1
    counts = np.array(list(rows.values()), float)
    return ComparisonMatrix(columns, np.array(list(rows), float), counts[:, 0], counts[:, 1])
