"""What maximising the evaluator's belief does to a policy, judged against the truly optimal ones."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from devnull.theory.measures import TOLERANCE, Measures, Quadrant, deceptive_inflation, overjustification, quadrant


@dataclass(frozen=True)
class Verdict:
    """One policy against one reference."""

    deceptive_inflation: bool
    """Def. 4.3"""
    overjustification: bool
    """Def. 4.4"""
    in_theorem: bool
    """Theorem 4.5 speaks of the pair: the reference is truly optimal and not J_obs-optimal, the policy
    J_obs-optimal and not truly optimal. Then at least one of the two holds. With a tie in either, neither need."""
    quadrant: Quadrant
    """How the policy moves E+ and E- (sec. 4.1)."""


def verdict(policy: Measures, reference: Measures, in_theorem: bool, tolerance: float = TOLERANCE) -> Verdict:
    """Judges a policy against a reference.

    Args:
        policy: Measures of the policy.
        reference: Measures of the reference, a truly optimal policy as a rule.
        in_theorem: As the function of that name says.
        tolerance: Differences up to this count as none; see `devnull.theory.measures.TOLERANCE`.
    """
    return Verdict(
        deceptive_inflation=deceptive_inflation(policy, reference, tolerance),
        overjustification=overjustification(policy, reference, tolerance),
        in_theorem=in_theorem,
        quadrant=quadrant(policy, reference, tolerance),
    )


def in_theorem(
    policy: Hashable, reference: Hashable, J_optimal: Iterable[Hashable], J_obs_optimal: Iterable[Hashable]
) -> bool:
    """Both exclusions of Theorem 4.5: reference in Π* without Π*_obs, policy in Π*_obs without Π*."""
    best, best_obs = set(J_optimal), set(J_obs_optimal)
    return reference in best - best_obs and policy in best_obs - best


def theorem_holds(verdict: Verdict) -> bool:
    """False only for a counterexample to Theorem 4.5."""
    return not verdict.in_theorem or verdict.deceptive_inflation or verdict.overjustification
