"""Training seeds pooled: what a recipe does to a policy, beyond the luck of one training run.

Each seed's policy is compared with its reference on tasks that all have. The difference of seed s on task k is taken
as θ + seed_s + task_k + rest_sk, all three random and independent (crossed random effects), so that what is said holds
for other seeds and other tasks. The variance of the mean over S seeds and K tasks is V_seed/S + V_task/K + V_rest/SK,
estimated by mean squares, with Satterthwaite's degrees of freedom. With fewer than 8 tasks, these are taken as given,
and only the seeds are a sample.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from devnull.eval.clusters import MIN_CLUSTERS, FloatArray
from devnull.eval.comparing.comparison import HEADLINE_METRICS, MetricDifference, adjust_holm
from devnull.eval.comparing.pairing import QUANTITIES
from devnull.eval.comparing.verdicts import VerdictAnswer, answer_words, compare_to_reference, decide
from devnull.eval.intervals import ONE_SIDED, TWO_SIDED, t_quantile, unseen_share
from devnull.eval.scoring.metric import Metric, value_limits
from devnull.eval.scoring.metrics import METRICS
from devnull.eval.scoring.score import Score, fill_return_limits
from devnull.eval.scoring.score_group import score_weights
from devnull.eval.statistics import Estimate
from devnull.sandbox.errors import InputError
from devnull.sandbox.frozen import Frozen

EQUAL = 1e-9
"""Standard errors up to this are of what never differed."""


class SeedComparison(Frozen):
    """One policy beside its reference, over several training seeds."""

    policy: str
    reference: str
    seeds: tuple[str, ...]
    tasks: int
    """Tasks that every policy and reference played; `left_out` are the others."""
    left_out: int
    changes: dict[str, MetricDifference]
    """Pooled; `p` is of the t test on the same variance."""
    by_seed: dict[str, tuple[float, ...]]
    """Metric to the difference of each seed, in the order of `seeds`."""
    verdicts: dict[str, VerdictAnswer]
    """Deceptive inflation and overjustification of the recipe, from one-sided 95 % bounds on the pooled differences."""
    verdicts_by_seed: dict[str, tuple[VerdictAnswer, ...]]
    """The same of each seed alone."""


def compare_seeds(
    policy: str,
    reference: str,
    pairs: Sequence[tuple[str, Sequence[Score], Sequence[Score]]],
    names: Sequence[str] | None = None,
) -> SeedComparison:
    """Pools the differences of a policy from its reference over training seeds.

    Args:
        pairs: Of each seed: its name, the policy's scores, the reference's.
        names: Of metrics; by default those of `HEADLINE_METRICS`.

    Raises `InputError` for fewer than two seeds, or without a task that all have.
    """
    if len(pairs) < 2:
        raise InputError(f"{policy}: one training seed has no variance; --by seed pools two or more")
    sides = [[[score for score in side if score.verified] for side in (mine, theirs)] for _, mine, theirs in pairs]
    played = [{score.task for score in side} for pair in sides for side in pair]
    common, every = sorted(set.intersection(*played)), set.union(*played)
    if not common:
        raise InputError(f"{policy}: the seeds have no task in common")
    chosen = HEADLINE_METRICS if names is None else [metric for metric in METRICS if metric.name in names]
    changes, by_seed = {}, {}
    for metric in chosen:
        influences = _influences(metric, sides, common)
        if influences is not None:
            every_side = [side for pair in sides for side in pair]
            changes[metric.name] = _pooled(metric, every_side, *influences)
            by_seed[metric.name] = tuple(influences[0].mean(axis=1).tolist())
    adjusted = adjust_holm([change.p for change in changes.values()])
    single = [compare_to_reference(mine, theirs) for mine, theirs in sides]
    return SeedComparison(
        policy=policy,
        reference=reference,
        seeds=tuple(name for name, _, _ in pairs),
        tasks=len(common),
        left_out=len(every) - len(common),
        changes={
            name: change.model_copy(update={"p_holm": p})
            for (name, change), p in zip(changes.items(), adjusted, strict=True)
        },
        by_seed=by_seed,
        verdicts=_pooled_verdicts(sides, common),
        verdicts_by_seed={
            "deceptive_inflation": tuple(each.deceptive_inflation for each in single),
            "overjustification": tuple(each.overjustification for each in single),
        },
    )


def _influences(
    metric: Metric, sides: Sequence[Sequence[Sequence[Score]]], tasks: Sequence[str]
) -> tuple[FloatArray, float, float] | None:
    """`(seeds, tasks)` whose mean over tasks is each seed's difference, and the mean value of policy and reference.

    `None` where any seed's is 0/0.
    """
    rows, values = np.zeros((len(sides), len(tasks))), np.zeros((len(sides), 2))
    for seed, pair in enumerate(sides):
        for side, scores in enumerate(pair):
            own = task_influences(metric, scores, tasks)
            if own is None:
                return None
            rows[seed] += (1 - 2 * side) * own
            values[seed, side] = own.mean()
    return rows, float(values[:, 0].mean()), float(values[:, 1].mean())


def task_influences(metric: Metric, scores: Sequence[Score], tasks: Sequence[str]) -> FloatArray | None:
    """`(tasks,)` whose mean is the metric's value over the episodes of these tasks: what each task has to do with it.

    A ratio of sums is made linear: what each task adds to it. `None` where it is 0/0.
    """
    place = {task: i for i, task in enumerate(tasks)}
    kept = [score for score in scores if score.task in place]
    index = np.array([place[score.task] for score in kept], int)
    top, below = metric.decided_terms(kept)
    if below.sum() <= 0:
        return None
    weights = score_weights(kept)
    top, below = weights * top, weights * below
    value = top.sum() / below.sum()
    own = np.bincount(index, weights=top - value * below, minlength=len(tasks)) * len(tasks) / below.sum()
    values: FloatArray = own + value
    return values


def pool_seeds(metric: Metric, seeds: Sequence[Sequence[Score]]) -> tuple[Estimate, list[float]]:
    """A metric of one policy over its training seeds: the mean with a 95 % interval that holds for other seeds too, and
    the value of each seed. On the tasks that all have.

    Undefined where it is 0/0 for a seed, or where the seeds have no task in common.

    Args:
        seeds: The scores of each.
    """
    kept = [[score for score in scores if score.error is None] for scores in seeds]
    common = sorted(set.intersection(*({score.task for score in scores} for scores in kept)))
    influences = [task_influences(metric, scores, common) for scores in kept] if common else [None]
    known = [each for each in influences if each is not None]
    if len(known) < len(influences):
        return Estimate(value=None, low=None, high=None, n=0, undefined=True), []
    mean, error, freedom = _crossed_mean_of(metric, kept, np.stack(known))
    reach = t_quantile(freedom, TWO_SIDED) * error
    low, high = mean - reach, mean + reach
    if metric.bounded:
        low, high = max(0.0, low), min(1.0, high)
    n = round(sum(metric.terms([score for score in scores if score.task in common])[1].sum() for scores in kept))
    return Estimate(value=mean, low=low, high=high, n=n, undefined=False), [float(own.mean()) for own in known]


def crossed_mean(values: FloatArray) -> tuple[float, float, float]:
    """Mean of `(seeds, tasks)`, its standard error, and the degrees of freedom, under crossed random effects."""
    S, K = values.shape
    mean = float(values.mean())
    seeds, tasks = values.mean(axis=1), values.mean(axis=0)
    of_seeds = float(seeds.var(ddof=1)) / S
    if K < MIN_CLUSTERS:
        return mean, math.sqrt(of_seeds), float(S - 1)
    of_tasks = float(tasks.var(ddof=1)) / K
    rest = values - seeds[:, None] - tasks + mean
    of_rest = float((rest**2).sum()) / ((S - 1) * (K - 1)) / (S * K)
    variance = max(of_seeds + of_tasks - of_rest, of_seeds, of_tasks)
    if variance <= 0:
        return mean, 0.0, float(S - 1)
    terms = of_seeds**2 / (S - 1) + of_tasks**2 / (K - 1) + of_rest**2 / ((S - 1) * (K - 1))
    return mean, math.sqrt(variance), max(1.0, variance**2 / terms)


def unseen_error(cells: int, per_cell: float) -> float:
    """Standard error of a share that never differed in so many cells of so many episodes: it may still do so in
    others."""
    return unseen_share(cells, per_cell) / 2


def _crossed_mean_of(
    metric: Metric, sides: Sequence[Sequence[Score]], values: FloatArray
) -> tuple[float, float, float]:
    """`crossed_mean` of a metric's `(seeds, tasks)`, with an error for what never differed in the episodes of `sides`:
    as large, where it does, as the metric's values can lie apart."""
    mean, error, freedom = crossed_mean(values)
    if error <= EQUAL:
        limits = value_limits(metric, fill_return_limits([score for side in sides for score in side]))
        largest = 1.0 if limits is None else max(high for _, high in limits) - min(low for low, _ in limits)
        error = largest * unseen_error(values.size, min(map(len, sides)) / values.shape[1])
    return mean, error, freedom


def _pooled(
    metric: Metric, sides: Sequence[Sequence[Score]], values: FloatArray, value: float, baseline: float
) -> MetricDifference:
    mean, error, freedom = _crossed_mean_of(metric, sides, values)
    reach = t_quantile(freedom, TWO_SIDED) * error
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error)) if error > 0 else 1.0
    return MetricDifference(
        metric=metric.name,
        baseline=baseline,
        value=value,
        difference=mean,
        low=mean - reach,
        high=mean + reach,
        p=p,
        p_holm=p,
    )


def _pooled_verdicts(sides: Sequence[Sequence[Sequence[Score]]], tasks: Sequence[str]) -> dict[str, VerdictAnswer]:
    """From one-sided bounds of the pooled differences in J, J_obs, E_plus and E_minus."""
    by_name = {metric.name: metric for metric in METRICS}
    low, high = np.zeros(len(QUANTITIES)), np.zeros(len(QUANTITIES))
    for column, name in enumerate(QUANTITIES):
        influences = _influences(by_name[name], sides, tasks)
        if influences is not None:
            mean, error, freedom = crossed_mean(influences[0])
            reach = t_quantile(freedom, ONE_SIDED) * error
            low[column], high[column] = mean - reach, mean + reach
    return answer_words(decide(low, high))
