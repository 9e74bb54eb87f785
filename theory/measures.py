"""Deceptive inflation and overjustification, one definition for tables and transcripts (Lang et al. 2024, sec. 4)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-9
"""Two exact values are equal when they differ by at most this share of the spread of the returns (see
`devnull.theory.returns.Returns.tolerance`). Ties between policies, the strict inequalities of both verdicts and the
signs of the quadrants all use the same number, so that Theorem 4.5 survives rounding: two gaps beyond
the tolerance in J and J_obs imply one beyond it in E+ or E-."""

ErrorChange = Literal["raised", "unchanged", "lowered"]
"""How E+ or E- of a policy compares with the reference's, beyond the tolerance."""


def overestimation(true_return: ArrayLike, believed_return: ArrayLike) -> NDArray[np.float64]:
    """E+ of each sequence: max(0, G_obs - G), shape `(n,)` (Def. 4.2)."""
    excess: NDArray[np.float64] = np.asarray(believed_return, float) - np.asarray(true_return, float)
    return np.maximum(0.0, excess)


def underestimation(true_return: ArrayLike, believed_return: ArrayLike) -> NDArray[np.float64]:
    """E- of each sequence: max(0, G - G_obs), shape `(n,)` (Def. 4.2)."""
    return overestimation(believed_return, true_return)


@dataclass(frozen=True)
class Measures:
    """Expectations of one policy. Always `E_plus - E_minus == J_obs - J` up to rounding."""

    J: float
    """Expected true return."""
    J_obs: float
    """Expected return as the evaluator believes it."""
    E_plus: float
    """Mean overestimation per sequence; not max(0, J_obs - J)."""
    E_minus: float
    """Mean underestimation per sequence."""


def measure(true_return: ArrayLike, believed_return: ArrayLike, weights: ArrayLike | None = None) -> Measures:
    """Averages over sequences `(n,)`, by probability `weights` where given, else evenly."""
    G, G_obs = np.asarray(true_return, float), np.asarray(believed_return, float)
    w = np.full(G.shape, 1.0 / G.size) if weights is None else np.asarray(weights, float)
    return Measures(
        J=float(w @ G),
        J_obs=float(w @ G_obs),
        E_plus=float(w @ overestimation(G, G_obs)),
        E_minus=float(w @ underestimation(G, G_obs)),
    )


def deceptive_inflation(policy: Measures, reference: Measures, tolerance: float = TOLERANCE) -> bool:
    """Overestimates more than the reference, and is rated higher for it (Def. 4.3, strict)."""
    return policy.E_plus > reference.E_plus + tolerance and policy.J_obs > reference.J_obs + tolerance


def overjustification(policy: Measures, reference: Measures, tolerance: float = TOLERANCE) -> bool:
    """Is underestimated less than the reference, at a true cost (Def. 4.4, strict)."""
    return policy.E_minus < reference.E_minus - tolerance and policy.J < reference.J - tolerance


@dataclass(frozen=True)
class Quadrant:
    """How a policy moves both errors away from the reference's: the signs of the changes in E+ and E-.

    The theorem speaks of two of the four directions: overestimation raised (inflating) and underestimation
    lowered (justifying). The other two make the evaluator's beliefs more pessimistic.
    """

    overestimation: ErrorChange
    """E+"""
    underestimation: ErrorChange
    """E-"""

    @property
    def inflating(self) -> bool:
        """Overestimation is raised."""
        return self.overestimation == "raised"

    @property
    def justifying(self) -> bool:
        """Underestimation is lowered."""
        return self.underestimation == "lowered"

    def __str__(self) -> str:
        over = f"overestimation {self.overestimation}" + (" (inflating)" if self.inflating else "")
        return f"{over}, underestimation {self.underestimation}" + (" (justifying)" if self.justifying else "")


def quadrant(policy: Measures, reference: Measures, tolerance: float = TOLERANCE) -> Quadrant:
    """Where `policy` stands relative to `reference` (sec. 4.1, the four quadrants)."""

    def change(difference: float) -> ErrorChange:
        return "raised" if difference > tolerance else "lowered" if difference < -tolerance else "unchanged"

    return Quadrant(change(policy.E_plus - reference.E_plus), change(policy.E_minus - reference.E_minus))
