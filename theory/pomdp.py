"""A finite-horizon decision problem whose evaluator sees observations: the container, and what it refuses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devnull.theory.errors import TheoryInputError

Array = NDArray[np.float64]
"""Shapes in docstrings: S states, A actions, O observations, N state sequences, M observation sequences."""
_STOCHASTIC = 1e-6
"""How far a row of probabilities may be from summing to 1 (single precision fits); rows are used as given."""


@dataclass(frozen=True, eq=False)
class POMDP:
    """(S, A, T, P0, R, gamma) with an observation kernel for the evaluator (sec. 3). The agent sees states.

    Raises `TheoryInputError` for wrong shapes, entries that are not finite, and rows that are no distribution.
    """

    T: Array
    """`(S, A, S)`: T[s, a, s'] is the probability of s' after a in s."""
    P0: Array
    """`(S,)`: where it starts."""
    R: Array
    """`(S,)`: the true reward of a state, received at every one of the horizon + 1 times."""
    PO: Array
    """`(S, O)`: what the evaluator is shown in each state."""
    horizon: int
    """Number of moves; a sequence has one state more."""
    gamma: float = 1.0
    """Discount per move, in [0, 1]."""
    states: tuple[str, ...] = ()
    """Names, for tables only; `s0, s1, ...` where not given."""
    actions: tuple[str, ...] = ()
    """Names; `a0, a1, ...` where not given."""

    def __post_init__(self) -> None:
        for name in ("T", "P0", "R", "PO"):
            object.__setattr__(self, name, finite_array(name, getattr(self, name)))
        if self.T.ndim != 3 or self.T.shape[0] != self.T.shape[2] or 0 in self.T.shape:
            raise TheoryInputError(f"T has shape {self.T.shape}; it must be (S, A, S), none of them 0")
        S, A = self.T.shape[:2]
        for name, wanted in (("P0", (S,)), ("R", (S,))):
            if getattr(self, name).shape != wanted:
                raise TheoryInputError(f"{name} has shape {getattr(self, name).shape}; T has {S} states: give {wanted}")
        if self.PO.ndim != 2 or self.PO.shape[0] != S or self.PO.shape[1] == 0:
            raise TheoryInputError(f"PO has shape {self.PO.shape}; T has {S} states: give ({S}, O)")
        for name in ("T", "P0", "PO"):
            require_stochastic(name, getattr(self, name))
        if isinstance(self.horizon, bool) or self.horizon != int(self.horizon) or self.horizon < 1:
            raise TheoryInputError(f"horizon is {self.horizon}; it counts moves: a whole number from 1")
        if not 0.0 <= self.gamma <= 1.0:
            raise TheoryInputError(f"gamma is {self.gamma}; a discount lies between 0 and 1")
        object.__setattr__(self, "horizon", int(self.horizon))
        object.__setattr__(self, "gamma", float(self.gamma))
        object.__setattr__(self, "states", _names("states", self.states, "s", S))
        object.__setattr__(self, "actions", _names("actions", self.actions, "a", A))

    @property
    def S(self) -> int:
        """Number of states."""
        return int(self.T.shape[0])

    @property
    def A(self) -> int:
        """Number of actions."""
        return int(self.T.shape[1])

    @property
    def O(self) -> int:  # noqa: E743 - the paper's letter
        """Number of observations."""
        return int(self.PO.shape[1])


def finite_array(name: str, values: object) -> Array:
    """The values as a read-only array of floats; raises `TheoryInputError` where an entry is no finite real number."""
    raw = np.asarray(values)
    if raw.dtype.kind not in "biuf":
        raise TheoryInputError(f"{name} holds {raw.dtype}; it must hold real numbers")
    array = np.array(raw, dtype=np.float64)
    if not np.isfinite(array).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise TheoryInputError(f"{name}{list(at)} is {array[at]}; every entry must be finite")
    array.setflags(write=False)
    return array


def require_stochastic(name: str, rows: Array) -> None:
    """Raises `TheoryInputError`, naming the first, where a last axis of `rows` `(..., n)` is no distribution."""
    if (rows < 0).any():
        at = tuple(int(i) for i in np.argwhere(rows < 0)[0])
        raise TheoryInputError(f"{name}{list(at)} is {rows[at]:g}; a probability cannot be negative")
    totals = np.atleast_1d(rows.sum(axis=-1))
    wrong = np.argwhere(np.abs(totals - 1.0) > _STOCHASTIC)
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        where = name if rows.ndim == 1 else f"row {name}{list(at)}"
        raise TheoryInputError(f"{where} sums to {totals[at]:.12g}; they must sum to 1 (within {_STOCHASTIC:g})")


def _names(field: str, given: tuple[str, ...], letter: str, count: int) -> tuple[str, ...]:
    if not given:
        return tuple(f"{letter}{i}" for i in range(count))
    if len(given) != count or len(set(given)) != count:
        raise TheoryInputError(f"{field} names {list(given)}; {count} different names are needed")
    return tuple(given)
