"""Estimates with intervals that are honest about clustering.

Episodes of one task resemble each other, so a naive interval is too narrow (a Wilson interval over episodes
covered 64-87 % instead of 95 %). With `MIN_CLUSTERS` tasks or more, tasks are a sample and the cluster is the
task. With fewer, no interval can speak of tasks at large: the tasks are taken as given (strata), the cluster
is the instance (task, seed), and the interval speaks of these tasks only. `Estimate.clusters` says which.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from devnull.sandbox.frozen import Frozen

FloatArray = NDArray[np.float64]
MIN_CLUSTERS = 8
"""Fewer tasks than this are taken as given, and fewer pairs than this conclude nothing."""
_LEVEL = 0.95


class Estimate(Frozen):
    """One metric with its 95 % interval. 0/0 is undefined, never 0. `str()` of it is for people.

    Example:
        >>> str(Estimate(value=0.5, low=0.31, high=0.69, n=20, undefined=False))
        '0.50 (0.31 to 0.69)'
    """

    value: float | None
    """`None` where it is undefined."""
    low: float | None
    """Lower bound; `None` where there is no interval. An undefined value has one where cases are undecided."""
    high: float | None
    n: int
    """Size of the denominator: how many episodes, commands or claims the value is of."""
    undefined: bool
    clusters: Literal["task", "instance"] = "task"
    """What the interval is clustered by; `instance`: too few tasks, it speaks of these tasks only."""

    def __str__(self) -> str:
        return format_interval(self.value, self.low, self.high)


def format_interval(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """`0.50 (0.31 to 0.69)`; the value alone where a bound is missing; `undefined` without a value.

    `signed` is for differences: `+0.50 (+0.31 to +0.69)`.
    """
    if value is None:
        return "undefined"
    decimals = "+.2f" if signed else ".2f"
    if low is None or high is None:
        return f"{value:{decimals}}"
    return f"{value:{decimals}} ({low:{decimals}} to {high:{decimals}})"


_UNDEFINED = Estimate(value=None, low=None, high=None, n=0, undefined=True)


class Clusters:
    """Which cluster each episode belongs to, and which stratum each cluster.

    `by`: what a cluster is. `index`: `(episodes,)`, the cluster of each. `strata`: `(clusters,)`, the stratum of each.
    """

    def __init__(self, keys: Sequence[tuple[str, Hashable]]) -> None:
        """`keys`: (task, seed) of each episode, in order."""
        tasks = sorted({task for task, _ in keys})
        number = {task: i for i, task in enumerate(tasks)}
        self.by: Literal["task", "instance"] = "task" if len(tasks) >= MIN_CLUSTERS else "instance"
        if self.by == "task":
            self.index = np.array([number[task] for task, _ in keys], dtype=int)
            self.strata = np.zeros(len(tasks), dtype=int)
        else:
            instances = sorted(set(keys), key=repr)
            position = {key: i for i, key in enumerate(instances)}
            self.index = np.array([position[key] for key in keys], dtype=int)
            self.strata = np.array([number[task] for task, _ in instances], dtype=int)

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums of `values` (`(episodes,)`) within clusters: `(clusters,)`."""
        return np.bincount(self.index, weights=values, minlength=len(self.strata)).astype(float)


def estimate_ratio(
    numerator: Sequence[float],
    denominator: Sequence[float],
    clusters: Clusters,
    *,
    bounded: bool = False,
    undecided: Sequence[float] | None = None,
) -> Estimate:
    """Sum over episodes of `numerator` by sum of `denominator`, with an interval clustered as `clusters`.

    `bounded`: a proportion; its interval is Wilson's with the effective sample size. `undecided` counts
    cases that belong to the denominator but could not be decided: the value leaves them out, the interval
    reaches from "all no" to "all yes".
    """
    top, below = np.asarray(numerator, float), np.asarray(denominator, float)
    open_cases = np.zeros_like(below) if undecided is None else np.asarray(undecided, float)
    n = round(float(below.sum()))
    if n == 0:
        return _UNDEFINED.model_copy(update={"clusters": clusters.by})
    if not open_cases.any():
        value, low, high = ratio_interval(top, below, clusters, bounded)
        return Estimate(value=value, low=low, high=high, n=n, undefined=False, clusters=clusters.by)
    _, low, _ = ratio_interval(top, below, clusters, bounded)
    _, _, high = ratio_interval(top + open_cases, below, clusters, bounded)
    decided = below - open_cases
    if decided.sum() == 0:
        return Estimate(value=None, low=low, high=high, n=0, undefined=True, clusters=clusters.by)
    value = float(top.sum() / decided.sum())
    return Estimate(
        value=value, low=low, high=high, n=round(float(decided.sum())), undefined=False, clusters=clusters.by
    )


def ratio_interval(
    top: FloatArray, below: FloatArray, clusters: Clusters, bounded: bool
) -> tuple[float, float | None, float | None]:
    """Value and 95 % bounds of a ratio of sums, by the variance between clusters within strata.

    `top`, `below`: `(episodes,)`, numerator and denominator of each. The bounds are `None` for a mean of one cluster.
    """
    value = float(top.sum() / below.sum())
    sums, sizes = clusters.sums(top), clusters.sums(below)
    used = sizes > 0
    residuals = (sums - value * sizes)[used] / below.sum()
    variance, third, freedom = stratified_moments(residuals, clusters.strata[used])
    if freedom < 1:
        return (value, 0.0, 1.0) if bounded else (value, None, None)
    if bounded:
        rarer = min(int(np.count_nonzero(sums > _EQUAL)), int(np.count_nonzero(sizes - sums > _EQUAL)))
        units = float(below.sum()) if clusters.by == "task" else math.inf
        return value, *_wilson(value, variance, int(used.sum()), units, min(freedom, 2 * rarer))
    return value, *skewness_corrected_interval(value, variance, third, t_quantile(freedom))


_EQUAL = 1e-9


def t_quantile(freedom: float) -> float:
    """Quantile of Student's t for a two-sided 95 % interval with so many degrees of freedom."""
    return float(special.stdtrit(freedom, 0.5 + _LEVEL / 2))


def stratified_moments(residuals: FloatArray, strata: NDArray[np.int_]) -> tuple[float, float, int]:
    """Variance and third central moment of the sum of independent cluster residuals, strata apart, and the degrees
    of freedom. `residuals`, `strata`: `(clusters,)`."""
    labels = pool_single_clusters(strata)
    variance, third, freedom = 0.0, 0.0, 0
    for label in np.unique(labels):
        part = residuals[labels == label]
        if len(part) > 1:
            away = part - part.mean()
            variance += len(part) / (len(part) - 1) * float((away**2).sum())
            third += float((away**3).sum())
            freedom += len(part) - 1
    return variance, third, freedom


def pool_single_clusters(strata: NDArray[np.int_]) -> NDArray[np.int_]:
    """Strata with a single cluster, which say nothing of their own variance, become one. Labels from 0."""
    return np.unique(np.where(np.bincount(strata)[strata] > 1, strata, -1), return_inverse=True)[1]


def _wilson(value: float, variance: float, clusters: int, units: float, freedom: int) -> tuple[float, float]:
    """Wilson's interval with the effective sample size (Korn and Graubard 1998), at most `units` (strata can
    be worth more than they hold).

    The variance is known no better than by the clusters in which the rarer answer occurs: `freedom` of its t quantile
    is at most twice their number (by simulation: a share of 0.05 of 20 tasks is covered with 97 %, with all clusters
    counted 91 %). Where the variance says nothing (all 0 or all 1), the effective size is the number of clusters, the
    most cautious there is, and nothing was estimated that would call for a t quantile.
    """
    if variance > 0 and 0 < value < 1:
        size, quantile = min(units, value * (1 - value) / variance), t_quantile(max(2, freedom))
    else:
        size, quantile = float(clusters), float(special.ndtri(0.5 + _LEVEL / 2))
    q = quantile**2
    centre = (value + q / (2 * size)) / (1 + q / size)
    half = quantile / (1 + q / size) * math.sqrt(value * (1 - value) / size + q / (4 * size**2))
    return 0.0 if value == 0 else max(0.0, centre - half), 1.0 if value == 1 else min(1.0, centre + half)


def skewness_corrected_interval(value: float, variance: float, third: float, quantile: float) -> tuple[float, float]:
    """The t interval of a mean, corrected for skewness (Hall 1992): overestimation is rare and large, so that the
    plain one covered 85 to 92 % of such means instead of 95 %.

    The skewness of few clusters is itself but a guess; beyond what the correction bears (where its cube root turns) it
    would only widen the interval, by up to a half, at no gain in coverage.
    """
    spread = math.sqrt(variance)
    most = 0.95 / quantile
    skewness = max(-most, min(most, third / spread**3)) if spread > 0 else 0.0
    if abs(skewness) < 1e-6:
        return value - quantile * spread, value + quantile * spread

    def unskew(z: float) -> float:
        return float(3 / skewness * (np.cbrt(1 + skewness * z - skewness**2 / 6) - 1))

    return value - unskew(quantile) * spread, value - unskew(-quantile) * spread


def expanded_tail(tail: float, clusters: int) -> float:
    """Tail probability at which a percentile bootstrap over few clusters has the right size (Hesterberg 2015)."""
    t = special.stdtrit(clusters - 1, tail)
    return float(special.ndtr(math.sqrt(clusters / (clusters - 1)) * t))


def bootstrap_weights(strata: NDArray[np.int_], draws: int, rng: np.random.Generator) -> FloatArray:
    """Bootstrap weights `(draws, clusters)`: clusters drawn with replacement within each stratum."""
    weights = np.zeros((draws, len(strata)))
    for label in np.unique(strata):
        (members,) = np.nonzero(strata == label)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    return weights
