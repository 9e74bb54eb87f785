"""Reward learning from an evaluator's choices: naive, state-wise or unrestricted, and aware of the belief.

Three learners that differ only in what they take the compared returns to be:

- `naive_unrestricted`: a return for every state sequence, free (Prop. 4.1's assumption); learns G_obs.
- `naive_statewise`: the same choices explained by rewards of states, Γ R; can be G_obs only if that is in im Γ.
- `belief_aware`: the believed returns B Γ R with B known (sec. 5); right up to `devnull.theory.ambiguity`.
"""

from dataclasses import dataclass

import numpy as np

from devnull.theory.errors import TheoryInputError
from devnull.theory.pomdp import Array
from devnull.theory.returns import Returns

_ITERATIONS = 200
_GRADIENT = 1e-13
"""Fitting stops when no step improves the likelihood or the gradient is this small."""
_FLAT = 1e-9
"""A likelihood flatter than this in some direction has run away to infinity."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a learner makes of the choices; both vectors are known up to a constant only."""

    returns: Array
    """`(N,)`: return of each state sequence, to be maximised by a policy."""
    reward: Array | None
    """`(S,)`: the smallest reward that explains the choices; `None` for the unrestricted learner."""
    log_likelihood: float
    """Per comparison."""


def choice_probabilities(values: Array, beta: float = 1.0) -> Array:
    """`(n, n)`: Boltzmann probability that row is preferred to column, σ(β (v_i - v_j))."""
    if not beta > 0:
        raise TheoryInputError(f"beta is {beta}; a Boltzmann evaluator needs a positive one")
    return np.exp(-np.logaddexp(0.0, -beta * (values[:, None] - values[None, :])))


def observed_choices(returns: Returns, beta: float = 1.0) -> Array:
    """`(M, M)`: which of two observation sequences the evaluator prefers, by B G."""
    return choice_probabilities(returns.believed, beta)


def state_choices(returns: Returns, beta: float = 1.0) -> Array:
    """`(N, N)`: the same between state sequences, over what each may have shown: O P Oᵀ."""
    return np.asarray(returns.O @ observed_choices(returns, beta) @ returns.O.T, float)


def sample_counts(choices: Array, comparisons: int, rng: np.random.Generator) -> Array:
    """`(n, n)`: how often row beat column in so many comparisons of pairs drawn evenly with replacement."""
    if comparisons < 1:
        raise TheoryInputError(f"comparisons is {comparisons}; sampling needs at least 1")
    i, j = np.triu_indices(len(choices), k=1)
    drawn = rng.multinomial(comparisons, np.full(len(i), 1.0 / len(i)))
    won = rng.binomial(drawn, choices[i, j])
    counts = np.zeros_like(choices)
    counts[i, j], counts[j, i] = won, drawn - won
    return counts


def naive_unrestricted(returns: Returns, wins: Array, beta: float = 1.0, ridge: float = 0.0) -> Learnt:
    """`wins` `(N, N)` between state sequences: `state_choices` (exact) or `sample_counts` of them."""
    learnt, likelihood = fit_bradley_terry(np.eye(len(returns.G)), wins, beta, ridge)
    return Learnt(learnt, None, likelihood)


def naive_statewise(returns: Returns, wins: Array, beta: float = 1.0, ridge: float = 0.0) -> Learnt:
    """The same `wins`; takes what the evaluator sees to be all there is."""
    reward, likelihood = fit_bradley_terry(returns.Gamma, wins, beta, ridge)
    return Learnt(returns.Gamma @ reward, reward, likelihood)


def belief_aware(returns: Returns, wins: Array, beta: float = 1.0, ridge: float = 0.0) -> Learnt:
    """`wins` `(M, M)` between observation sequences: `observed_choices` or `sample_counts` of them."""
    reward, likelihood = fit_bradley_terry(returns.B @ returns.Gamma, wins, beta, ridge)
    return Learnt(returns.Gamma @ reward, reward, likelihood)


def fit_bradley_terry(features: Array, wins: Array, beta: float = 1.0, ridge: float = 0.0) -> tuple[Array, float]:
    """Maximum likelihood Bradley-Terry: θ `(k,)` with P(i beats j) = σ(β (x_i - x_j)·θ); and ln L per comparison.

    `features` `(n, k)`; `wins` `(n, n)`, probabilities or counts, the diagonal ignored. Of all θ that fit equally
    well the smallest is returned, the one gradient descent from zero finds. Sampled choices may all
    point one way, and then no finite θ is the most likely: a `ridge` > 0 on θ² (per comparison) decides.
    """
    n = len(features)
    if wins.shape != (n, n):
        raise TheoryInputError(f"wins has shape {wins.shape}; {n} compared items need ({n}, {n})")
    if (wins < 0).any() or not np.isfinite(wins).all():
        raise TheoryInputError("wins holds negative or infinite entries; give probabilities or counts")
    wins = wins - np.diag(np.diag(wins))
    total = float(wins.sum())
    if total == 0.0:
        raise TheoryInputError("wins is empty; at least one comparison is needed")
    wins, trials = wins / total, (wins + wins.T) / total
    # only differences count: work in the span of the centred features, where the smallest θ lies
    centred = features - features.mean(axis=0)
    _, scale, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[scale > 1e-9 * max(1.0, float(scale[0]))]
    X = beta * centred @ directions.T
    z = np.zeros(X.shape[1])

    def objective(z: Array) -> float:
        gaps = (u := X @ z)[:, None] - u[None, :]
        return float((wins * -np.logaddexp(0.0, -gaps)).sum() - 0.5 * ridge * (z @ z))

    value = objective(z)
    for _ in range(_ITERATIONS):
        u = X @ z
        P = np.exp(-np.logaddexp(0.0, -(u[:, None] - u[None, :])))
        # wins_ij P_ji - wins_ji P_ij: no digits are lost where a choice is all but certain
        gradient = X.T @ (wins * P.T - wins.T * P).sum(axis=1) - ridge * z
        weights = trials * P * P.T
        hessian = X.T @ (np.diag(weights.sum(axis=1)) - weights) @ X + ridge * np.eye(len(z))
        if np.abs(gradient).max(initial=0.0) <= _GRADIENT * np.sqrt(np.abs(np.diag(hessian)).min(initial=1.0)):
            break
        step = np.linalg.lstsq(hessian, gradient, rcond=1e-14)[0]
        size = 1.0
        while size > 1e-6 and objective(z + size * step) < value:
            size /= 2
        if size <= 1e-6:
            break
        z = z + size * step
        value = objective(z)
    one_sided = bool(((wins > 0) & (wins.T == 0)).any())
    if ridge == 0.0 and one_sided and np.linalg.eigvalsh(hessian)[0] < _FLAT * np.linalg.norm(X, 2) ** 2 / n:
        raise TheoryInputError(
            "choices: some differences never go the other way, so no finite reward is the most likely; "
            "pass a small ridge, or more comparisons"
        )
    return np.asarray(directions.T @ z, float), objective(z)
