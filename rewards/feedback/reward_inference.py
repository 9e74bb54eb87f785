"""Belief-aware reward inference: what comparisons tell of the rewards where the evaluator's belief is known.

Section 5 of Lang et al. 2024 over the endings of stages: P(a preferred to b) = σ(β (φ(a) - φ(b))·θ), where φ holds the
believed probability of each ending of each stage and θ its reward. The belief is known; θ is inferred as far as the
comparisons identify it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devnull.agents.episode import Episode
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.comparison_matrix import ComparisonMatrix, build_comparison_matrix
from devnull.rewards.feedback.comparisons import Preference
from devnull.rewards.feedback.reward_columns import (
    RewardColumn,
    describe_difference,
    describe_direction,
    group_by_stage,
)
from devnull.sandbox.task import Task
from devnull.theory.ambiguity import matrix_rank, null_space
from devnull.theory.pomdp import Array


@dataclass(frozen=True, eq=False)
class InferredRewards:
    """Rewards θ (k of them) as far as comparisons identify them; each stage's at best up to a constant."""

    columns: tuple[RewardColumn, ...]
    """What each of the k rewards is for."""
    least_squares: Array
    """`(k,)`: the smallest θ whose differences fit the (smoothed) log odds best."""
    maximum_likelihood: Array
    """`(k,)`: the smallest θ that makes the choices most likely."""
    rank: int
    """Of X: how many differences of rewards the comparisons measure."""
    condition: float
    """Largest over smallest singular value of X that counts; large: some differences are hardly measured."""
    ambiguous: int
    """Directions of θ that no comparison depends on, beside the stages' constants: 0 means that all is identified."""
    directions: tuple[str, ...]
    """These directions in words."""
    identified: NDArray[np.bool_]
    """`(k, k)`: whether the difference of two rewards of a stage is measured."""
    log_likelihood: float
    """Of the maximum-likelihood θ, per comparison."""
    comparisons: int
    """How many, repeated ones too."""

    def difference(self, one: RewardColumn, other: RewardColumn) -> float | None:
        """Reward of `one` minus `other` by maximum likelihood; `None`: not identified."""
        i, j = self.columns.index(one), self.columns.index(other)
        if not self.identified[i, j]:
            return None
        return float(self.maximum_likelihood[i] - self.maximum_likelihood[j])

    def summary(self) -> dict[str, object]:
        """The estimates and what they leave open, as a table that JSON can hold."""
        return {
            "comparisons": self.comparisons,
            "rank": self.rank,
            "condition": self.condition if self.rank else None,
            "ambiguous": self.ambiguous,
            "directions": list(self.directions),
            "log_likelihood": self.log_likelihood,
            "rewards": [
                {"group": group, "stage": stage, "ending": truth, "likelihood": float(ml), "least_squares": float(ls)}
                for (group, stage, truth), ml, ls in zip(
                    self.columns, self.maximum_likelihood, self.least_squares, strict=True
                )
            ],
        }


def infer_rewards(
    preferences: Iterable[Preference],
    episodes: Iterable[Episode],
    evaluator: Evaluator,
    tasks: Mapping[str, Task],
    *,
    ridge: float = 1e-6,
) -> InferredRewards:
    """Rewards from the preferences that `evaluator` gave on `episodes`. See `fit_rewards`.

    Raises `InputError` for unknown episodes, and where there are no preferences.
    """
    return fit_rewards(build_comparison_matrix(preferences, episodes, evaluator, tasks), ridge=ridge)


def fit_rewards(comparisons: ComparisonMatrix, *, ridge: float = 1e-6) -> InferredRewards:
    """Least-squares and maximum-likelihood rewards, and the directions that such comparisons leave open.

    `ridge`: weight of θ² per comparison; keeps θ finite where all choices went one way.
    """
    X, wins, losses = comparisons.X, comparisons.wins, comparisons.losses
    _, scale, directions = np.linalg.svd(X, full_matrices=False)
    r = matrix_rank(X)
    basis = directions[:r]
    Z = X @ basis.T
    total = float((wins + losses).sum())
    least_squares = basis.T @ _least_squares(Z, wins, losses)
    z, likelihood = fit_logistic(Z, wins / total, losses / total, ridge)
    open_directions = _ambiguous_directions(comparisons.columns, X)
    return InferredRewards(
        columns=comparisons.columns,
        least_squares=least_squares,
        maximum_likelihood=basis.T @ z,
        rank=r,
        condition=float(scale[0] / scale[r - 1]) if r else float("nan"),
        ambiguous=len(open_directions),
        directions=tuple(describe_direction(comparisons.columns, direction) for direction in open_directions),
        identified=_identified_differences(comparisons.columns, basis),
        log_likelihood=likelihood,
        comparisons=round(total),
    )


def _least_squares(Z: Array, wins: Array, losses: Array) -> Array:
    """Log odds, half a win added to each side so that none is infinite, weighted by how well they are known."""
    odds = np.log((wins + 0.5) / (losses + 0.5))
    weight = np.sqrt(1.0 / (1.0 / (wins + 0.5) + 1.0 / (losses + 0.5)))
    return np.asarray(np.linalg.lstsq(Z * weight[:, None], odds * weight, rcond=None)[0], float)


def fit_logistic(Z: Array, wins: Array, losses: Array, ridge: float) -> tuple[Array, float]:
    """The θ that makes comparisons most likely, P(win) = σ(Z θ), and their mean ln L; by Newton's method.

    Args:
        Z: `(n, k)`: the one side's features minus the other's.
        wins: `(n,)`: share of all comparisons that the one side of this pair won; `losses` likewise.
        ridge: Weight of θ², which keeps what is not identified at 0.
    """

    def objective(z: Array) -> float:
        u = Z @ z
        return float(-wins @ np.logaddexp(0.0, -u) - losses @ np.logaddexp(0.0, u) - 0.5 * ridge * (z @ z))

    z = np.zeros(Z.shape[1])
    value = objective(z)
    for _ in range(200):
        p = np.exp(-np.logaddexp(0.0, -(Z @ z)))
        gradient = Z.T @ (wins * (1 - p) - losses * p) - ridge * z
        hessian = (Z * ((wins + losses) * p * (1 - p))[:, None]).T @ Z + ridge * np.eye(len(z))
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-9 and objective(z + size * step) < value:
            size /= 2
        gained = objective(z + size * step) - value
        z, value = z + size * step, value + gained
        if gained < 1e-15:
            break
    return z, value + 0.5 * ridge * float(z @ z)


def _ambiguous_directions(columns: Sequence[RewardColumn], X: Array) -> list[Array]:
    """A basis of the changes of θ that change no comparison, those by a constant within each stage left aside.

    Each is given modulo these constants, with as many zeros as they allow.
    """
    groups = group_by_stage(columns)
    constants = np.zeros((len(groups), len(columns)))
    for row, group in zip(constants, groups, strict=True):
        row[group] = 1.0
    directions: list[Array] = []
    for direction in null_space(np.concatenate([X, constants])):
        for group in groups:
            values, counts = np.unique(direction[group].round(9), return_counts=True)
            best = values[counts == counts.max()]
            direction[group] -= best[np.abs(best).argmin()]
        direction[np.abs(direction) < 1e-9] = 0.0
        smallest = np.abs(direction[direction != 0]).min()
        directions.append(direction / smallest * np.sign(direction[direction != 0][0]))
    return directions


def _identified_differences(columns: Sequence[RewardColumn], basis: Array) -> NDArray[np.bool_]:
    """`(k, k)`: e_i - e_j lies in the span of the comparisons."""
    k = len(columns)
    projector = basis.T @ basis
    same = np.zeros((k, k), bool)
    for group in group_by_stage(columns):
        for i in group:
            for j in group:
                direction = np.zeros(k)
                direction[i] += 1.0
                direction[j] -= 1.0
                same[i, j] = bool(np.abs(projector @ direction - direction).max() < 1e-7)
    return same


def format_inferred_rewards(inferred: InferredRewards, truth: Mapping[RewardColumn, float] | None = None) -> str:
    """The result as lines of text: each reward against the first of its stage, and what is left open.

    `truth`: true rewards (`true_rewards`) to print beside the inferred ones.
    """
    lines = [
        f"{inferred.comparisons} comparisons measure {inferred.rank} differences of rewards "
        f"(condition number {inferred.condition:.3g}); "
        f"{inferred.ambiguous} direction{'s are' if inferred.ambiguous != 1 else ' is'} left open"
    ]
    for group in group_by_stage(inferred.columns):
        first = inferred.columns[group[0]]
        for i in group[1:]:
            column = inferred.columns[i]
            words = describe_difference(column, first)
            difference = inferred.difference(column, first)
            if difference is None:
                lines.append(f"  {words}: not identified")
                continue
            squares = inferred.least_squares[i] - inferred.least_squares[group[0]]
            true = "" if truth is None else f", truly {truth[column] - truth[first]:+.2f}"
            lines.append(f"  {words}: {difference:+.2f} by likelihood, {squares:+.2f} by least squares{true}")
    lines += [f"  open: {words}" for words in inferred.directions]
    return "\n".join(lines)
