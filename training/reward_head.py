"""The head of a reward model at its maximum of likelihood, the features below it held.

Gradient steps leave it far from there along directions that few comparisons speak of: what a hidden failure is worth
against a shown one shows only in how two raters differ, and an epoch of Adam leaves that difference at the wrong sign
where the exact maximum of the same comparisons has the right one. For fixed features the problem is concave and small,
and Newton's method ends at the plateau.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from devnull.rewards.feedback.reward_inference import fit_logistic
from devnull.training.reward_scoring import distinct_conversations, last_features
from devnull.training.weighted_preferences import WeightedPreference


def fit_head(
    model: Any, tokenizer: Any, preferences: Sequence[WeightedPreference], rationality: float, ridge: float
) -> dict[str, float]:
    """Sets the head's weights to those that make the choices most likely.

    Args:
        model: With a head `score` without a bias, as `make_scoring_model` makes it; adapters may be around it.
        rationality: The evaluator's β.
        ridge: Weight of the squared weights, per comparison.

    Returns `head/log_likelihood` and `head/gradient` (the largest entry: 0 on the plateau), both per comparison.
    """
    found = distinct_conversations(tokenizer, [side for p in preferences for side in (p.chosen, p.rejected)])
    expected = found.expected(last_features(model, tokenizer, found))
    X = rationality * (expected[0::2] - expected[1::2])
    wins = np.full(len(X), 1 / len(X))
    weights, likelihood = fit_logistic(X, wins, np.zeros(len(X)), ridge)
    head = next(weight for name, weight in model.named_parameters() if "score" in name and weight.requires_grad)
    with torch.no_grad():
        head.copy_(torch.from_numpy(weights)[None].to(head))
    gradient = X.T @ (wins / (1 + np.exp(X @ weights))) - ridge * weights
    return {"head/log_likelihood": likelihood, "head/gradient": float(np.abs(gradient).max())}
