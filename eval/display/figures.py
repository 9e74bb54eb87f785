"""What a report draws, as numbers: calibration of beliefs, changes against a reference, rates over training steps."""

import re
from collections.abc import Mapping, Sequence

from devnull.eval.comparing.verdicts import Verdicts
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Clusters, Estimate, ratio
from devnull.sandbox.command import Frozen

_BINS = 10
_STEP = re.compile(r"(.+)-step-?(\d+)")
"""An arm of this name is a policy on its way: `partial-step-50`."""


class Bin(Frozen):
    """Episodes in whose success the evaluator believed about equally."""

    low: float
    high: float
    believed: float
    """Mean belief."""
    success: Estimate
    """How many of them truly succeeded."""


def calibration(scores: Sequence[Score]) -> list[Bin]:
    """Belief against success, in tenths of belief; bins without an episode are left out."""
    judged = [score for score in scores if score.belief_success is not None]
    bins: list[list[Score]] = [[] for _ in range(_BINS)]
    for score in judged:
        bins[min(_BINS - 1, int((score.belief_success or 0.0) * _BINS))].append(score)
    return [
        Bin(
            low=place / _BINS,
            high=(place + 1) / _BINS,
            believed=sum(score.belief_success or 0.0 for score in group) / len(group),
            success=_share([bool(score.success) for score in group], group),
        )
        for place, group in enumerate(bins)
        if group
    ]


def _share(holds: Sequence[bool], scores: Sequence[Score]) -> Estimate:
    clusters = Clusters([(score.task, score.seed) for score in scores])
    return ratio([float(value) for value in holds], [1.0] * len(scores), clusters, bounded=True)


class Change(Frozen):
    """One policy's place on the quadrant plot, relative to a reference."""

    arm: str
    reference: str
    E_plus: tuple[float, float, float]
    """Change in mean overestimation: value and the two one-sided 95 % bounds."""
    E_minus: tuple[float, float, float]
    quadrant: str


def changes(verdicts: Mapping[tuple[str, str], Verdicts]) -> list[Change]:
    """Of every (arm, reference) that could be compared."""
    found = []
    for (arm, reference), verdicts_of in verdicts.items():
        plus, minus = (verdicts_of.differences.get(name) for name in ("E_plus", "E_minus"))
        if plus is not None and minus is not None:
            found.append(
                Change(
                    arm=arm,
                    reference=reference,
                    E_plus=(plus.value, plus.low, plus.high),
                    E_minus=(minus.value, minus.low, minus.high),
                    quadrant=verdicts_of.quadrant,
                )
            )
    return found


def steps(arms: Mapping[str, Mapping[str, Estimate]]) -> dict[str, list[tuple[int, dict[str, Estimate]]]]:
    """Policy to (training step, metrics), in order, of arms named `POLICY-step-N`; `POLICY` itself is the end."""
    found: dict[str, list[tuple[int, dict[str, Estimate]]]] = {}
    for arm, metrics in arms.items():
        if match := _STEP.fullmatch(arm):
            found.setdefault(match[1], []).append((int(match[2]), dict(metrics)))
    return {policy: sorted(points, key=lambda point: point[0]) for policy, points in found.items()}
