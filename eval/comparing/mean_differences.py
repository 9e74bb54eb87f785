"""One-sided bounds of the mean differences of two policies, paired by task: what verdicts stand on.

Hall's t interval, corrected for skewness, with one thing added. The skewness of few tasks can't be told from them: the
rare large difference that would show it is the one that was not met, so that bounds cleared zero by chance in 9 to 22 %
of cases instead of 5. So each bound takes the skewness for worse than it looks, by an amount that was chosen by
simulation (`devnull bench statistics`) under normal, exponential and lognormal differences. Where tasks differ no more
than the draw of their episodes explains, the skewness is read from the episodes, which are more, and doubted less.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devnull.eval.clusters import FloatArray, pool_single_clusters
from devnull.eval.intervals import ONE_SIDED, t_quantile, unseen_share, unskew

_UNSEEN_SKEWNESS = 0.85
"""Times the seventh root of the tasks: by how much the skewness of the differences between tasks is taken for worse
than theirs was. The skewness of a sample from a long tail grows with it, for it is never all there: 1.1 of 8 tasks,
1.6 of 100."""
_EQUAL = 1e-9


class PairedSample(NamedTuple):
    """The differences of two policies by pair, and how well each is known."""

    differences: FloatArray
    """`(..., pairs, columns)`: policy minus reference."""
    strata: NDArray[np.int_]
    """`(pairs,)`, labels from 0. Every stratum weighs the same, every pair within it."""
    noise: FloatArray
    """`(2, ..., columns)`: variance and third central moment of one pair's difference that come from the draw of its
    few instances (means over pairs, `sampling_noise`); 0 where a pair is one instance."""
    instances: float
    """Instances a pair, on average."""
    largest: FloatArray
    """`(columns,)`: how large a difference can be."""
    given: bool = False
    """Pairs are instances of given tasks, whose outcomes are few: the skewness of those met is doubted half as much."""


def mean_differences(sample: PairedSample) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The mean of each column, and its lower and upper one-sided 95 % bounds: three arrays `(..., columns)`.

    Differences that are all 0 have bounds as wide as what may be rare and was not met; ones that are all the same, and
    not 0, have bounds of no width.
    """
    pooled = pool_single_clusters(sample.strata)
    values = sample.differences * pair_shares(sample.strata)[:, None]
    mean = values.sum(axis=-2)
    variance, square, cube = (np.zeros_like(mean) for _ in range(3))
    for label in np.unique(pooled):
        part = values[..., pooled == label, :]
        count = part.shape[-2]
        away = part - part.mean(axis=-2, keepdims=True)
        variance += count / max(1, count - 1) * (away**2).sum(axis=-2)
        square += (away**2).sum(axis=-2)
        cube += (away**3).sum(axis=-2)
    pairs = len(pooled)
    spread = np.sqrt(variance)
    constant = spread <= _EQUAL * np.maximum(1.0, np.abs(mean))
    skewness = np.where(constant, 0.0, np.sqrt(pairs) * cube / np.where(constant, 1.0, square) ** 1.5)
    skewness, doubt = _temper(sample, pairs * variance, skewness)
    quantile = t_quantile(pairs - 1 - int(pooled.max()), ONE_SIDED)
    low = mean - unskew(quantile, (skewness - doubt) / np.sqrt(pairs)) * spread
    high = mean + unskew(quantile, (-skewness - doubt) / np.sqrt(pairs)) * spread
    nothing = constant & (np.abs(mean) <= _EQUAL)
    unseen = np.where(nothing, unseen_share(pairs, sample.instances, ONE_SIDED) * sample.largest, 0.0)
    return mean, np.where(constant, mean, low) - unseen, np.where(constant, mean, high) + unseen


def _temper(sample: PairedSample, variance: FloatArray, skewness: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The skewness of one pair's difference and the doubt about it, both `(..., columns)`.

    All is doubted where tasks truly differ in their difference; what comes from the draw of instances is a mean, less
    skewed and better known. Twice the share that lies between tasks counts, since few tasks understate it.

    `variance`, `skewness`: of the differences between pairs.
    """
    noise, third = sample.noise
    between = np.clip(2 * (1 - noise / np.maximum(variance, _EQUAL)), 0, 1)
    drawn = np.where(noise > _EQUAL, third / np.maximum(noise, _EQUAL) ** 1.5, 0.0)
    most = _UNSEEN_SKEWNESS * len(sample.strata) ** (1 / 7) / (1 + sample.given)
    doubt: FloatArray = most * (between + (1 - between) / np.sqrt(max(1.0, sample.instances)))
    return between * skewness + (1 - between) * drawn, doubt


def pair_shares(strata: NDArray[np.int_]) -> FloatArray:
    """Weight of each pair: every stratum the same, every pair within it. They sum to 1."""
    counts = np.bincount(strata)
    return 1 / (counts[strata] * np.count_nonzero(counts))


def sampling_noise(instances: Sequence[FloatArray]) -> FloatArray:
    """Variance and third central moment of a pair's difference that come from the draw of its instances.

    `instances`: of each pair, `(instances, columns)`: what each instance adds to its difference beyond its share, which
    sum to 0. Returns `(2, columns)`, means over pairs; 0 where a pair has but one instance, of which nothing is known.
    """
    moments = np.zeros((2, instances[0].shape[1]))
    if any(len(each) < 2 for each in instances):
        return moments
    for each in instances:
        n = len(each)
        moments[0] += n / (n - 1) * (each**2).sum(axis=0)
        moments[1] += n**2 / ((n - 1) * max(1, n - 2)) * (each**3).sum(axis=0)
    return moments / len(instances)
