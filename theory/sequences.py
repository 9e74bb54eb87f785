"""Which state and observation sequences can happen at all, in lexicographic order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devnull.theory.errors import TooLarge
from devnull.theory.pomdp import POMDP

IntArray = NDArray[np.int64]
"""Indices of states, observations, actions or sequences."""
_MEMORY_LIMIT = 2 * 2**30
"""Bytes that the matrices of one model may take together (about six of N x M are alive at once)."""
_HORIZON_LIMIT = 1000
"""Moves. Beyond, even a model with few sequences takes longer to list than anybody waits."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """All that can happen with positive probability under some policy, rows sorted lexicographically."""

    states: IntArray
    """`(N, horizon + 1)`"""
    observations: IntArray
    """`(M, horizon + 1)`"""


def reachable(pomdp: POMDP, memory_limit: int = _MEMORY_LIMIT) -> Sequences:
    """Enumerates both kinds of sequences; raises `TooLarge` before memory runs out.

    The number N of state sequences is counted exactly first (powers of the adjacency matrix); it
    grows like S^(horizon+1) where every state leads to every other.
    """
    if pomdp.horizon > _HORIZON_LIMIT:
        raise TooLarge(f"horizon is {pomdp.horizon}; sequences are listed up to {_HORIZON_LIMIT} moves")
    N = count_state_sequences(pomdp)
    row = 8 * (pomdp.horizon + 1)
    if N * row * 3 > memory_limit:
        raise TooLarge(_refusal(pomdp, f"{N:.3g} state sequences", N * row * 3, memory_limit))
    observations = observation_sequences(pomdp, memory_limit)
    need = 6 * 8 * N * len(observations)
    if need > memory_limit:
        what = f"{N} state sequences times {len(observations)} observation sequences"
        raise TooLarge(_refusal(pomdp, what, need, memory_limit))
    return Sequences(_state_sequences(pomdp), observations)


def _refusal(pomdp: POMDP, what: str, need: float, limit: float) -> str:
    return (
        f"a model with S={pomdp.S}, A={pomdp.A}, O={pomdp.O}, horizon={pomdp.horizon} has {what}: about "
        f"{need / 2**30:.3g} GiB, over the limit of {limit / 2**30:.3g} GiB; use fewer states or a shorter horizon"
    )


def count_state_sequences(pomdp: POMDP) -> float:
    """N, exact below 2^53; infinite beyond what a float holds."""
    step = (pomdp.T > 0).any(axis=1).astype(float)
    ways = (pomdp.P0 > 0).astype(float)
    for _ in range(pomdp.horizon):
        ways = ways @ step
        if ways.sum() > 1e300:  # one more product could meet infinity times zero
            return np.inf
    total = float(ways.sum())
    return int(total) if total < 2**53 else total


def _state_sequences(pomdp: POMDP) -> IntArray:
    """`(N, horizon + 1)`, lexicographic."""
    step: NDArray[np.bool_] = np.any(pomdp.T > 0, axis=1)
    rows = np.flatnonzero(pomdp.P0 > 0)[:, None]
    for _ in range(pomdp.horizon):
        # nonzero() walks row by row: prefixes stay in order, and so do their continuations
        prefix, following = np.nonzero(step[rows[:, -1]])
        rows = np.concatenate([rows[prefix], following[:, None]], axis=1)
    return rows.astype(np.int64)


def observation_sequences(pomdp: POMDP, memory_limit: int = _MEMORY_LIMIT) -> IntArray:
    """`(M, horizon + 1)`, lexicographic: each with at least one state sequence that can show it."""
    step: NDArray[np.bool_] = np.any(pomdp.T > 0, axis=1)
    shows = pomdp.PO.T > 0
    possible: NDArray[np.bool_] = np.atleast_2d(pomdp.P0 > 0)
    rows = np.zeros((1, 0), dtype=np.int64)
    for time in range(pomdp.horizon + 1):
        need = 10 * len(rows) * pomdp.O * pomdp.S
        if need > memory_limit:
            raise TooLarge(_refusal(pomdp, f"over {len(rows)} observation sequences", need, memory_limit))
        here = possible[:, None, :] & shows[None, :, :]
        prefix, seen = np.nonzero(here.any(axis=2))
        rows = np.concatenate([rows[prefix], seen[:, None]], axis=1)
        possible = here[prefix, seen]
        if time < pomdp.horizon:
            possible = np.asarray(possible.astype(np.float32) @ step.astype(np.float32) > 0)
    return rows.astype(np.int64)
