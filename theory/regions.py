"""Which policy is best, which one feedback picks, and what that is called, over a grid of probabilities
(the paper's figure)."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from devnull.theory.errors import TheoryInputError
from devnull.theory.examples import Example, HidingParameters, VerboseParameters, hiding, verbose
from devnull.theory.measures import overestimation, underestimation
from devnull.theory.policies import Tree, actions_array, probabilities
from devnull.theory.pomdp import Array

VERDICTS = ("neither", "deceptive inflation", "overjustification", "both")
"""What `Regions.verdict` indexes."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Axis x is p, axis y the belief (pH or pD); entry [y, x] of the first two is an index into `names`."""

    names: tuple[str, ...]
    """Of the example's policies."""
    p: Array
    """`(X,)`"""
    belief: Array
    """`(Y,)`"""
    best: NDArray[np.int64]
    """`(Y, X)`: maximises J."""
    picked: NDArray[np.int64]
    """`(Y, X)`: maximises J_obs."""
    verdict: NDArray[np.int64]
    """`(Y, X)`: of what is picked against what is best, an index into `VERDICTS`."""


def regions(parameters: HidingParameters | VerboseParameters, steps: int = 101) -> Regions:
    """Varies p and pH (example A) or pD (example B) over (0, 1); all else stays as in `parameters`.

    Transitions depend on p only and believed returns on the belief only, so the grid costs 2 x `steps` models.
    """
    if steps < 2:
        raise TheoryInputError(f"steps is {steps}; a grid needs at least 2")
    grid = (np.arange(steps) + 0.5) / steps  # cell centres: the edges 0 and 1 are ties
    examples_p = [_example(replace(parameters, p=float(p))) for p in grid]
    if isinstance(parameters, HidingParameters):
        examples_b = [_example(replace(parameters, p_hide=float(b))) for b in grid]
    else:
        examples_b = [_example(replace(parameters, p_default=float(b))) for b in grid]
    policies = examples_p[0].policies
    actions = np.concatenate([actions_array(policy) for policy in policies.values()])
    chances = np.stack([probabilities(Tree.of(e.returns), "stationary", actions) for e in examples_p])
    G, tolerance = examples_p[0].returns.G, examples_p[0].returns.tolerance
    believed = [e.returns.G_obs for e in examples_b]
    # (Y, X, policies): J, J_obs, E+, E-
    J, J_obs, plus, minus = (
        np.einsum("xpn,yn->yxp", chances, np.stack(values))
        for values in (
            [G] * steps,
            believed,
            [overestimation(G, G_obs) for G_obs in believed],
            [underestimation(G, G_obs) for G_obs in believed],
        )
    )
    best, picked = J.argmax(axis=2), J_obs.argmax(axis=2)

    def gain(values: Array) -> Array:
        at_picked = np.take_along_axis(values, picked[:, :, None], 2)
        return np.asarray((at_picked - np.take_along_axis(values, best[:, :, None], 2))[:, :, 0])

    inflation = (gain(plus) > tolerance) & (gain(J_obs) > tolerance)
    justification = (gain(minus) < -tolerance) & (gain(J) < -tolerance)
    return Regions(tuple(policies), grid, grid, best, picked, inflation + 2 * justification)


def _example(parameters: HidingParameters | VerboseParameters) -> Example:
    return hiding(parameters) if isinstance(parameters, HidingParameters) else verbose(parameters)
