import numpy as np
import pytest

from devnull.theory.ambiguity import (
    ambiguity_dimension,
    ambiguous_directions,
    describe_indistinguishable,
    format_terms,
    matrix_rank,
    robustness,
    stack_beliefs,
)
from devnull.theory.errors import TheoryInputError
from devnull.theory.examples import HidingParameters, hiding, verbose
from devnull.theory.random_models import random_returns


def test_hiding_leaves_two_directions_and_names_them():
    example = hiding()
    r = example.returns
    found = ambiguous_directions(r.Gamma, r.B)
    words = [describe_indistinguishable(d, [r.B], r.sequences.states, tuple(example.meanings.values())) for d in found]
    assert words == [
        "(worked) against (worked with errors hidden)",
        "(failed and hid it) against (did nothing more)",
    ]
    assert format_terms(found[0].reward, r.pomdp.states) == "+1 (W), -1 (WH)"


def test_one_belief_in_silence_with_and_without_driver_is_what_leaves_the_second_open():
    r = hiding(HidingParameters(p_hide=0.5, p_hide_without=0.9)).returns
    assert ambiguity_dimension(r.Gamma, r.B) == 1


def test_verbose_leaves_none():
    r = verbose().returns
    assert ambiguity_dimension(r.Gamma, r.B) == 0
    assert ambiguous_directions(r.Gamma, r.B) == []


def test_a_second_evaluator_resolves_what_one_cannot():
    a = hiding().returns
    same_silence = hiding(HidingParameters(p_works=0.2)).returns
    other = hiding(HidingParameters(p_hide=0.9, p_works=0.2)).returns
    assert ambiguity_dimension(a.Gamma, a.B, a.B) == 2, "twice the same evaluator tells nothing new"
    assert ambiguity_dimension(a.Gamma, a.B, same_silence.B) == 1
    assert ambiguity_dimension(a.Gamma, a.B, other.B) == 0
    (left,) = ambiguous_directions(a.Gamma, a.B, same_silence.B)
    assert "LH" in describe_indistinguishable(left, [a.B, same_silence.B], a.sequences.states, a.pomdp.states)


@pytest.mark.parametrize("seed", range(20))
def test_directions_are_a_basis_of_what_no_feedback_shows(seed):
    rng = np.random.default_rng(seed)
    r = random_returns(rng, S=6, A=2, O=2, horizon=1 + seed % 2, density=0.5, deterministic_observations=seed % 3 > 0)
    found = ambiguous_directions(r.Gamma, r.B)
    assert len(found) == ambiguity_dimension(r.Gamma, r.B)
    for direction in found:
        assert np.allclose(r.B @ direction.returns, 0, atol=1e-7)
        assert np.allclose(r.Gamma @ direction.reward, direction.returns, atol=1e-7)
        assert np.abs(direction.returns).max() > 0.5
        moved = r.with_reward(r.pomdp.R + 3 * direction.reward)
        assert np.allclose(moved.G_obs, r.G_obs, atol=1e-6)
    if found:
        assert matrix_rank(np.array([d.returns for d in found])) == len(found)


def test_dimension_by_the_other_formula():
    """dim(ker B ∩ im Γ) computed as the intersection itself."""
    for seed in range(10):
        r = random_returns(np.random.default_rng(seed), S=6, A=2, O=2, horizon=1)
        kernel = np.linalg.svd(r.B)[2][matrix_rank(r.B) :]
        both = matrix_rank(kernel) + matrix_rank(r.Gamma) - matrix_rank(np.concatenate([kernel, r.Gamma.T]))
        assert ambiguity_dimension(r.Gamma, r.B) == both


@pytest.mark.parametrize("seed", range(10))
def test_robustness_bound_holds(seed):
    """Solving with a belief that is off by rho inside the radius errs by no more than the bound."""
    rng = np.random.default_rng(seed)
    r = random_returns(rng, S=3, A=2, O=3, horizon=2, density=0.7)
    if ambiguity_dimension(r.Gamma, r.B):
        pytest.fail("the seed should give a problem without ambiguity")
    bound = robustness(r.Gamma, r.B)
    for share in (0.01, 0.3, 0.99):
        off = rng.normal(size=r.B.shape)
        rho = share * bound.radius
        wrong = r.B + off * rho / np.linalg.norm(off, 2)
        reward = np.linalg.lstsq(wrong @ r.Gamma, r.B @ r.G, rcond=None)[0]
        assert np.linalg.norm(r.Gamma @ reward - r.G) <= bound.return_error(rho, r.G)
        assert bound.regret(rho, r.G) == 2 * bound.return_error(rho, r.G)
    with pytest.raises(TheoryInputError, match="up to the radius"):
        bound.return_error(2 * bound.radius, r.G)


def test_robustness_by_hand():
    """r = diag(1, 1/2) in an orthonormal basis: X = 4, Y = 1."""
    bound = robustness(np.eye(2), np.diag([1.0, 0.5]))
    assert (bound.X, bound.Y) == pytest.approx((4, 1))
    assert bound.radius == pytest.approx(-1 + np.sqrt(1 + 1 / 8))
    assert bound.factor == pytest.approx(4 * (12 * 4 + 1))


def test_no_bound_where_something_is_ambiguous():
    r = hiding().returns
    with pytest.raises(TheoryInputError, match=r"leaves 2 direction\(s\)"):
        robustness(r.Gamma, r.B)


def test_stacking_refuses_what_does_not_fit():
    with pytest.raises(TheoryInputError, match="no belief"):
        stack_beliefs([])
    with pytest.raises(TheoryInputError, match=r"over \[2, 3\] state sequences"):
        stack_beliefs([np.eye(2), np.eye(3)])
