from itertools import product

import numpy as np
import pytest

from devnull.theory.errors import TheoryInputError, TooLarge
from devnull.theory.examples import hiding
from devnull.theory.optimal import optimal_set
from devnull.theory.policies import (
    POLICY_CLASSES,
    Policy,
    Tree,
    behaviour,
    every_stationary,
    measures_of,
    measures_table,
    probabilities,
)
from devnull.theory.pomdp import POMDP
from devnull.theory.random_models import random_returns
from devnull.theory.returns import Returns
from devnull.theory.solve import solve


def chance(r, row, choose):
    """P(row) under `choose(states so far)`, by the definition."""
    p = r.pomdp
    value = p.P0[row[0]]
    for t in range(p.horizon):
        value *= p.T[row[t], choose(tuple(row[: t + 1])), row[t + 1]]
    return value


def small(seed, density=0.6):
    return random_returns(
        np.random.default_rng(seed), S=3, A=2, O=2, horizon=2, density=density, deterministic_observations=seed % 2 == 0
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", POLICY_CLASSES)
def test_optimal_sets_agree_with_trying_every_policy(seed, kind):
    r = small(seed)
    tree = Tree.of(r)
    rows = r.sequences.states.tolist()
    key = {"stationary": lambda h: h[-1], "time": lambda h: (len(h), h[-1]), "history": lambda h: h}[kind]
    histories = sorted({tuple(row[: t + 1]) for row in rows for t in range(2)}, key=lambda h: (len(h), h))
    points = list(range(3)) if kind == "stationary" else sorted({key(h) for h in histories})
    for values in (r.G, r.G_obs):
        worth = {}
        for actions in product(range(2), repeat=len(points)):
            at = dict(zip(points, actions, strict=True))
            worth[actions] = sum(
                chance(r, row, lambda h, at=at: at[key(h)]) * v for row, v in zip(rows, values, strict=True)
            )
        best = max(worth.values())
        found = optimal_set(tree, values, kind, r.tolerance)
        measured = [float(probabilities(tree, kind, as_row(p))[0] @ values) for p in found]
        assert measured == pytest.approx([best] * len(found), abs=1e-9)
        assert len(set(found)) == len(found)
        winners = {a for a, v in worth.items() if v >= best - 1e-9}
        if kind == "stationary":
            assert [p.actions for p in found] == sorted(winners)
        else:
            conduct = {conduct_of(r, dict(zip(points, a, strict=True)), key) for a in winners}
            assert {conduct_listed(tree, p) for p in found} == conduct


def as_row(policy):
    return np.array([[-1 if a is None else a for a in policy.actions]])


def conduct_of(r, at, key):
    """Every (decision point, action) met with positive probability, the first of actions that do the same."""
    T, met = r.pomdp.T, set()

    def first(history):
        s, a = history[-1], at[key(history)]
        return next(b for b in range(2) if (T[s, b] == T[s, a]).all())

    for row in r.sequences.states.tolist():
        if chance(r, row, lambda h: at[key(h)]) > 0:
            met |= {(key(tuple(row[: t + 1])), first(tuple(row[: t + 1]))) for t in range(r.pomdp.horizon)}
    return frozenset(met)


def conduct_listed(tree, policy):
    listed = tree.policy_as_json(policy)
    if policy.kind == "time":
        return frozenset(((t + 1, s), a) for t, row in enumerate(listed) for s, a in enumerate(row) if a is not None)
    return frozenset((tuple(h), a) for h, a in listed)


@pytest.mark.parametrize("seed", range(6))
def test_a_richer_class_is_never_worse(seed):
    r = random_returns(np.random.default_rng(seed), S=4, A=2, O=2, horizon=3)
    tree = Tree.of(r)
    for values in (r.G, r.G_obs):
        stars = []
        for kind in POLICY_CLASSES:
            found = optimal_set(tree, values, kind, r.tolerance)
            stars.append(float(probabilities(tree, kind, as_row(found[0]))[0] @ values))
        assert stars[0] <= stars[1] + 1e-9 and stars[1] <= stars[2] + 1e-9


def test_what_is_believed_can_depend_on_the_past_where_the_reward_does_not():
    """J needs no more than state and time; J_obs here gains from remembering how it got to s2."""
    T = np.zeros((5, 2, 5))
    T[0, :, 2] = T[1, :, 2] = T[3, :, 3] = T[4, :, 4] = 1
    T[2, 0, 3] = T[2, 1, 4] = 1
    p = POMDP(T, np.array([0.5, 0.5, 0, 0, 0]), np.array([0, 0, 0, 1.0, -1.0]), np.eye(5), 2)
    believed = np.zeros((4, 4))
    # sequences 0-2-3, 0-2-4, 1-2-3, 1-2-4: after starting in s1 the evaluator takes s3 for s4 and s4 for s3
    believed[[0, 1, 2, 3], [0, 1, 3, 2]] = 1
    r = Returns.of(p, believed)
    tree = Tree.of(r)

    def star(values, kind):
        return float(probabilities(tree, kind, as_row(optimal_set(tree, values, kind, 1e-9)[0]))[0] @ values)

    assert [star(r.G, kind) for kind in POLICY_CLASSES] == [1, 1, 1]
    assert [star(r.G_obs, kind) for kind in POLICY_CLASSES] == [0, 0, 1]
    assert len(optimal_set(tree, r.G_obs, "time", 1e-9)) == 2


def test_listed_formats():
    example = hiding()
    tree = Tree.of(example.returns)
    best = {kind: optimal_set(tree, example.returns.G, kind, 1e-9) for kind in POLICY_CLASSES}
    assert tree.policy_as_json(best["stationary"][0]) == [0, 1, 0, 0, 0, 0, 0]
    assert len(best["stationary"]) == 4**5
    assert tree.policy_as_json(best["time"][0]) == [
        [0, None, None, None, None, None, None],
        [None, 1, None, None, None, None, None],
        [None, None, 0, 0, None, None, None],
    ]
    assert tree.policy_as_json(best["history"][0]) == [[[0], 0], [[0, 1], 1], [[0, 1, 2], 0], [[0, 1, 3], 0]]


def test_behaviour_forgets_what_is_never_done():
    example = hiding()
    tree = Tree.of(example.returns)
    kept = {behaviour(tree, Policy("stationary", (0, 1, *rest))) for rest in product(range(4), repeat=5)}
    assert kept == {Policy("stationary", (0, 1, 0, 0, None, None, None))}, "at W and L all actions lead to the end"
    at_I = {behaviour(tree, Policy("stationary", (0, a, 0, 0, 0, 0, 0))).actions[1] for a in range(4)}
    assert at_I == {0, 1, 2}, "at I, aI ends like aT"


def test_table_and_single_measures_agree():
    r = small(3)
    tree = Tree.of(r)
    actions = every_stationary(r.pomdp)
    assert actions.tolist() == [list(a) for a in product(range(2), repeat=3)]
    rows = measures_table(r, tree, "stationary", actions)
    for row, policy in zip(rows, actions.tolist(), strict=True):
        m = measures_of(r, tree, Policy("stationary", tuple(policy)))
        assert [m.J, m.J_obs, m.E_plus, m.E_minus] == pytest.approx(row.tolist())
    assert np.allclose(probabilities(tree, "stationary", actions).sum(axis=1), 1)


def test_policies_that_do_not_fit_are_refused():
    r = small(0)
    tree = Tree.of(r)
    with pytest.raises(TheoryInputError, match="2 actions; a stationary policy of this problem has 3"):
        measures_of(r, tree, Policy("stationary", (0, 0)))
    with pytest.raises(TheoryInputError, match="actions run from 0 to 1"):
        measures_of(r, tree, Policy("stationary", (0, 2, 0)))
    with pytest.raises(TheoryInputError, match="no action at decision point"):
        measures_of(r, tree, Policy("stationary", (None, None, None)))


def test_too_many_policies_are_refused_before_they_are_made():
    S = 25
    p = POMDP(np.tile(np.eye(S)[:, None, :], (1, 2, 1)), np.eye(S)[0], np.zeros(S), np.eye(S), 1)
    with pytest.raises(TooLarge, match=r"2\^25 stationary policies"):
        every_stationary(p)


def test_too_many_ties_are_refused():
    S = 12
    T = np.random.default_rng(0).dirichlet(np.ones(S), size=(S, 4))
    p = POMDP(T, np.full(S, 1 / S), np.zeros(S), np.ones((S, 1)), 2)
    tree = Tree.of(Returns.of(p, np.full((1, S**3), 1 / S**3)))
    for kind in ("time", "history"):
        with pytest.raises(TooLarge, match="tie"):
            optimal_set(tree, np.zeros(S**3), kind, 1e-9)


def test_rounding_decides_no_tie():
    r = random_returns(np.random.default_rng(0), S=4, A=3, O=2, horizon=3, gamma=0.7)
    flat = solve(r.with_reward(np.full(4, 0.1)))
    assert len(flat.J_optimal) == len(flat.J_obs_optimal) == 3**4
