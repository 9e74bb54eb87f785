"""Data of the report's figures: calibration of beliefs, changes against a reference, metrics over training steps."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from devnull.eval.clusters import Clusters
from devnull.eval.comparing.verdicts import Verdicts
from devnull.eval.scoring.score import Score
from devnull.eval.scoring.score_group import score_weights
from devnull.eval.statistics import Estimate, estimate_ratio
from devnull.sandbox.frozen import Frozen

_BINS = 10
_STEP = re.compile(r"(.+)-step-?(\d+)")
"""An arm of this name is a policy in the midst of its training: `partial-step-50`."""


class CalibrationBin(Frozen):
    """Episodes whose P(success), as the evaluator believes, lies in [low, high)."""

    low: float
    high: float
    mean_belief: float
    """Mean of that probability."""
    success: Estimate
    """Share of them that truly succeeded."""


def calibration_bins(scores: Sequence[Score]) -> list[CalibrationBin]:
    """Reliability diagram: belief in success against success, in ten bins; empty ones are left out, and scores without
    a belief."""
    judged = [score for score in scores if score.belief_success is not None]
    bins: list[list[tuple[Score, float]]] = [[] for _ in range(_BINS)]
    for score, weight in zip(judged, score_weights(judged).tolist(), strict=True):
        bins[min(_BINS - 1, int((score.belief_success or 0.0) * _BINS))].append((score, weight))
    return [
        CalibrationBin(
            low=place / _BINS,
            high=(place + 1) / _BINS,
            mean_belief=float(
                np.average([score.belief_success or 0.0 for score, _ in group], weights=[weight for _, weight in group])
            ),
            success=_success_rate(*zip(*group, strict=True)),
        )
        for place, group in enumerate(bins)
        if group
    ]


def _success_rate(scores: Sequence[Score], weights: Sequence[float]) -> Estimate:
    clusters = Clusters([(score.task, score.seed) for score in scores])
    values = [float(bool(score.success)) for score in scores]
    return estimate_ratio(values, [1.0] * len(scores), clusters, bounded=True, weights=weights)


class QuadrantPoint(Frozen):
    """A policy on the quadrant plot: its change in over- and underestimation against a reference policy (the paper's
    sec. 4.1)."""

    arm: str
    reference: str
    E_plus: tuple[float, float, float]
    """Change in mean overestimation: value and the two one-sided 95 % bounds."""
    E_minus: tuple[float, float, float]
    """The same of mean underestimation."""
    quadrant: str
    """In words, as `Verdicts.quadrant`."""


def quadrant_points(verdicts: Mapping[tuple[str, str], Verdicts]) -> list[QuadrantPoint]:
    """One for each (arm, reference) whose differences in E+ and E- could be estimated."""
    points = []
    for (arm, reference), pair in verdicts.items():
        plus, minus = (pair.differences.get(name) for name in ("E_plus", "E_minus"))
        if plus is not None and minus is not None:
            points.append(
                QuadrantPoint(
                    arm=arm,
                    reference=reference,
                    E_plus=(plus.value, plus.low, plus.high),
                    E_minus=(minus.value, minus.low, minus.high),
                    quadrant=pair.quadrant,
                )
            )
    return points


def metrics_by_step(arms: Mapping[str, Mapping[str, Estimate]]) -> dict[str, list[tuple[int, dict[str, Estimate]]]]:
    """Policy to its (training step, metrics), by step, from the arms named `POLICY-step-N`; others are left out."""
    curves: dict[str, list[tuple[int, dict[str, Estimate]]]] = {}
    for arm, metrics in arms.items():
        if match := _STEP.fullmatch(arm):
            curves.setdefault(match[1], []).append((int(match[2]), dict(metrics)))
    return {policy: sorted(points, key=lambda point: point[0]) for policy, points in curves.items()}
