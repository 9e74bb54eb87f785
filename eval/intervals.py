"""Intervals of shares and means from clusters: Wilson's, Hall's, and one for values that are mostly the same.

Each was chosen by simulation (`devnull bench statistics`; docs/metrics.md holds its table) where the textbook's covers
too little: tasks are few, what is measured is rare, and where it comes it is large.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from devnull.eval.clusters import Clusters, FloatArray, stratified_moments

TWO_SIDED = 0.975
"""Quantile at each end of a 95 % interval."""
ONE_SIDED = 0.95
"""Quantile of a one-sided 95 % bound."""
_LEAST_ICC = 0.2
"""Intraclass correlation that is assumed at least: few tasks cannot show that it is less."""
_RARE = 0.25
"""Up to this share of the episodes, what differs from the usual value is rare: t intervals don't cover its mean."""
_EQUAL = 1e-9


class Interval(NamedTuple):
    """A value and its 95 % bounds; `None` where there is too little to tell."""

    value: float
    low: float | None
    high: float | None


def t_quantile(freedom: float, level: float = TWO_SIDED) -> float:
    """Quantile of Student's t with so many degrees of freedom."""
    return float(special.stdtrit(freedom, level))


def wilson_interval(value: float, size: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval of a share, from the effective sample size (Korn and Graubard 1998)."""
    q = quantile**2
    centre = (value + q / (2 * size)) / (1 + q / size)
    half = quantile / (1 + q / size) * math.sqrt(value * (1 - value) / size + q / (4 * size**2))
    return 0.0 if value == 0 else max(0.0, centre - half), 1.0 if value == 1 else min(1.0, centre + half)


def share_interval(
    top: FloatArray, below: FloatArray, clusters: Clusters, weights: FloatArray | None = None, level: float = TWO_SIDED
) -> Interval:
    """A share, sum of `top` by sum of `below` (`(episodes,)`, weighted), with Wilson's interval.

    The effective sample size is that of the estimated intraclass correlation, but of 0.2 at least; the t quantile has
    Satterthwaite's degrees of freedom, since only the part of the variance that lies between tasks is known no better
    than tasks are many. So 0 of 8 tasks × 6 episodes is 0.00 (0.00 to 0.15). Of few given tasks the variance between
    instances, within tasks, says it all, and is known no better than by the instances with the rarer answer.
    """
    w = np.ones_like(below) if weights is None else weights
    whole = float((w * below).sum())
    value = float((w * top).sum()) / whole
    sums, sizes = clusters.sums(w * top), clusters.sums(w * below)
    used = sizes > 0
    variance, _, freedom = stratified_moments((sums - value * sizes)[used] / whole, clusters.strata[used])
    if freedom < 1:
        return Interval(value, 0.0, 1.0)
    certain = variance <= _EQUAL**2 or not _EQUAL < value < 1 - _EQUAL
    value = min(1.0, max(0.0, value))
    if clusters.by == "instance":
        if certain:
            return Interval(value, *wilson_interval(value, float(used.sum()), float(special.ndtri(level))))
        rarer = min(int(np.count_nonzero(sums > _EQUAL)), int(np.count_nonzero(sizes - sums > _EQUAL)))
        quantile = t_quantile(max(2, min(freedom, 2 * rarer)), level)
        return Interval(value, *wilson_interval(value, value * (1 - value) / variance, quantile))
    units = whole**2 / float((w**2 * below).sum())
    per_cluster = max(1.0, float((sizes**2).sum()) / whole**2 * units)
    correlation = _LEAST_ICC
    if not certain and per_cluster > 1 + _EQUAL:
        effect = variance * units / (value * (1 - value))
        correlation = min(1.0, max(_LEAST_ICC, (effect - 1) / (per_cluster - 1)))
    design_effect = 1 + (per_cluster - 1) * correlation
    between = per_cluster * correlation / design_effect if per_cluster > 1 + _EQUAL else 1.0
    quantile = t_quantile(freedom / between**2, level)
    return Interval(value, *wilson_interval(value, units / design_effect, quantile))


def unseen_share(clusters: int, per_cluster: float, level: float = TWO_SIDED) -> float:
    """Upper bound of a share that occurred in none of so many clusters of so many episodes each."""
    size = clusters * per_cluster / (1 + (per_cluster - 1) * _LEAST_ICC)
    return wilson_interval(0.0, size, float(special.ndtri(level)))[1]


def mean_interval(
    top: FloatArray,
    below: FloatArray,
    clusters: Clusters,
    limits: tuple[FloatArray, FloatArray] | None = None,
    weights: FloatArray | None = None,
) -> Interval:
    """A mean, sum of `top` by sum of `below` (`(episodes,)`, weighted), with its 95 % interval.

    Where one value holds for three quarters of the episodes or more (no overestimation, say), the rest is bounded as a
    share times a size. Otherwise it is the t interval corrected for skewness (Hall 1992).

    `limits`: the least and the greatest that each episode's value can be; by default those seen.
    """
    w = below if weights is None else below * weights
    whole = float(w.sum())
    value = float((w * np.divide(top, below, out=np.zeros_like(top), where=below > 0)).sum()) / whole
    known = w > 0
    each = top[known] / below[known]
    levels, place = np.unique(np.round(each, 9), return_inverse=True)
    held = np.bincount(place, weights=w[known])
    if held.max() >= (1 - _RARE) * whole - _EQUAL:
        usual = float(levels[held.argmax()])
        least, greatest = (each, each) if limits is None else (limits[0][known], limits[1][known])
        gaps = np.where(known, np.divide(top, below, out=np.full_like(top, usual), where=below > 0) - usual, 0.0)
        above = _rare_gap(np.maximum(gaps, 0), w, clusters, float(greatest.max()) - usual)
        beneath = _rare_gap(np.maximum(-gaps, 0), w, clusters, usual - float(least.min()))
        if above is None or beneath is None:
            return Interval(value, None, None)
        low = math.hypot(above.value - above.low, beneath.high - beneath.value)
        high = math.hypot(above.high - above.value, beneath.value - beneath.low)
        return Interval(value, value - low, value + high)
    sums, sizes = clusters.sums(w * np.divide(top, below, out=np.zeros_like(top), where=below > 0)), clusters.sums(w)
    used = sizes > 0
    variance, third, freedom = stratified_moments((sums - value * sizes)[used] / whole, clusters.strata[used])
    if freedom < 1 or variance <= _EQUAL**2:  # what is the same in all of few episodes need not be so in more
        return Interval(value, None, None)
    return Interval(value, *skewness_corrected_interval(value, variance, third, t_quantile(freedom)))


class _Bounds(NamedTuple):
    value: float
    low: float
    high: float


def _rare_gap(gaps: FloatArray, w: FloatArray, clusters: Clusters, largest: float) -> _Bounds | None:
    """Bounds of the mean of gaps that are mostly 0 and at most `largest`: share above 0 times mean size, their
    intervals joined (MOVER, Zou 2008).

    What the next gap would be worth, nobody knows until some were seen: the size that the share's upper bound is
    multiplied with is the mean of those seen and one more, the largest. `gaps`, `w`: `(episodes,)`.
    """
    positive = (gaps > _EQUAL).astype(float)
    share = share_interval(positive * (w > 0), (w > 0).astype(float), clusters, w)
    if share.low is None or share.high is None or not _several(w, clusters):
        return None
    count = float(np.count_nonzero(positive * w))
    if count == 0:
        return _Bounds(0.0, 0.0, share.high * max(0.0, largest))
    weight = float((w * positive).sum())
    size = float((w * gaps).sum()) / weight
    largest = max(largest, float(gaps.max()))
    one_more = (largest - size) / (count + 1)
    residuals = clusters.sums(w * positive * (gaps - size)) / weight
    used = clusters.sums(w * positive) > 0
    variance, _, freedom = stratified_moments(residuals[used], clusters.strata[used])
    reach = t_quantile(freedom) * math.sqrt(variance) if freedom >= 1 else size
    mean = share.value * size
    low = math.hypot(size * (share.value - share.low), share.value * min(reach, size))
    high = math.hypot(
        size * (share.high - share.value),
        share.value * min(max(reach, one_more), largest - size),
        share.high * one_more,
    )
    return _Bounds(mean, max(0.0, mean - low), mean + high)


def _several(w: FloatArray, clusters: Clusters) -> bool:
    """More than one cluster to tell a variance from."""
    return int(np.count_nonzero(clusters.sums(w) > 0)) > 1


def skewness_corrected_interval(value: float, variance: float, third: float, quantile: float) -> tuple[float, float]:
    """The t interval of a mean, corrected for skewness (Hall 1992).

    The skewness of few clusters is itself but a guess; beyond what the correction bears (where its cube root turns) it
    would only widen the interval, by up to a half, at no gain in coverage.
    """
    spread = math.sqrt(variance)
    most = 0.95 / quantile
    skewness = max(-most, min(most, third / spread**3)) if spread > 0 else 0.0
    return value - float(unskew(quantile, skewness)) * spread, value - float(unskew(-quantile, skewness)) * spread


def unskew(z: float, skewness: ArrayLike) -> FloatArray:
    """Hall's transformation, inverted: the studentised mean that a quantile `z` stands for, where the mean has this
    skewness (any shape)."""
    bent = np.asarray(skewness, float)
    straight = np.abs(bent) < 1e-6
    safe = np.where(straight, 1.0, bent)
    return np.where(straight, z, 3 / safe * (np.cbrt(1 + safe * z - safe**2 / 6) - 1))
