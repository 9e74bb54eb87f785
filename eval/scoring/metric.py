"""What a metric is: a ratio of two sums over scored episodes, with its name, title and definition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from devnull.eval.clusters import FloatArray
from devnull.eval.scoring.score import Score
from devnull.eval.scoring.score_group import ScoreGroup
from devnull.eval.statistics import Estimate, estimate_ratio

ScoreValue = Callable[[Score], float]
"""What one episode adds to a sum, whatever its seed and its sample."""
ValueLimits = Callable[[Score], tuple[float, float] | None]
"""The least and the greatest that one episode's value can be; `None`: not known."""
Place = Literal["demo", "card", "report", "training", "compare"]
"""Where headlines are shown: the demo's table, model cards, the report's figures, its curves over training steps, and
what `devnull compare` tests (six, so that Holm's adjustment leaves 8 tasks a chance)."""


def _one(score: Score) -> float:
    return 1.0


@dataclass(frozen=True)
class Metric:
    """A ratio of two sums over the episodes that have an outcome."""

    name: str
    """Key in `metrics.json`."""
    title: str
    """What tables and plots for people print."""
    definition: str
    numerator: ScoreValue
    denominator: ScoreValue = _one
    bounded: bool = True
    """A share between 0 and 1."""
    nonnegative: bool = False
    limits: ValueLimits = lambda _: None
    """Of a mean: how far its values can lie apart, whether or not they were seen."""
    undecided: ScoreValue | None = None
    """How much of the denominator is not decided."""
    needs_truth: bool = True
    """Counts no imported episode, of which nobody knows how it ended."""
    counts_errors: bool = False
    """Counts episodes without an outcome too."""
    by_build: bool = False
    """Weighs a task's two builds by their probability, whatever was drawn (`build_weights`)."""
    detail: bool = False
    """Splits another metric: in metrics.json, and in the tables of `devnull eval --all` only."""
    symbol: str = ""
    """The paper's symbol, which narrow tables print in place of the title."""
    shown_in: tuple[Place, ...] = ()
    """Places that show it as one of the figures that say most; empty: the full tables only."""

    def terms(self, scores: Sequence[Score]) -> tuple[FloatArray, FloatArray]:
        """`(episodes,)` each: what they add to the numerator and to the denominator, undecided cases among them;
        nothing to what needs a truth that they have not."""
        counted = [not (self.needs_truth and score.unverified) for score in scores]
        return _values(self.numerator, scores, counted), _values(self.denominator, scores, counted)

    def decided_terms(self, scores: Sequence[Score]) -> tuple[FloatArray, FloatArray]:
        """`terms` without the undecided cases."""
        top, below = self.terms(scores)
        return top, below if self.undecided is None else below - [self.undecided(score) for score in scores]

    @property
    def headline(self) -> bool:
        """Shown in more than the full tables."""
        return bool(self.shown_in)

    @property
    def short_title(self) -> str:
        return self.symbol or self.title


def _values(value: ScoreValue, scores: Sequence[Score], counted: Sequence[bool]) -> FloatArray:
    if value is _one:
        return np.array(counted, float)
    return np.array([value(score) if counts else 0.0 for score, counts in zip(scores, counted, strict=True)], float)


def estimate_metric(metric: Metric, group: ScoreGroup) -> Estimate:
    """The metric of these episodes.

    Instances that were played under both builds count as the world draws them (`score_weights`). A
    metric that is weighed by build is undefined where a task was met in one of its two builds only.
    """
    by_build, distinct, place = metric.by_build, group.distinct, group.place
    top, below = metric.terms(distinct)
    limits = value_limits(metric, distinct)
    estimate = estimate_ratio(
        top[place],
        below[place],
        group.build_clusters if by_build else group.clusters,
        bounded=metric.bounded,
        undecided=np.array(list(map(metric.undecided, distinct)), float)[place] if metric.undecided else None,
        limits=np.array(limits)[place] if limits else None,
        weights=group.build_weights if by_build else group.weights,
    )
    if metric.nonnegative and estimate.low is not None:
        return estimate.model_copy(update={"low": max(0.0, estimate.low)})
    return estimate


def value_limits(metric: Metric, scores: Sequence[Score]) -> list[tuple[float, float]] | None:
    """Of each score; `None` for shares, and where they are not known of all."""
    limits = []
    for score in scores:
        if (each := metric.limits(score)) is None:
            return None
        limits.append(each)
    return limits
