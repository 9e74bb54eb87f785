"""What an evaluator's choices leave open about the reward, even when the belief is known (sec. 5)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from devnull.theory.errors import TheoryInputError
from devnull.theory.pomdp import Array
from devnull.theory.sequences import IntArray

_RANK = 1e-9
"""Singular values below this share of the largest count as zero."""


def matrix_rank(matrix: Array) -> int:
    """Rank `(m, n)`: singular values above 1e-9 of the largest (at least of 1)."""
    if matrix.size == 0:
        return 0
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > _RANK * max(1.0, float(values[0]))).sum())


def ambiguity_dimension(Gamma: Array, *beliefs: Array) -> int:
    """dim(ker B ∩ im Γ) = dim ker(BΓ) - dim ker Γ: directions of the return that no feedback reveals.

    With several beliefs `(M_i, N)` their kernels intersect (B stacked). Gamma is `(N, S)`.
    """
    return matrix_rank(Gamma) - matrix_rank(stack_beliefs(beliefs) @ Gamma)


def stack_beliefs(beliefs: Sequence[Array]) -> Array:
    """Several evaluators' beliefs over the same state sequences, one matrix `(ΣM_i, N)`."""
    if not beliefs:
        raise TheoryInputError("no belief given; at least one evaluator's B is needed")
    widths = {B.shape[1] for B in beliefs}
    if len(widths) > 1:
        raise TheoryInputError(f"beliefs over {sorted(widths)} state sequences; they must be over the same ones")
    return np.concatenate(beliefs)


@dataclass(frozen=True, eq=False)
class Direction:
    """A change of the reward that changes some true return and no believed one."""

    reward: Array
    """`(S,)`"""
    returns: Array
    """`(N,)`: the change it makes to the return of each state sequence, Γ times it."""


def ambiguous_directions(Gamma: Array, *beliefs: Array) -> list[Direction]:
    """A basis of ker B ∩ im Γ with a reward for each, chosen to move few returns.

    Changes in ker Γ move no return at all: they are left out, and used to zero reward entries. The basis
    is in reduced echelon form over the state sequences: each direction moves one return by 1 that no
    other direction moves.
    """
    null = null_space(stack_beliefs(beliefs) @ Gamma)
    rows = np.concatenate([null @ Gamma.T, null], axis=1)
    reduced, pivots = _echelon(rows, Gamma.shape[0])
    moved, rewards = reduced[: len(pivots), : Gamma.shape[0]], reduced[: len(pivots), Gamma.shape[0] :]
    idle, columns = _echelon(null_space(Gamma), Gamma.shape[1])
    rewards = rewards - rewards[:, columns] @ idle[: len(columns)]
    return [Direction(reward, change) for reward, change in zip(rewards, moved, strict=True)]


def null_space(matrix: Array) -> Array:
    """`(k, n)`: rows that the matrix sends to 0, read off its echelon form (sparse, unlike an SVD's)."""
    width = matrix.shape[1]
    reduced, pivots = _echelon(matrix, width)
    free = [column for column in range(width) if column not in pivots]
    vectors = np.zeros((len(free), width))
    for vector, column in zip(vectors, free, strict=True):
        vector[column] = 1.0
        vector[pivots] = -reduced[: len(pivots), column]
    return vectors


def _echelon(matrix: Array, columns: int) -> tuple[Array, list[int]]:
    """Reduced row echelon form over the first `columns` columns, and its pivot columns."""
    M = np.array(matrix, float)
    zero = _RANK * max(1.0, float(np.abs(M).max(initial=0.0)))
    pivots: list[int] = []
    for column in range(columns):
        row = len(pivots)
        if row == len(M):
            break
        best = row + int(np.abs(M[row:, column]).argmax())
        if abs(M[best, column]) <= zero:
            continue
        M[[row, best]] = M[[best, row]]
        M[row] /= M[row, column]
        others = np.arange(len(M)) != row
        M[others] -= M[others, column][:, None] * M[row][None, :]
        pivots.append(column)
    M[np.abs(M) <= zero] = 0.0
    return M, pivots


def describe_indistinguishable(
    direction: Direction, beliefs: Sequence[Array], sequences: IntArray, states: tuple[str, ...], shown: int = 6
) -> str:
    """Which truths the evaluators cannot tell apart, e.g. `(failed and hid it) against (did nothing more)`.

    A pair is named where some observation leaves both sequences possible and the direction raises
    one and lowers the other; what the two share is left out. At most `shown` pairs are spelled out.
    """
    scale = _RANK * max(1.0, float(np.abs(direction.returns).max()))
    raised, lowered = np.flatnonzero(direction.returns > scale), np.flatnonzero(direction.returns < -scale)
    B = stack_beliefs(beliefs)
    pairs: dict[str, None] = {}
    for n in raised:
        seen = B[:, n] > 0
        for other in lowered[(B[np.ix_(seen, lowered)] > 0).any(axis=0)]:
            more = Counter(sequences[n].tolist())
            less = Counter(sequences[other].tolist())
            sides = (", ".join(states[s] for s in (side).elements()) for side in (more - less, less - more))
            pairs[" against ".join(f"({side or 'the same, in another order'})" for side in sides)] = None
    named = list(pairs)[:shown]
    rest = f" and {len(pairs) - shown} more" if len(pairs) > shown else ""
    return "; ".join(named) + rest


def format_terms(values: Array, labels: Sequence[str]) -> str:
    """`+1 (W), -1 (WH)`: the entries of `values` `(n,)` that are not zero, with their labels."""
    scale = max(1.0, float(np.abs(values).max(initial=0.0)))
    return ", ".join(
        f"{value:+.4g} ({label})" for value, label in zip(values, labels, strict=True) if abs(value) > _RANK * scale
    )


@dataclass(frozen=True)
class Robustness:
    """What a known-but-slightly-wrong belief costs the belief-aware learner, where nothing is ambiguous (sec. 5).

    r is B restricted to im Γ in an orthonormal basis, X = ‖(rᵀr)⁻¹‖, Y = ‖r‖ (spectral norms).
    """

    radius: float
    """The bound holds for a belief off by at most this (spectral norm): min(Y, -Y + √(Y² + 1/(2X)))."""
    factor: float
    """Error of the learnt return ≤ rho · ‖G‖ · factor, factor = XY(12XY² + 1)."""
    X: float
    """‖(rᵀr)⁻¹‖"""
    Y: float
    """‖r‖"""

    def return_error(self, rho: float, G: Array) -> float:
        """Bound on ‖Ĝ - G‖ when the assumed belief is off by `rho`; raises beyond the radius."""
        if rho > self.radius:
            raise TheoryInputError(f"rho is {rho:g}; the bound holds up to the radius {self.radius:.4g}")
        return float(rho * np.linalg.norm(G) * self.factor)

    def regret(self, rho: float, G: Array) -> float:
        """Bound on the true return lost by optimising the learnt one: twice the error."""
        return 2.0 * self.return_error(rho, G)


def robustness(Gamma: Array, *beliefs: Array) -> Robustness:
    """Raises `TheoryInputError` where ker B ∩ im Γ is not 0: an ambiguous reward has no such bound."""
    dimension = ambiguity_dimension(Gamma, *beliefs)
    if dimension:
        raise TheoryInputError(
            f"the belief leaves {dimension} direction(s) of the return open; the bound needs none: add an evaluator "
            "with another belief, or another sensor"
        )
    U, values, _ = np.linalg.svd(Gamma, full_matrices=False)
    basis = U[:, values > _RANK * max(1.0, float(values[0]))]
    r = stack_beliefs(beliefs) @ basis
    X = float(np.linalg.norm(np.linalg.inv(r.T @ r), 2))
    Y = float(np.linalg.norm(r, 2))
    # -Y + sqrt(Y² + 1/2X) loses all digits to cancellation where X is large
    radius = (1.0 / (2.0 * X)) / (Y + float(np.sqrt(Y * Y + 1.0 / (2.0 * X))))
    return Robustness(radius=min(Y, radius), factor=X * Y * (12.0 * X * Y * Y + 1.0), X=X, Y=Y)
