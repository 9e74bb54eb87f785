"""What must hold of every problem, on problems drawn at random."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnull.theory.learning import naive_unrestricted, state_choices
from devnull.theory.policies import Tree, behaviour, every_stationary, measures_table
from devnull.theory.pomdp import POMDP
from devnull.theory.random_models import random_returns
from devnull.theory.returns import Returns
from devnull.theory.sequences import reachable
from devnull.theory.solve import solve
from devnull.theory.verdicts import in_theorem, theorem_holds


@st.composite
def problems(draw, S=st.integers(2, 4), A=st.integers(1, 3)):
    return random_returns(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        S=draw(S),
        A=draw(A),
        O=draw(st.integers(1, 3)),
        horizon=draw(st.integers(1, 3)),
        deterministic_observations=draw(st.booleans()),
        density=draw(st.sampled_from([0.3, 0.6, 1.0])),
        gamma=draw(st.sampled_from([0.0, 0.9, 1.0])),
    )


bounded = settings(max_examples=60, deadline=None, derandomize=True)


@bounded
@given(problems())
def test_identity(r):
    rows = measures_table(r, Tree.of(r), "stationary", every_stationary(r.pomdp))
    assert np.allclose(rows[:, 2] - rows[:, 3], rows[:, 1] - rows[:, 0], rtol=0, atol=1e-9)
    assert (rows[:, 2:] >= 0).all()


@bounded
@given(problems())
def test_theorem(r):
    solved = solve(r)
    assert all(theorem_holds(v) for v in solved.verdicts.values())
    for (policy, reference), v in solved.verdicts.items():
        assert v.in_theorem == in_theorem(policy, reference, solved.J_optimal, solved.J_obs_optimal)
        # both sets being optimal, J_obs cannot fall nor J rise: the signs of the errors decide alone
        if v.in_theorem:
            assert v.deceptive_inflation == v.quadrant.inflating
            assert v.overjustification == v.quadrant.justifying


@bounded
@given(problems(), st.floats(-20, 20))
def test_a_constant_added_to_the_reward_moves_only_the_level(r, constant):
    before = solve(r)
    after = solve(r.with_reward(r.pomdp.R + constant))
    shift = constant * sum(r.pomdp.gamma**t for t in range(r.pomdp.horizon + 1))
    assert after.J_star == pytest.approx(before.J_star + shift, abs=1e-7)
    assert after.J_obs_star == pytest.approx(before.J_obs_star + shift, abs=1e-7)
    assert after.ambiguity == before.ambiguity
    for policy in before.J_optimal.keys() & after.J_optimal.keys():
        assert after.J_optimal[policy].E_plus == pytest.approx(before.J_optimal[policy].E_plus, abs=1e-7)
    assert before.J_optimal.keys() & after.J_optimal.keys()


@bounded
@given(problems(), st.sampled_from([1e-12, 1e-3, 1e6, 1e200]), st.sampled_from([0.0, 1e5]))
def test_neither_unit_nor_level_of_the_reward_decides_a_tie(r, unit, level):
    before, after = solve(r), solve(r.with_reward(unit * (np.round(r.pomdp.R, 3) + level)))
    plain = solve(r.with_reward(np.round(r.pomdp.R, 3)))
    assert plain.J_optimal.keys() == after.J_optimal.keys()
    assert plain.J_obs_optimal.keys() == after.J_obs_optimal.keys()
    assert before.ambiguity == after.ambiguity
    verdicts = [(v.deceptive_inflation, v.overjustification, v.in_theorem) for v in plain.verdicts.values()]
    assert verdicts == [(v.deceptive_inflation, v.overjustification, v.in_theorem) for v in after.verdicts.values()]


@bounded
@given(problems(), st.randoms(use_true_random=False))
def test_names_of_states_actions_and_observations_do_not_matter(r, random):
    p = r.pomdp
    s, a, o = (np.array(random.sample(range(n), n)) for n in (p.S, p.A, p.O))  # new number of each old one
    old_s, old_a, old_o = np.argsort(s), np.argsort(a), np.argsort(o)
    q = POMDP(p.T[old_s][:, old_a][:, :, old_s], p.P0[old_s], p.R[old_s], p.PO[old_s][:, old_o], p.horizon, p.gamma)
    sequences = reachable(q)
    at_s = {tuple(row): n for n, row in enumerate(sequences.states.tolist())}
    at_o = {tuple(row): m for m, row in enumerate(sequences.observations.tolist())}
    assert len(at_s) == len(r.G) and len(at_o) == len(r.believed)
    new_n = [at_s[tuple(row)] for row in s[r.sequences.states].tolist()]
    new_m = [at_o[tuple(row)] for row in o[r.sequences.observations].tolist()]
    B = np.zeros_like(r.B)
    B[np.ix_(new_m, new_n)] = r.B
    before, after = solve(r), solve(Returns(q, sequences, B))
    assert after.J_star == pytest.approx(before.J_star, abs=1e-9)
    assert after.J_obs_star == pytest.approx(before.J_obs_star, abs=1e-9)
    assert after.ambiguity == before.ambiguity
    renamed = {tuple(a[list(policy.actions)][old_s].tolist()) for policy in before.J_obs_optimal}
    assert renamed == {policy.actions for policy in after.J_obs_optimal}


@bounded
@given(problems())
def test_an_evaluator_who_sees_all_is_never_wrong(r):
    p = replace(r.pomdp, PO=np.eye(r.pomdp.S))
    sequences = reachable(p)
    seeing = Returns(p, sequences, np.eye(len(sequences.states)))
    solved = solve(seeing)
    assert solved.J_star == pytest.approx(solved.J_obs_star)
    assert solved.J_optimal.keys() == solved.J_obs_optimal.keys()
    assert solved.ambiguity == 0
    assert not any(v.deceptive_inflation or v.overjustification or v.in_theorem for v in solved.verdicts.values())


@bounded
@given(problems(S=st.integers(2, 3)))
def test_conduct_decides_the_measures(r):
    tree = Tree.of(r)
    solved = solve(r)
    for policies in (solved.J_optimal, solved.J_obs_optimal):
        values: dict[object, tuple[float, ...]] = {}
        for policy, m in policies.items():
            row = (m.J, m.J_obs, m.E_plus, m.E_minus)
            assert values.setdefault(behaviour(tree, policy), row) == pytest.approx(row, abs=1e-12)
        assert len(solved.distinct(policies)) == len(values)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_unrestricted_learner_maximises_what_is_believed(seed):
    """Prop. 4.1: with deterministic observations the naive learner ends at G_obs, up to a constant."""
    r = random_returns(np.random.default_rng(seed), S=3, A=2, O=2, horizon=2)
    learnt = naive_unrestricted(r, state_choices(r)).returns
    assert np.ptp(learnt - r.G_obs) < 1e-5
