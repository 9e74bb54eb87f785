"""Estimates with intervals that are honest about clustering.

Episodes of one task resemble each other, so a naive interval is too narrow (a Wilson interval over episodes
covered 64-87 % instead of 95 %). `eval/clusters.py` says what counts once, `eval/intervals.py` how far it reaches.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from devnull.eval.clusters import Clusters, FloatArray
from devnull.eval.intervals import Interval, mean_interval, share_interval
from devnull.sandbox.frozen import Frozen


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


def estimate_ratio(
    numerator: Sequence[float] | FloatArray,
    denominator: Sequence[float] | FloatArray,
    clusters: Clusters,
    *,
    bounded: bool = False,
    undecided: Sequence[float] | None = None,
    limits: Sequence[tuple[float, float]] | FloatArray | None = None,
    weights: Sequence[float] | FloatArray | None = None,
) -> Estimate:
    """Sum over episodes of `numerator` by sum of `denominator`, with an interval clustered as `clusters`.

    Args:
        bounded: A proportion; its interval is Wilson's. Without it: a mean.
        undecided: Counts cases that belong to the denominator but could not be decided: the value leaves them out, the
            interval reaches from "all no" to "all yes".
        limits: `(episodes, 2)`, of a mean: the least and the greatest that each episode's value can be. What was never
            seen may still be that large; without limits it is taken for no larger than what was.
        weights: Of the episodes, as `build_weights` and `pair_weights` make them. `n` counts what has one, and not what
            it is.
    """
    top, below = np.asarray(numerator, float), np.asarray(denominator, float)
    open_cases = np.zeros_like(below) if undecided is None else np.asarray(undecided, float)
    w = np.ones_like(below) if weights is None else np.asarray(weights, float)
    counted = below * (w > 0)
    n = round(float(counted.sum()))
    if n == 0:
        return _UNDEFINED.model_copy(update={"clusters": clusters.by})
    edges = None if limits is None else np.asarray(limits, float)
    pairs = None if edges is None else (edges[:, 0], edges[:, 1])

    def interval(numbers: FloatArray) -> Interval:
        if bounded:
            return share_interval(numbers, below, clusters, w)
        return mean_interval(numbers, below, clusters, pairs, w)

    if not open_cases.any():
        value, low, high = interval(top)
        return Estimate(value=value, low=low, high=high, n=n, undefined=False, clusters=clusters.by)
    _, low, _ = interval(top)
    _, _, high = interval(top + open_cases)
    decided = w * (below - open_cases)
    if decided.sum() == 0:
        return Estimate(value=None, low=low, high=high, n=0, undefined=True, clusters=clusters.by)
    value = float((w * top).sum() / decided.sum())
    n = round(float((counted - open_cases * (w > 0)).sum()))
    return Estimate(value=value, low=low, high=high, n=n, undefined=False, clusters=clusters.by)
