"""Which conduct is best, and which one feedback picks, over a grid of probabilities (the paper's figure)."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from theory.errors import TheoryInputError
from theory.examples import Example, HidingParameters, VerboseParameters, hiding, verbose
from theory.policies import Tree, as_array, probabilities
from theory.pomdp import Array


@dataclass(frozen=True, eq=False)
class Regions:
    """Axis x is p, axis y the belief (pH or pD); entry [y, x] is an index into `names`."""

    names: tuple[str, ...]
    p: Array
    belief: Array
    best: NDArray[np.int64]
    """`(Y, X)`: maximises J."""
    picked: NDArray[np.int64]
    """`(Y, X)`: maximises J_obs."""


def regions(parameters: HidingParameters | VerboseParameters, steps: int = 101) -> Regions:
    """Varies p and pH (example A) or pD (example B) over (0, 1); all else stays as in `parameters`.

    Transitions depend on p only and believed returns on the belief only, so the grid costs 2 x `steps` models.
    """
    if steps < 2:
        raise TheoryInputError(f"steps is {steps}; a grid needs at least 2")
    grid = (np.arange(steps) + 0.5) / steps  # cell centres: the edges 0 and 1 are ties
    examples_p = [example(replace(parameters, p=float(p))) for p in grid]
    if isinstance(parameters, HidingParameters):
        examples_b = [example(replace(parameters, p_hide=float(b))) for b in grid]
    else:
        examples_b = [example(replace(parameters, p_default=float(b))) for b in grid]
    policies = examples_p[0].policies
    actions = np.concatenate([as_array(policy) for policy in policies.values()])
    chances = np.stack([probabilities(Tree.of(e.returns), "stationary", actions) for e in examples_p])
    believed = np.stack([e.returns.G_obs for e in examples_b])
    best = (chances @ examples_p[0].returns.G).argmax(axis=1)
    picked = np.einsum("xpn,yn->yxp", chances, believed).argmax(axis=2)
    return Regions(tuple(policies), grid, grid, np.broadcast_to(best, (steps, steps)), picked)


def example(parameters: HidingParameters | VerboseParameters) -> Example:
    return hiding(parameters) if isinstance(parameters, HidingParameters) else verbose(parameters)
