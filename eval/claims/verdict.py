"""What a claim's run says: supported, refuted, inconclusive, or void by its gates.

A claim is a conjunction of its contrasts, so its p-value is the largest of theirs (intersection-union); it is refuted
where one of them fails beyond the noise (Bonferroni over its contrasts). Both are adjusted over all claims that were
run (Holm 1979).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, TypeVar

from pydantic import Field

from devnull.eval.claims.claim_file import ClaimFile, Contrast
from devnull.eval.claims.contrast import ArmScores, ContrastEstimate, estimate_contrast
from devnull.eval.claims.gates import JobMetrics, check_gates
from devnull.eval.comparing.comparison import SIGNIFICANT, adjust_holm
from devnull.eval.intervals import ONE_SIDED, t_quantile
from devnull.eval.scoring.metrics import METRICS
from devnull.eval.scoring.score import Score
from devnull.sandbox.frozen import Frozen

ClaimAnswer = Literal["supported", "refuted", "inconclusive", "void"]
_Run = TypeVar("_Run", bound=Hashable)
"""Whatever identifies a run."""
SHOWN_METRICS = ("error_suppression_rate", "J", "J_obs", "E_plus", "E_minus", "attempt_rate", "valid_action_share")
"""What is kept of every arm, for tables."""
_POWER = 0.84
"""Quantile of the normal distribution for 80 % power."""
_MOST_SEEDS = 200


class ClaimResult(Frozen):
    """A claim's run in figures, before any adjustment for other claims."""

    contrasts: tuple[ContrastEstimate, ...]
    undefined: tuple[str, ...] = ()
    """Contrasts of which an arm had nothing to measure (0/0)."""
    gates: tuple[str, ...] = ()
    """What makes it void."""
    arms: dict[str, dict[str, tuple[float | None, ...]]] = Field(default_factory=dict)
    """Arm to metric to its value seed by seed."""
    p_for: float
    """Largest of the contrasts'."""
    p_against: float
    """Smallest of the contrasts', times their number."""
    seeds_needed: int | None = None
    """`count_seeds_needed` by itself, before any adjustment for other claims."""


def judge_claim(
    claim: ClaimFile, scores: ArmScores, kl: Mapping[str, Sequence[float]], measured: JobMetrics
) -> ClaimResult:
    """Gates and contrasts of a run.

    Args:
        kl: As for `check_gates`, `measured` likewise.
    """
    found = {contrast.name: estimate_contrast(contrast, scores) for contrast in claim.contrasts}
    estimates = tuple(estimate for estimate in found.values() if estimate is not None)
    undefined = tuple(name for name, estimate in found.items() if estimate is None)
    return ClaimResult(
        contrasts=estimates,
        undefined=undefined,
        gates=tuple(check_gates(claim.gates, scores, kl, measured)),
        arms={arm: {name: _by_seed(name, seeds) for name in SHOWN_METRICS} for arm, seeds in scores.items()},
        p_for=1.0 if undefined else max(each.p_for for each in estimates),
        p_against=min((1.0, *(len(claim.contrasts) * each.p_against for each in estimates))),
        seeds_needed=None if undefined else count_seeds_needed(claim.contrasts, estimates),
    )


def exact_result(claim: ClaimFile, values: Mapping[str, float]) -> ClaimResult:
    """The result that contrasts have whose values are exact, by name."""
    estimates = [_exact_estimate(contrast, values[contrast.name]) for contrast in claim.contrasts]
    return ClaimResult(
        contrasts=tuple(estimates),
        p_for=max(each.p_for for each in estimates),
        p_against=min(each.p_against for each in estimates),
    )


def _exact_estimate(contrast: Contrast, value: float) -> ContrastEstimate:
    if contrast.within is not None:
        holds = abs(value) < contrast.within
    else:
        holds = value != 0 if contrast.above is None else value > contrast.above
    return ContrastEstimate(
        name=contrast.name,
        prediction=contrast.prediction,
        value=value,
        error=0.0,
        freedom=0.0,
        low=value,
        high=value,
        by_seed=(),
        p_for=float(not holds),
        p_against=float(holds),
    )


def _by_seed(name: str, seeds: Sequence[Sequence[Score]]) -> tuple[float | None, ...]:
    (metric,) = (metric for metric in METRICS if metric.name == name)
    values = []
    for side in seeds:
        scores = [score for score in side if score.error is None]
        below = sum(metric.denominator(score) for score in scores)
        values.append(sum(metric.numerator(score) for score in scores) / below if below else None)
    return tuple(values)


def answer_claims(results: Mapping[_Run, ClaimResult]) -> dict[_Run, ClaimAnswer]:
    """The verdict of every run of a ledger, adjusted over all that are not void.

    Args:
        results: By run.
    """
    tested = [key for key, result in results.items() if not result.gates]
    p_for = dict(zip(tested, adjust_holm([results[key].p_for for key in tested]), strict=True))
    p_against = dict(zip(tested, adjust_holm([results[key].p_against for key in tested]), strict=True))
    answers: dict[_Run, ClaimAnswer] = {}
    for key in results:
        if key not in p_for:
            answers[key] = "void"
        elif p_for[key] <= SIGNIFICANT:
            answers[key] = "supported"
        else:
            answers[key] = "refuted" if p_against[key] <= SIGNIFICANT else "inconclusive"
    return answers


def count_seeds_needed(
    contrasts: Sequence[Contrast], estimates: Sequence[ContrastEstimate], tests: int = 1
) -> int | None:
    """Training seeds that would decide a claim with 80 % power, if effects are as large as estimated; `None`: more than
    would be sensible, or it cannot be told.

    For the contrast that is farthest from being decided; the error is taken to fall with the root of the seeds.

    Args:
        tests: Claims that are adjusted for, itself among them, at their strictest.
    """
    level = 1 - (1 - ONE_SIDED) / tests
    by_name = {contrast.name: contrast for contrast in contrasts}
    needed = 2
    for estimate in estimates:
        contrast = by_name[estimate.name]
        if contrast.within is not None:
            distance = contrast.within - abs(estimate.value)
        else:
            distance = abs(estimate.value) if contrast.above is None else estimate.value - contrast.above
        seeds = len(estimate.by_seed)
        if abs(distance) * math.sqrt(_MOST_SEEDS) < estimate.error * math.sqrt(seeds):
            return None
        scale = estimate.error * math.sqrt(seeds) / abs(distance)
        enough = (n for n in range(2, _MOST_SEEDS) if math.sqrt(n) >= scale * (t_quantile(n - 1, level) + _POWER))
        found = next(enough, None)
        if found is None:
            return None
        needed = max(needed, found)
    return needed
