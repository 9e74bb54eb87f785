"""Differences between runs, paired by task: intervals, and p-values adjusted for multiple tests."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from devnull.eval.scoring.metrics import METRICS, Metric
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import (
    Clusters,
    FloatArray,
    ratio_interval,
    skewness_corrected_interval,
    stratified_moments,
    t_quantile,
)
from devnull.sandbox.frozen import Frozen

COMPARED_METRICS = tuple(metric for metric in METRICS if not metric.counts_errors)
"""All but the share of infrastructure failures."""
_DRAWS = 9999


class MetricDifference(Frozen):
    """One metric of one run minus that of the baseline."""

    metric: str
    baseline: float
    value: float
    difference: float
    low: float | None
    high: float | None
    p: float
    """Two-sided, by swapping the two runs within clusters at random (Fisher's randomisation test)."""
    p_holm: float
    """The same, adjusted for all tests of this comparison (Holm 1979)."""


class Comparison(Frozen):
    """One run beside the baseline, on the tasks that both have."""

    baseline: str
    run: str
    tasks: int
    left_out: int
    """Tasks that only one of the two has."""
    clusters: Literal["task", "instance"]
    changes: dict[str, MetricDifference]
    undefined: tuple[str, ...]
    """Metrics that one of the two does not have (0/0)."""


def compare(
    baseline: tuple[str, Sequence[Score]],
    runs: Sequence[tuple[str, Sequence[Score]]],
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> list[Comparison]:
    """Compares each run (a name and its scores) with the baseline on the tasks that both have.

    `names`: of metrics, by default all of `COMPARED_METRICS`. `seed`: of the randomisation tests.
    Holm's adjustment is over every p-value of the answer, all runs together.
    """
    metrics = [metric for metric in COMPARED_METRICS if names is None or metric.name in names]
    comparisons = [_compare_with_baseline(baseline, run, metrics, seed) for run in runs]
    adjusted = iter(adjust_holm([change.p for comparison in comparisons for change in comparison.changes.values()]))
    return [
        comparison.model_copy(
            update={
                "changes": {
                    name: change.model_copy(update={"p_holm": next(adjusted)})
                    for name, change in comparison.changes.items()
                }
            }
        )
        for comparison in comparisons
    ]


def _compare_with_baseline(
    baseline: tuple[str, Sequence[Score]], run: tuple[str, Sequence[Score]], metrics: Sequence[Metric], seed: int
) -> Comparison:
    theirs = [score for score in baseline[1] if score.error is None]
    ours = [score for score in run[1] if score.error is None]
    common = {score.task for score in ours} & {score.task for score in theirs}
    every = {score.task for score in ours} | {score.task for score in theirs}
    ours = [score for score in ours if score.task in common]
    theirs = [score for score in theirs if score.task in common]
    clusters = Clusters([(score.task, score.seed) for score in (*ours, *theirs)])
    changes, undefined = {}, []
    for metric in metrics:
        change = _difference(metric, ours, theirs, clusters, seed)
        if change is None:
            undefined.append(metric.name)
        else:
            changes[metric.name] = change
    return Comparison(
        baseline=baseline[0],
        run=run[0],
        tasks=len(common),
        left_out=len(every) - len(common),
        clusters=clusters.by,
        changes=changes,
        undefined=tuple(undefined),
    )


def _difference(
    metric: Metric, ours: Sequence[Score], theirs: Sequence[Score], clusters: Clusters, seed: int
) -> MetricDifference | None:
    """Ratio of sums of ours minus theirs; `None` where either is 0/0. Undecided cases are left out of both."""
    scores = (*ours, *theirs)
    mine = np.arange(len(scores)) < len(ours)
    top = np.array([metric.numerator(score) for score in scores], float)
    below = np.array([metric.denominator(score) for score in scores], float)
    if metric.undecided is not None:
        below -= np.array([metric.undecided(score) for score in scores], float)
    sums = np.stack([clusters.sums(part * side) for side in (mine, ~mine) for part in (top, below)], axis=1)
    if not (sums[:, 1].sum() and sums[:, 3].sum()):
        return None
    value, reference = _quotients(sums.sum(axis=0))
    low, high = _bounds(metric, top, below, mine, clusters)
    return MetricDifference(
        metric=metric.name,
        baseline=reference,
        value=value,
        difference=value - reference,
        low=low,
        high=high,
        p=randomisation_p_value(sums, np.random.default_rng(seed)),
        p_holm=1.0,
    )


def _quotients(sums: FloatArray) -> tuple[float, float]:
    return float(sums[0] / sums[1]), float(sums[2] / sums[3])


def _bounds(
    metric: Metric, top: FloatArray, below: FloatArray, mine: NDArray[np.bool_], clusters: Clusters
) -> tuple[float | None, float | None]:
    """95 % bounds of the difference.

    Of means, by the residuals of both within each cluster, which is where pairing earns its precision. Of shares, the
    two single intervals joined (Newcombe 1998, method 10), which still leaves room at 0 and 1, with the correlation
    of the two over clusters.
    """
    sides = []
    for side in (mine, ~mine):
        value, low, high = ratio_interval(top * side, below * side, clusters, metric.bounded)
        if low is None or high is None:
            return None, None
        residuals = clusters.sums((top - value * below) * side) / (below * side).sum()
        sides.append((value, low, high, residuals))
    (a, a_low, a_high, a_residuals), (b, b_low, b_high, b_residuals) = sides
    joint, third, freedom = stratified_moments(a_residuals - b_residuals, clusters.strata)
    if not metric.bounded:
        return skewness_corrected_interval(a - b, joint, third, t_quantile(freedom))
    spread = [stratified_moments(part, clusters.strata)[0] for part in (a_residuals, b_residuals)]
    correlation = (spread[0] + spread[1] - joint) / (2 * math.sqrt(spread[0] * spread[1])) if min(spread) > 0 else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x**2 + y**2 - 2 * correlation * x * y))

    return a - b - reach(a - a_low, b_high - b), a - b + reach(a_high - a, b - b_low)


def randomisation_p_value(sums: FloatArray, rng: np.random.Generator) -> float:
    """Two-sided p-value of the difference of quotients, the two runs swapped within each cluster at random.

    `sums`: `(clusters, 4)` of numerator and denominator, ours and theirs. All swaps are tried where they are few.
    """
    count = len(sums)
    if 2**count <= _DRAWS:
        swaps = ((np.arange(2**count)[:, None] >> np.arange(count)) & 1).astype(float)
        extra = 0
    else:
        swaps = rng.integers(0, 2, (_DRAWS, count)).astype(float)
        extra = 1
    moved = swaps @ (sums[:, [2, 3, 0, 1]] - sums) + sums.sum(axis=0)
    possible = (moved[:, 1] > 0.5) & (moved[:, 3] > 0.5)
    moved = moved[possible]
    differences = np.abs(moved[:, 0] / moved[:, 1] - moved[:, 2] / moved[:, 3])
    value, reference = _quotients(sums.sum(axis=0))
    extreme = np.count_nonzero(differences >= abs(value - reference) - 1e-12)
    return float((extreme + extra) / (len(moved) + extra))


def adjust_holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values (Holm 1979), in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted
