"""From rewards to returns as they are and as they are believed: the matrices Γ, O and B, the vectors G and G_obs."""

from dataclasses import dataclass, field

import numpy as np

from devnull.theory.errors import TheoryInputError
from devnull.theory.measures import TOLERANCE
from devnull.theory.pomdp import POMDP, Array, finite_array, require_stochastic
from devnull.theory.sequences import IntArray, Sequences, reachable

_LARGEST = 1e300
"""Return that is still computed with."""


@dataclass(frozen=True, eq=False)
class Returns:
    """A decision problem together with the evaluator's belief, everything over reachable sequences (sec. 3, 5)."""

    pomdp: POMDP
    """The decision problem."""
    sequences: Sequences
    """All that can happen in it, as `reachable` lists it; rows of the matrices are in its order."""
    B: Array
    """`(M, N)`: B[o, s] is the evaluator's probability of state sequence s after seeing o."""
    Gamma: Array = field(init=False)
    """`(N, S)`: discounted visits, so that G = Gamma R."""
    O: Array = field(init=False)  # noqa: E741 - the paper's letter
    """`(N, M)`: probability of each observation sequence given the states."""
    G: Array = field(init=False)
    """`(N,)`: true return."""
    G_obs: Array = field(init=False)
    """`(N,)`: the return the evaluator is expected to believe in, O B G."""

    def __post_init__(self) -> None:
        N, M = len(self.sequences.states), len(self.sequences.observations)
        B = finite_array("B", self.B)
        if B.shape != (M, N):
            raise TheoryInputError(
                f"B has shape {B.shape}; with {M} observation and {N} state sequences it must be ({M}, {N})"
            )
        require_stochastic("B", B)
        Gamma = _visits(self.pomdp, self.sequences.states)
        shown = _emission(self.pomdp, self.sequences)
        R = self.pomdp.R
        if np.abs(R).max() * Gamma[0].sum() > _LARGEST:
            raise TheoryInputError(f"R holds {R[np.abs(R).argmax()]:g}; its returns overflow: use a smaller unit")
        G = Gamma @ R
        for name, value in (("B", B), ("Gamma", Gamma), ("O", shown), ("G", G), ("G_obs", shown @ (B @ G))):
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, pomdp: POMDP, B: Array) -> "Returns":
        """From a problem and a belief `(M, N)` over its reachable sequences, which are enumerated here."""
        return cls(pomdp, reachable(pomdp), B)

    @property
    def believed(self) -> Array:
        """`(M,)`: the return believed after each observation sequence, B G."""
        return self.B @ self.G

    @property
    def tolerance(self) -> float:
        """Values closer than this are equal: `TOLERANCE` times the spread of the returns, so that neither the
        unit of the reward nor a constant added to it decides a tie; and never less than rounding needs."""
        return TOLERANCE * max(float(np.ptp(self.G)), 1e-5 * float(np.abs(self.G).max()))

    def impossible(self) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
        """Beliefs in what cannot have been: (observations, states, mass) where the states never show the observations.

        A human may believe so, and every definition still holds; it is reported, never corrected.
        """
        where = np.argwhere((self.B > 0) & (self.O.T == 0))
        o, s = self.sequences.observations, self.sequences.states
        return [(tuple(o[m].tolist()), tuple(s[n].tolist()), float(self.B[m, n])) for m, n in where]

    def with_reward(self, R: Array) -> "Returns":
        """The same world and belief under another reward `(S,)`."""
        p = self.pomdp
        return Returns(POMDP(p.T, p.P0, R, p.PO, p.horizon, p.gamma, p.states, p.actions), self.sequences, self.B)


def _visits(pomdp: POMDP, states: IntArray) -> Array:
    """Γ `(N, S)`: Γ[n, s] = Σ_t γ^t 1[s_t = s]."""
    Gamma = np.zeros((len(states), pomdp.S))
    rows = np.arange(len(states))
    for time in range(states.shape[1]):
        Gamma[rows, states[:, time]] += pomdp.gamma**time
    return Gamma


def _emission(pomdp: POMDP, sequences: Sequences) -> Array:
    """O `(N, M)`: product over time of P_O(o_t | s_t)."""
    shown = np.ones((len(sequences.states), len(sequences.observations)))
    for time in range(pomdp.horizon + 1):
        shown *= pomdp.PO[sequences.states[:, time]][:, sequences.observations[:, time]]
    return shown


def posterior(pomdp: POMDP, sequences: Sequences, prior: Array) -> Array:
    """The belief `(M, N)` of a Bayesian with `prior` `(N,)` over state sequences.

    Raises `TheoryInputError` where the prior excludes everything that shows some observation sequence.
    """
    joint = _emission(pomdp, sequences).T * finite_array("prior", prior)[None, :]
    totals = joint.sum(axis=1, keepdims=True)
    if (totals <= 0).any():
        m = int(np.flatnonzero(totals[:, 0] <= 0)[0])
        seen = sequences.observations[m].tolist()
        raise TheoryInputError(f"prior: it excludes every state sequence that shows {seen}; give one of them mass")
    return np.asarray(joint / totals, float)
