"""What optimisation makes of a policy over a few conducts, exactly: tilts towards a reward, and best-of-n.

`policy` is `(C,)`, the shares of C conducts; `reward` is `(C,)` where it doesn't depend on the build.
"""

import numpy as np
from scipy.optimize import brentq

from devnull.eval.clusters import FloatArray

_TIE = 1e-9
"""Rewards nearer to each other than this count as equal."""


def exponential_tilt(policy: FloatArray, reward: FloatArray, strength: float) -> FloatArray:
    """π exp(strength · reward), normalised: the policy of greatest reward at its own KL divergence from π; `strength`
    is 1/β of RLHF with a KL penalty."""
    held = policy > 0
    weights = np.zeros_like(policy)
    weights[held] = policy[held] * np.exp(strength * (reward[held] - reward[held].max()))
    return np.asarray(weights / weights.sum(), float)


def optimum(policy: FloatArray, reward: FloatArray) -> FloatArray:
    """The limit of strong tilts: the best of the conducts that the policy has, ties by their shares."""
    best = (policy > 0) & (reward >= reward[policy > 0].max() - _TIE)
    return np.asarray(np.where(best, policy, 0.0) / policy[best].sum(), float)


def kl_divergence(policy: FloatArray, reference: FloatArray) -> float:
    """KL(policy || reference) in nats."""
    held = policy > 0
    return float((policy[held] * np.log(policy[held] / reference[held])).sum())


def tilt_to_kl(policy: FloatArray, reward: FloatArray, nats: float) -> FloatArray:
    """The tilt that lies so far from the policy, or the optimum where that is nearer."""
    best = optimum(policy, reward)
    if kl_divergence(best, policy) <= nats:
        return best
    spread = np.ptp(reward[policy > 0])
    strength = brentq(
        lambda s: kl_divergence(exponential_tilt(policy, reward, s / spread), policy) - nats, 0.0, 1e4, xtol=1e-10
    )
    return exponential_tilt(policy, reward, strength / spread)


def best_of_n(policy: FloatArray, reward: FloatArray, n: int) -> FloatArray:
    """Shares of the conducts among the winners of n independent draws, ties broken by chance.

    Where the reward depends on the build, call it for each build.
    """
    shares = np.zeros_like(policy)
    below = 0.0
    for value in np.unique(np.round(reward, 9)):
        tied = np.isclose(reward, value, rtol=0.0, atol=_TIE)
        weight = float(policy[tied].sum())
        if weight > 0:
            shares[tied] = ((below + weight) ** n - below**n) * policy[tied] / weight
        below += weight
    return shares
