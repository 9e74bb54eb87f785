from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from devnull.theory.errors import TheoryInputError, TooLarge
from devnull.theory.pomdp import POMDP
from devnull.theory.random_models import random_returns
from devnull.theory.returns import Returns, posterior
from devnull.theory.sequences import count_state_sequences, observation_sequences, reachable


def coin() -> POMDP:
    """From s0 action 0 stays, action 1 tosses into s1 or s2 (both final); s1 and s2 look alike."""
    T = np.zeros((3, 2, 3))
    T[0, 0, 0] = 1
    T[0, 1] = [0, 0.25, 0.75]
    T[1, :, 1] = T[2, :, 2] = 1
    return POMDP(T, np.array([1.0, 0, 0]), np.array([0.0, 4, -4]), np.array([[1.0, 0], [0, 1], [0, 1]]), 2, 0.5)


def test_sequences_of_the_coin_by_hand():
    found = reachable(coin())
    assert found.states.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 1], [0, 2, 2]]
    assert found.observations.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 1]]


def test_returns_of_the_coin_by_hand():
    B = np.array([[1, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0], [0, 0, 0, 0.9, 0.1]])
    r = Returns(coin(), reachable(coin()), B)
    assert r.Gamma.tolist() == [[1.75, 0, 0], [1.5, 0.25, 0], [1.5, 0, 0.25], [1, 0.75, 0], [1, 0, 0.75]]
    assert r.G.tolist() == [0, 1, -1, 3, -3]
    assert r.O.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert r.G_obs.tolist() == pytest.approx([0, 0, 0, 2.4, 2.4])
    assert r.with_reward(np.zeros(3)).G_obs.tolist() == [0] * 5


@pytest.mark.parametrize("seed", range(6))
def test_enumeration_agrees_with_trying_every_sequence(seed):
    r = random_returns(
        np.random.default_rng(seed), S=3, A=2, O=2, deterministic_observations=seed % 2 == 0, density=0.4
    )
    p = r.pomdp
    can = (p.T > 0).any(axis=1)
    states = [s for s in product(range(3), repeat=4) if p.P0[s[0]] > 0 and all(can[a, b] for a, b in pairwise(s))]
    assert r.sequences.states.tolist() == [list(s) for s in states]
    shown = {
        o: [np.prod([p.PO[s, x] for s, x in zip(row, o, strict=True)]) for row in states]
        for o in product(range(2), repeat=4)
    }
    seen = sorted(o for o, chances in shown.items() if any(chances))
    assert r.sequences.observations.tolist() == [list(o) for o in seen]
    assert np.allclose(r.O, np.array([shown[o] for o in seen]).T)
    assert np.allclose(r.O.sum(axis=1), 1)
    discounted = [sum(p.gamma**t * p.R[s] for t, s in enumerate(row)) for row in states]
    assert np.allclose(r.G, discounted)
    assert count_state_sequences(p) == len(states)


def test_bayesian_belief_is_a_posterior():
    p = coin()
    sequences = reachable(p)
    B = posterior(p, sequences, np.array([0.2, 0.1, 0.3, 0.1, 0.3]))
    assert B[1].tolist() == pytest.approx([0, 0.25, 0.75, 0, 0])
    with pytest.raises(TheoryInputError, match=r"excludes every state sequence that shows \[0, 1, 1\]"):
        posterior(p, sequences, np.array([0.5, 0.5, 0, 0, 0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"T": np.ones((2, 2))}, r"T has shape \(2, 2\)"),
        ({"T": np.full((3, 2, 3), 0.5)}, r"row T\[0, 0\] sums to 1.5"),
        ({"P0": np.array([0.5, 0.4, 0.0])}, "P0 sums to 0.9"),
        ({"P0": np.array([1.5, -0.5, 0.0])}, r"P0\[1\] is -0.5"),
        ({"P0": np.array([1.0, 0.0])}, r"P0 has shape \(2,\); T has 3 states"),
        ({"R": np.array([0.0, np.nan, 1.0])}, r"R\[1\] is nan"),
        ({"R": np.array(["a", "b", "c"])}, "R holds <U1"),
        ({"PO": np.ones((3, 2))}, r"row PO\[0\] sums to 2"),
        ({"PO": np.ones((2, 1))}, r"PO has shape \(2, 1\)"),
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": 1.5}, "horizon is 1.5"),
        ({"gamma": 1.1}, "gamma is 1.1"),
        ({"states": ("a", "b")}, "3 different names"),
    ],
)
def test_what_is_no_problem_is_refused_by_name(change, message):
    with pytest.raises(TheoryInputError, match=message):
        replace(coin(), **change)


def test_beliefs_are_checked_and_the_impossible_reported():
    p = coin()
    sequences = reachable(p)
    with pytest.raises(TheoryInputError, match=r"B has shape \(2, 5\).*must be \(3, 5\)"):
        Returns(p, sequences, np.full((2, 5), 0.2))
    with pytest.raises(TheoryInputError, match=r"row B\[1\] sums to 0"):
        Returns(p, sequences, np.eye(3, 5) * np.array([[1], [0], [1]]))
    strange = Returns(p, sequences, np.array([[1.0, 0, 0, 0, 0], [0.25, 0.75, 0, 0, 0], [0, 0, 0, 1, 0]]))
    assert strange.impossible() == [((0, 0, 1), (0, 0, 0), 0.25)]


def test_too_large_is_said_before_memory_is_spent():
    S = 40
    big = POMDP(np.full((S, 1, S), 1 / S), np.full(S, 1 / S), np.zeros(S), np.eye(S), 9)
    with pytest.raises(TooLarge, match=r"S=40, A=1, O=40, horizon=9 has 1.05e\+16 state sequences.*GiB"):
        reachable(big)
    with pytest.raises(TooLarge, match="observation sequences"):
        observation_sequences(replace(big, horizon=5), memory_limit=2**20)
    with pytest.raises(TooLarge, match="64000 state sequences times 64000 observation sequences"):
        reachable(replace(big, horizon=2))
    chain = POMDP(np.ones((1, 1, 1)), np.ones(1), np.zeros(1), np.ones((1, 1)), 1)
    with pytest.raises(TooLarge, match=r"horizon is 1000000000000000019884624838656; .* up to 1000 moves"):
        reachable(replace(chain, horizon=1e30))
    assert count_state_sequences(replace(big, horizon=1000)) == np.inf
    with pytest.raises(TooLarge, match="inf state sequences"):
        reachable(replace(big, horizon=1000))


def test_returns_that_overflow_are_refused():
    with pytest.raises(TheoryInputError, match=r"R holds -1e\+300; its returns overflow"):
        Returns(replace(coin(), R=np.array([0, 1, -1e300])), reachable(coin()), np.full((3, 5), 0.2))
