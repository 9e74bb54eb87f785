import numpy as np
import pytest

from devnull.theory.check import optimal_actions
from devnull.theory.errors import TheoryInputError
from devnull.theory.examples import HidingParameters, VerboseParameters, hiding, verbose
from devnull.theory.learning import (
    belief_aware,
    choice_probabilities,
    fit_bradley_terry,
    naive_statewise,
    naive_unrestricted,
    observed_choices,
    sample_counts,
    state_choices,
)
from devnull.theory.random_models import random_returns

TABLE_1 = [
    (hiding(HidingParameters(0.5, 0.5)), "aH", "aH"),
    (hiding(HidingParameters(0.1, 0.9)), "aC", "aT"),
    (verbose(VerboseParameters(0.5, 0.9)), "aT", "aD"),
    (verbose(VerboseParameters(0.5, 0.1)), "aV", "aD"),
]


@pytest.mark.parametrize(("example", "naive", "aware"), TABLE_1)
def test_table_1_from_exact_probabilities(example, naive, aware):
    r = example.returns
    assert optimal_actions(example, naive_unrestricted(r, state_choices(r)).returns) == naive
    assert optimal_actions(example, belief_aware(r, observed_choices(r)).returns) == aware


@pytest.mark.parametrize(("example", "naive", "aware"), TABLE_1)
def test_table_1_from_sampled_choices(example, naive, aware):
    r = example.returns
    rng = np.random.default_rng(7)
    beta = 0.3
    counts = sample_counts(state_choices(r, beta), 200_000, rng)
    assert optimal_actions(example, naive_unrestricted(r, counts, beta, ridge=1e-6).returns) == naive
    counts = sample_counts(observed_choices(r, beta), 200_000, rng)
    assert optimal_actions(example, belief_aware(r, counts, beta, ridge=1e-6).returns) == aware


def test_sampling_more_comes_closer():
    r = verbose().returns
    errors = []
    for comparisons in (2_000, 200_000):
        counts = sample_counts(observed_choices(r, 0.3), comparisons, np.random.default_rng(1))
        assert counts.sum() == comparisons
        errors.append(np.ptp(belief_aware(r, counts, 0.3, ridge=1e-6).returns - r.G))
    assert errors[1] < errors[0] / 3
    assert errors[1] < 1.0


def test_belief_aware_recovers_the_return_where_nothing_is_ambiguous():
    r = verbose().returns
    assert np.ptp(belief_aware(r, observed_choices(r)).returns - r.G) < 1e-5


def test_belief_aware_explains_every_choice_where_something_is():
    r = hiding().returns
    learnt = belief_aware(r, observed_choices(r))
    assert np.ptp(r.B @ learnt.returns - r.believed) < 1e-5
    assert np.ptp(learnt.returns - r.G) > 1


def test_statewise_and_unrestricted_are_different_learners():
    """In example B G_obs is not in im Γ; near q the state-wise choice is another than the J_obs optimum."""
    example = verbose(VerboseParameters(p=0.45, p_default=0.35))
    r = example.returns
    nearest = r.Gamma @ np.linalg.lstsq(r.Gamma, r.G_obs, rcond=None)[0]
    assert np.abs(nearest - r.G_obs).max() > 0.1
    assert optimal_actions(example, r.G_obs) == "aT"
    assert optimal_actions(example, naive_unrestricted(r, state_choices(r)).returns) == "aT"
    assert optimal_actions(example, naive_statewise(r, state_choices(r)).returns) == "aV"


def test_statewise_finds_believed_returns_that_are_statewise():
    r = hiding().returns
    assert np.allclose(r.Gamma @ np.linalg.lstsq(r.Gamma, r.G_obs, rcond=None)[0], r.G_obs)
    assert np.ptp(naive_statewise(r, state_choices(r)).returns - r.G_obs) < 1e-5


def test_choices_are_averaged_over_what_may_have_been_shown():
    r = random_returns(np.random.default_rng(3), S=3, O=2, horizon=1, deterministic_observations=False)
    P = state_choices(r)
    assert np.allclose(P + P.T, 1)
    by_hand = sum(
        r.O[0, i] * r.O[1, j] / (1 + np.exp(-(r.believed[i] - r.believed[j])))
        for i in range(len(r.believed))
        for j in range(len(r.believed))
    )
    assert P[0, 1] == pytest.approx(by_hand)


def test_fit_is_the_maximum_likelihood():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 2))
    wins = rng.integers(1, 9, size=(6, 6)).astype(float)
    theta, likelihood = fit_bradley_terry(X, wins, beta=2.0)

    def log_likelihood(theta):
        P = choice_probabilities(X @ theta, 2.0)
        off = ~np.eye(6, dtype=bool)
        return float((wins * np.log(P))[off].sum() / wins[off].sum())

    assert likelihood == pytest.approx(log_likelihood(theta))
    for step in np.eye(2) * 1e-3:
        assert log_likelihood(theta + step) < likelihood
        assert log_likelihood(theta - step) < likelihood


def test_fit_returns_the_smallest_that_explains():
    X = np.array([[1.0, 1.0, 0], [0, 0, 0], [2, 2, 0]])
    theta, _ = fit_bradley_terry(X, choice_probabilities(X @ np.array([3.0, 0.0, 5.0])))
    assert theta == pytest.approx([1.5, 1.5, 0])


def test_choices_that_all_point_one_way_need_a_ridge():
    wins = np.array([[0.0, 5.0], [0.0, 0.0]])
    with pytest.raises(TheoryInputError, match="ridge"):
        fit_bradley_terry(np.eye(2), wins)
    theta, _ = fit_bradley_terry(np.eye(2), wins, ridge=0.01)
    assert 1 < theta[0] - theta[1] < 20


@pytest.mark.parametrize(
    ("wins", "message"),
    [
        (np.zeros((2, 2)), "empty"),
        (np.ones((3, 3)), r"\(3, 3\)"),
        (-np.ones((2, 2)), "negative"),
    ],
)
def test_fit_refuses(wins, message):
    with pytest.raises(TheoryInputError, match=message):
        fit_bradley_terry(np.eye(2), wins)


def test_a_boltzmann_evaluator_has_a_positive_beta():
    with pytest.raises(TheoryInputError, match="beta is 0"):
        choice_probabilities(np.zeros(2), 0.0)
    with pytest.raises(TheoryInputError, match="at least 1"):
        sample_counts(np.full((2, 2), 0.5), 0, np.random.default_rng(0))
