"""What the episodes say of one contrast: pooled over training seeds and tasks, with p-values for and against it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from devnull.eval.claims.claim_file import ENTROPY, Contrast
from devnull.eval.clusters import FloatArray
from devnull.eval.comparing.seeds import EQUAL, crossed_mean, task_influences, unseen_error
from devnull.eval.intervals import TWO_SIDED, t_quantile
from devnull.eval.scoring.metric import Metric
from devnull.eval.scoring.metrics import METRICS
from devnull.eval.scoring.score import Score
from devnull.sandbox.frozen import Frozen

ArmScores = Mapping[str, Sequence[Sequence[Score]]]
"""Arm to its scores, seed by seed."""
_METRICS = {metric.name: metric for metric in METRICS}


class ContrastEstimate(Frozen):
    """One contrast, estimated."""

    name: str
    prediction: str
    """As `Contrast.prediction`."""
    value: float
    error: float
    """Standard error, from seeds and tasks together."""
    freedom: float
    """Degrees of freedom of it (Satterthwaite)."""
    low: float
    """Of the two-sided 95 % interval."""
    high: float
    by_seed: tuple[float, ...]
    p_for: float
    """Of what the claim denies: small where the prediction holds beyond the noise."""
    p_against: float
    """Of what the claim predicts: small where it fails beyond the noise."""


def estimate_contrast(contrast: Contrast, scores: ArmScores) -> ContrastEstimate | None:
    """The contrast over the tasks that every arm and seed of it has; `None` where one of its metrics is 0/0.

    Episodes that an infrastructure failure ended are left out.
    """
    used = {arm for arm, _, _ in contrast.terms}
    kept = {arm: [[s for s in side if s.error is None] for side in scores[arm]] for arm in used}
    tasks = sorted(set.intersection(*({score.task for score in side} for arm in used for side in kept[arm])))
    if not tasks:
        return None
    rows: FloatArray = np.zeros((len(next(iter(kept.values()))), len(tasks)))
    for arm, metric, weight in contrast.terms:
        for seed, side in enumerate(kept[arm]):
            own = task_influences(_metric(metric, side), side, tasks)
            if own is None:
                return None
            rows[seed] += weight * own
    value, error, freedom = crossed_mean(rows)
    if error <= EQUAL:
        error = unseen_error(rows.size, min(len(side) for arm in used for side in kept[arm]) / len(tasks))
    reach = t_quantile(freedom, TWO_SIDED) * error
    return ContrastEstimate(
        name=contrast.name,
        prediction=contrast.prediction,
        value=value,
        error=error,
        freedom=freedom,
        low=value - reach,
        high=value + reach,
        by_seed=tuple(rows.mean(axis=1).tolist()),
        p_for=_p_for(contrast, value, error, freedom),
        p_against=_p_against(contrast, value, error, freedom),
    )


def _p_for(contrast: Contrast, value: float, error: float, freedom: float) -> float:
    if contrast.within is not None:  # two one-sided tests
        return max(_tail((contrast.within - value) / error, freedom), _tail((contrast.within + value) / error, freedom))
    if contrast.above is None:
        return 2 * _tail(abs(value) / error, freedom)
    return _tail((value - contrast.above) / error, freedom)


def _p_against(contrast: Contrast, value: float, error: float, freedom: float) -> float:
    if contrast.within is not None:
        return min(1.0, 2 * _tail((abs(value) - contrast.within) / error, freedom))
    if contrast.above is None:  # that two are equal is never shown
        return 1.0
    return _tail((contrast.above - value) / error, freedom)


def _tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t."""
    return float(special.stdtr(freedom, -t))


def _metric(name: str, scores: Sequence[Score]) -> Metric:
    return _entropy_metric(scores) if name == ENTROPY else _METRICS[name]


def _entropy_metric(scores: Sequence[Score]) -> Metric:
    """The entropy of these episodes' commands in bits, as a mean over commands of their own surprise.

    Its influence of each task is that of the entropy itself: the derivative of -Σ p log p has no other term.
    """
    counts = Counter(digest for score in scores for digest in score.command_digests)
    total = counts.total()
    surprise = {digest: math.log2(total / count) for digest, count in counts.items()}
    return Metric(
        ENTROPY,
        "entropy of commands",
        "entropy of an arm's commands in bits",
        lambda score: math.fsum(surprise[digest] for digest in score.command_digests),
        lambda score: len(score.command_digests),
        bounded=False,
    )
