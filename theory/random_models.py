"""Random decision problems, for sweeps and property tests."""

import numpy as np

from devnull.theory.errors import TheoryInputError
from devnull.theory.pomdp import POMDP, Array
from devnull.theory.returns import Returns
from devnull.theory.sequences import Sequences, reachable


def random_returns(
    rng: np.random.Generator,
    S: int = 5,
    A: int = 3,
    O: int = 3,  # noqa: E741 - the paper's letter
    horizon: int = 3,
    *,
    deterministic_observations: bool = True,
    density: float = 1.0,
    gamma: float = 1.0,
) -> Returns:
    """A random problem with a random belief in what could have been shown.

    Dirichlet rows with a share `density` of nonzero entries (at least one a row), standard normal rewards,
    and for each observation sequence a flat Dirichlet belief over the state sequences that can show it.
    """
    if not 0.0 < density <= 1.0:
        raise TheoryInputError(f"density is {density}; it lies above 0 and up to 1")
    if deterministic_observations:  # every observation occurs where there are states enough
        seen = np.concatenate([np.arange(min(S, O)), rng.integers(O, size=max(0, S - O))])
        PO = np.eye(O)[rng.permutation(seen)]
    else:
        PO = rng.dirichlet(np.ones(O), size=S)
    pomdp = POMDP(
        T=_sparse_rows(rng, (S, A, S), density),
        P0=_sparse_rows(rng, (S,), density),
        R=rng.normal(size=S),
        PO=PO,
        horizon=horizon,
        gamma=gamma,
    )
    sequences = reachable(pomdp)
    return Returns(pomdp, sequences, _random_belief(rng, pomdp, sequences))


def _sparse_rows(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Array:
    weights = rng.exponential(size=shape) * (rng.random(shape) < density)
    empty = weights.sum(axis=-1) == 0
    weights[empty, rng.integers(shape[-1])] = 1.0
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), float)


def _random_belief(rng: np.random.Generator, pomdp: POMDP, sequences: Sequences) -> Array:
    """`(M, N)`, positive exactly where the states can show the observations."""
    possible = np.ones((len(sequences.observations), len(sequences.states)), bool)
    for time in range(pomdp.horizon + 1):
        shows = pomdp.PO[sequences.states[:, time]][:, sequences.observations[:, time]]
        possible &= shows.T > 0
    weights = rng.exponential(size=possible.shape) * possible
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), float)
