"""Differences between runs, paired by task: intervals, and p-values adjusted for multiple tests."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from devnull.eval.clusters import Clusters, FloatArray, stratified_moments
from devnull.eval.intervals import (
    mean_interval,
    share_interval,
    skewness_corrected_interval,
    t_quantile,
    unseen_share,
)
from devnull.eval.scoring.metric import Metric, value_limits
from devnull.eval.scoring.metrics import METRICS, headlines
from devnull.eval.scoring.score import Score, fill_return_limits
from devnull.eval.scoring.score_group import score_weights
from devnull.sandbox.frozen import Frozen

COMPARED_METRICS = tuple(metric for metric in METRICS if not metric.counts_errors and not metric.by_build)
"""All but the share of infrastructure failures, and the weighed: runs that met the same instances share the draw."""
HEADLINE_METRICS = tuple(headlines("compare"))
"""Those that are tested unless others are asked for."""
IMPORT_METRICS = tuple(metric for metric in COMPARED_METRICS if not metric.needs_truth)
"""Those that are tested instead where all episodes are imported."""
_DRAWS = 9999
SIGNIFICANT = 0.05
"""An adjusted p-value of at most this is called significant."""


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
    shared: float
    """Share of the instances of these tasks (task, seed, build) that both met. Where it is below 1, the luck of the
    fault's draw is in the differences."""
    changes: dict[str, MetricDifference]
    undefined: tuple[str, ...]
    """Metrics that one of the two does not have (0/0)."""
    tests: int = 0
    """P-values that Holm's adjustment is over: those of all runs of the answer."""
    smallest_p: float = 1.0
    """No p-value can be smaller with so few clusters, however large the difference."""

    @property
    def can_be_significant(self) -> bool:
        """Whether any adjusted p-value could be 0.05 or less."""
        return self.tests * self.smallest_p <= SIGNIFICANT


def compare(
    baseline: tuple[str, Sequence[Score]],
    runs: Sequence[tuple[str, Sequence[Score]]],
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> list[Comparison]:
    """Compares each run (a name and its scores) with the baseline on the tasks that both have.

    `names`: of metrics, by default `HEADLINE_METRICS`, of imports `IMPORT_METRICS`. `seed`: of the randomisation tests.
    Holm's adjustment is over every p-value of the answer, all runs together.
    """
    imports_only = all(score.unverified for _, scores in (baseline, *runs) for score in scores)
    headline = IMPORT_METRICS if imports_only else HEADLINE_METRICS
    metrics = headline if names is None else [metric for metric in COMPARED_METRICS if metric.name in names]
    comparisons = [_compare_with_baseline(baseline, run, metrics, seed) for run in runs]
    raw = [change.p for comparison in comparisons for change in comparison.changes.values()]
    adjusted = iter(adjust_holm(raw))
    return [
        comparison.model_copy(
            update={
                "tests": len(raw),
                "changes": {
                    name: change.model_copy(update={"p_holm": next(adjusted)})
                    for name, change in comparison.changes.items()
                },
            }
        )
        for comparison in comparisons
    ]


def _compare_with_baseline(
    baseline: tuple[str, Sequence[Score]], run: tuple[str, Sequence[Score]], metrics: Sequence[Metric], seed: int
) -> Comparison:
    both = fill_return_limits([score for score in (*baseline[1], *run[1]) if score.error is None])
    split = sum(score.error is None for score in baseline[1])
    theirs, ours = both[:split], both[split:]
    common = {score.task for score in ours} & {score.task for score in theirs}
    every = {score.task for score in ours} | {score.task for score in theirs}
    ours = [score for score in ours if score.task in common]
    theirs = [score for score in theirs if score.task in common]
    clusters = Clusters([(score.task, score.seed) for score in (*ours, *theirs)])
    mine, other = ({(score.task, score.seed, score.faulty) for score in side} for side in (ours, theirs))
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
        shared=len(mine & other) / max(1, len(mine | other)),
        changes=changes,
        undefined=tuple(undefined),
        smallest_p=_smallest_p(len(clusters.strata)),
    )


def _difference(
    metric: Metric, ours: Sequence[Score], theirs: Sequence[Score], clusters: Clusters, seed: int
) -> MetricDifference | None:
    """Ratio of sums of ours minus theirs; `None` where either is 0/0. Undecided cases are left out of both."""
    scores = (*ours, *theirs)
    mine = np.arange(len(scores)) < len(ours)
    top, below = metric.decided_terms(scores)
    w = np.concatenate([score_weights(ours), score_weights(theirs)])
    sums = np.stack([clusters.sums(w * part * side) for side in (mine, ~mine) for part in (top, below)], axis=1)
    if not (sums[:, 1].sum() and sums[:, 3].sum()):
        return None
    value, reference = _quotients(sums.sum(axis=0))
    low, high = _bounds(metric, top, below, w, mine, clusters, value_limits(metric, scores))
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
    metric: Metric,
    top: FloatArray,
    below: FloatArray,
    w: FloatArray,
    mine: NDArray[np.bool_],
    clusters: Clusters,
    limits: Sequence[tuple[float, float]] | None,
) -> tuple[float | None, float | None]:
    """95 % bounds of the difference.

    Of means, by the residuals of both within each cluster, which is where pairing earns its precision. Of shares, and
    of what is mostly 0, the two single intervals joined (Newcombe 1998, method 10), which still leaves room at 0 and 1,
    with the correlation of the two over clusters. `w`: weights of the episodes.
    """
    ratios = [_ratio(w * top, w * below, side) for side in (mine, ~mine)]
    residuals = [
        clusters.sums(w * (top - ratio * below) * side) / (w * below * side).sum()
        for ratio, side in zip(ratios, (mine, ~mine), strict=True)
    ]
    joint, third, freedom = stratified_moments(residuals[0] - residuals[1], clusters.strata)
    difference = ratios[0] - ratios[1]
    if freedom < 1:
        return None, None
    if not (metric.bounded or metric.nonnegative) and joint > 0:
        return skewness_corrected_interval(difference, joint, third, t_quantile(freedom))
    edges = None if limits is None else (np.array([a for a, _ in limits]), np.array([b for _, b in limits]))
    if joint <= 0:
        largest = 1.0 if edges is None else float(edges[1].max() - edges[0].min())
        per_cluster = max(1.0, float(below.sum()) / 2 / len(clusters.strata))
        unseen = unseen_share(len(clusters.strata), per_cluster) * largest
        return difference - unseen, difference + unseen
    sides = []
    for side in (mine, ~mine):
        if metric.bounded:
            value, low, high = share_interval(top * side, below * side, clusters, w)
        else:
            value, low, high = mean_interval(top * side, below * side, clusters, edges, w)
        if low is None or high is None:
            return None, None
        sides.append((value - low, high - value))
    spread = [stratified_moments(part, clusters.strata).variance for part in residuals]
    correlation = (spread[0] + spread[1] - joint) / (2 * math.sqrt(spread[0] * spread[1])) if min(spread) > 0 else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x**2 + y**2 - 2 * correlation * x * y))

    (down, up), (other_down, other_up) = sides
    return difference - reach(down, other_up), difference + reach(up, other_down)


def _ratio(top: FloatArray, below: FloatArray, side: NDArray[np.bool_]) -> float:
    return float((top * side).sum() / (below * side).sum())


def _smallest_p(clusters: int) -> float:
    """What the randomisation test gives where no swap is more extreme than what was seen: that and its mirror image."""
    return 2 / 2**clusters if 2**clusters <= _DRAWS else 1 / (1 + _DRAWS)


def randomisation_p_value(sums: FloatArray, rng: np.random.Generator) -> float:
    """Two-sided p-value of the difference of quotients, the two runs swapped within each cluster at random.

    `sums`: `(clusters, 4)` of numerator and denominator, ours and theirs. All swaps are tried where they are few.
    """
    count = len(sums)
    if 2**count <= _DRAWS:
        swaps = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        extra = 0
    else:
        swaps = rng.integers(0, 2, (_DRAWS, count))
        extra = 1
    # Not `@`, which would wake the threads of BLAS: they spin on for longer than all of this takes.
    moved = np.einsum("ij,jk->ik", swaps, sums[:, [2, 3, 0, 1]] - sums) + sums.sum(axis=0)
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
