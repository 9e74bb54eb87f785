"""Which episodes belong together: those of one task resemble each other, so a task counts once.

With `MIN_CLUSTERS` tasks or more, tasks are a sample and the cluster is the task. With fewer, no interval can speak of
tasks at large: the tasks are taken as given (strata), the cluster is the instance (task, seed), and what is said is
said of these tasks only.
"""

from collections.abc import Hashable, Sequence
from itertools import compress
from operator import not_
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
MIN_CLUSTERS = 8
"""Fewer tasks than this are taken as given, and fewer pairs than this conclude nothing."""


class Clusters:
    """Which cluster each episode belongs to, and which stratum each cluster.

    `by`: what a cluster is. `index`: `(episodes,)`, the cluster of each. `strata`: `(clusters,)`, the stratum of each.
    """

    def __init__(self, keys: Sequence[tuple[str, Hashable]], builds: Sequence[bool] | None = None) -> None:
        """`keys`: (task, seed) of each episode, in order.

        `builds`: whether each met the faulty build. Then the instances of a few given tasks that met one build, the
        other, or both are strata of their own, as weights by build want it (`build_weights`); it makes no difference
        where tasks are the clusters.
        """
        tasks = sorted({task for task, _ in keys})
        self.by: Literal["task", "instance"] = "task" if len(tasks) >= MIN_CLUSTERS else "instance"
        if self.by == "task":
            self.index = _number([task for task, _ in keys])
            self.strata = np.zeros(len(tasks), dtype=int)
            return
        met: dict[tuple[str, Hashable], set[bool]] = {key: set() for key in keys}
        for key, build in zip(keys, builds if builds is not None else [False] * len(keys), strict=True):
            met[key].add(build)
        self.index = _number(keys)
        self.strata = np.zeros(len(met), dtype=int)
        self.strata[self.index] = _number([(key[0], tuple(sorted(met[key]))) for key in keys])

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums of `values` (`(episodes,)`) within clusters: `(clusters,)`."""
        return np.bincount(self.index, weights=values, minlength=len(self.strata)).astype(float)


def _number(keys: Sequence[Hashable]) -> NDArray[np.int_]:
    """Each key's place among the different ones, in the order of their text."""
    place = {key: i for i, key in enumerate(sorted(set(keys), key=repr))}
    return np.array([place[key] for key in keys], dtype=int)


class Moments(NamedTuple):
    """Of a sum over clusters."""

    variance: float
    third: float
    """Third central moment."""
    freedom: int
    """Degrees of freedom of the variance; below 1 nothing is known of it."""


def stratified_moments(residuals: FloatArray, strata: NDArray[np.int_]) -> Moments:
    """Moments of the sum of independent cluster residuals, strata apart. `residuals`, `strata`: `(clusters,)`."""
    labels = pool_single_clusters(strata)
    counts = np.bincount(labels) if len(labels) else np.zeros(0, int)
    means = np.bincount(labels, weights=residuals) / np.maximum(counts, 1) if len(labels) else np.zeros(0)
    away = residuals - means[labels]
    inflation = (counts / np.maximum(counts - 1, 1))[labels]
    variance = float((inflation * away**2).sum())
    return Moments(variance, float((away**3).sum()), int(np.maximum(counts - 1, 0).sum()))


def pool_single_clusters(strata: NDArray[np.int_]) -> NDArray[np.int_]:
    """Strata with a single cluster, which say nothing of their own variance, become one. Labels from 0."""
    if not strata.any():  # one stratum, the usual case
        return strata
    return np.unique(np.where(np.bincount(strata)[strata] > 1, strata, -1), return_inverse=True)[1]


def pair_weights(keys: Sequence[Hashable], faulty: Sequence[bool], p: Sequence[float | None]) -> FloatArray:
    """Weights `(episodes,)` under which an instance that was played under both builds counts as the world draws it.

    Twice the probability of its build for each episode of such a pair, so that a pair counts as two episodes, whatever
    they met; 1 where one build was met, for that one was drawn, and where the probability is not known.

    Args:
        keys: What tells an instance of an arm from others, but for its build.
        faulty: Whether each episode met the faulty build.
        p: Probability of the faulty build of its task.
    """
    paired = set(compress(keys, faulty)) & set(compress(keys, map(not_, faulty)))
    if not paired:
        return np.ones(len(keys))
    return np.array(
        [
            1.0 if chance is None or key not in paired else 2 * (chance if build else 1 - chance)
            for key, build, chance in zip(keys, faulty, p, strict=True)
        ]
    )


def build_weights(tasks: Sequence[str], faulty: Sequence[bool], p: Sequence[float]) -> FloatArray:
    """Weights `(episodes,)` under which each task's two builds count as often as they are drawn, whatever was drawn.

    Half and more of the variance of an arm's mean return is the luck of that draw. A weighted mean of a task is
    Σ_build p_build · mean_build; the weights of a task sum to its episodes, so that tasks weigh what they weighed.
    A task of which only one build was met, though both can be, cannot be weighed: its weights are 0.

    Args:
        tasks: Of each episode.
        faulty: Whether it met the faulty build.
        p: Probability of the faulty build of its task.
    """
    task, build = _number(list(tasks)), np.asarray(faulty, int)
    chance = np.where(build == 1, np.asarray(p, float), 1 - np.asarray(p, float))
    met = np.bincount(2 * task + build, minlength=2 * (int(task.max(initial=-1)) + 1)).reshape(-1, 2)
    weights = chance * met.sum(axis=1)[task] / met[task, build]
    whole = np.bincount(task, weights=chance / met[task, build])[task]
    return np.where(np.abs(whole - 1) < 1e-9, weights, 0.0)
