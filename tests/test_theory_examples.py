import numpy as np
import pytest

from devnull.theory.check import optimal_actions, run_checks
from devnull.theory.errors import TheoryInputError
from devnull.theory.examples import HidingParameters, VerboseParameters, hiding, verbose
from devnull.theory.measures import measure
from devnull.theory.policies import Tree, measures_of
from devnull.theory.regions import VERDICTS, regions
from devnull.theory.solve import solve


def measured(example, name):
    m = measures_of(example.returns, Tree.of(example.returns), example.policies[name])
    return (m.J, m.J_obs, m.E_plus, m.E_minus)


def test_hiding_by_hand():
    """p=.3, pH=.6, pH'=.2, r=2, pW=.7; the believed return of silence after the driver is 1 + .6 * -7."""
    e = hiding(HidingParameters(0.3, 0.6, 0.2, 0.7, 2.0))
    silence, alone = 1 - 0.6 * 7, 0.2 * -7
    assert measured(e, "aI, aC") == pytest.approx((0.3 * 11 - 0.7 * 4, 0.3 * 11 - 0.7 * 4, 0, 0))
    assert measured(e, "aI, aH") == pytest.approx(
        (0.3 * 11 - 0.7 * 6, 0.3 * 11 + 0.7 * silence, 0.7 * (silence + 6), 0)
    )
    assert measured(e, "aI, aT") == pytest.approx((1, silence, 0, 1 - silence))
    assert measured(e, "aC at once") == pytest.approx((-5, -5, 0, 0))
    assert measured(e, "aH at once") == pytest.approx((-7, alone, alone + 7, 0))
    assert measured(e, "aT at once") == pytest.approx((0, alone, 0, -alone))


def test_verbose_by_hand():
    e = verbose(VerboseParameters(0.4, 0.3, 2.0))
    silence = 10 + 0.3 * 5
    J_obs = 0.4 * silence + 0.6 * 9
    assert measured(e, "aI, aD") == pytest.approx((0.4 * 15 + 0.6 * 9, J_obs, 0, 0.4 * (15 - silence)))
    assert measured(e, "aI, aV") == pytest.approx((0.4 * 13 + 0.6 * 9, 0.4 * 13 + 0.6 * 9, 0, 0))
    assert measured(e, "aI, aT") == pytest.approx((10, silence, silence - 10, 0))
    assert measured(e, "aT at once") == pytest.approx((0, 0, 0, 0))


def test_what_can_happen_in_each():
    a, b = hiding().returns, verbose().returns
    rows = [" ".join(a.pomdp.states[s] for s in row) for row in a.sequences.states]
    assert rows == ["S I W T", "S I L T", "S I WH T", "S I LH T", "S I T T", "S L T T", "S LH T T", "S T T T"]
    assert len(a.sequences.observations) == 5
    assert (len(b.sequences.states), len(b.sequences.observations)) == (8, 7)
    assert a.impossible() == b.impossible() == []


def test_never_trying_can_be_deceptive_inflation():
    """Example B with a credulous evaluator: silence is taken for success."""
    solved = solve(verbose(VerboseParameters(0.5, 0.9)).returns)
    assert all(v.deceptive_inflation and v.overjustification and v.in_theorem for v in solved.verdicts.values())
    assert len(solved.distinct(solved.J_obs_optimal)) == 1
    assert all(policy.actions[:2] == (0, 3) or policy.actions[:2] == (0, 0) for policy in solved.J_obs_optimal)


def test_a_tie_is_outside_the_theorem():
    """At pH = 5/(5+r) aC and aH are believed equal: aC is optimal in both senses, so the pair is excluded."""
    e = hiding(HidingParameters(p_hide=5 / 6))
    solved = solve(e.returns)
    seconds = {policy.actions[1] for policy in solved.J_obs_optimal}
    assert seconds == {1, 2}
    assert optimal_actions(e, e.returns.G_obs) == "aC or aH"
    assert solved.verdicts and not any(v.in_theorem for v in solved.verdicts.values())


def test_certain_outcomes_have_their_own_sequences():
    for p in (0.0, 1.0):
        a, b = hiding(HidingParameters(p=p)), verbose(VerboseParameters(p=p))
        assert np.allclose(a.returns.B.sum(axis=1), 1)
        assert optimal_actions(a, a.returns.G) == ("aC or aH" if p else "aT")
        assert optimal_actions(b, b.returns.G) == ("aD" if p else "aT")


def test_beliefs_at_the_ends():
    """pH=0: a hidden failure is taken for not trying; pH=1: for sure a hidden failure."""
    assert measured(hiding(HidingParameters(p_hide=0)), "aI, aT") == pytest.approx((1, 1, 0, 0))
    assert measured(hiding(HidingParameters(p_hide=1)), "aI, aH")[2:] == pytest.approx((0, 0))


@pytest.mark.parametrize("build", [lambda: hiding(HidingParameters(p=1.2)), lambda: verbose(VerboseParameters(p=-1))])
def test_probabilities_are_checked(build):
    with pytest.raises(TheoryInputError, match=r"p is .*between 0 and 1"):
        build()
    with pytest.raises(TheoryInputError, match="r is nan; it must be finite"):
        hiding(HidingParameters(r=float("nan")))


def test_the_same_measures_serve_tables_and_samples():
    """Sequences drawn from the policy, averaged evenly, land on the exact numbers."""
    e = hiding()
    r = e.returns
    rng = np.random.default_rng(0)
    row = {tuple(s): n for n, s in enumerate(r.sequences.states.tolist())}
    drawn = [row[0, 1, 4, 6] if rng.random() < 0.5 else row[0, 1, 5, 6] for _ in range(20_000)]
    m = measure(r.G[drawn], r.G_obs[drawn])
    assert (m.J, m.J_obs, m.E_plus, m.E_minus) == pytest.approx((3.0, 4.5, 1.5, 0.0), abs=0.15)


def test_the_papers_results_hold():
    results = list(run_checks(models=40, seed=3))
    assert [r.name for r in results if not r.holds] == []
    assert len(results) == 17
    assert sum("threshold" in r.name for r in results) == 8


def test_regions_agree_with_solving_each_point():
    for parameters, example in ((HidingParameters(r=2.0), hiding), (VerboseParameters(r=2.0), verbose)):
        found = regions(parameters, steps=5)
        for y, belief in enumerate(found.belief):
            for x, p in enumerate(found.p):
                if example is hiding:
                    e = hiding(HidingParameters(p=p, p_hide=belief, r=2.0))
                else:
                    e = verbose(VerboseParameters(p=p, p_default=belief, r=2.0))
                assert found.names[found.best[y, x]].removeprefix("aI, ") == optimal_actions(e, e.returns.G)
                assert found.names[found.picked[y, x]].removeprefix("aI, ") == optimal_actions(e, e.returns.G_obs)
                v = next(iter(solve(e.returns).verdicts.values()))
                both = {(False, False): "neither", (True, True): "both", (True, False): "deceptive inflation"}
                name = both.get((v.deceptive_inflation, v.overjustification), "overjustification")
                assert VERDICTS[found.verdict[y, x]] == name
    with pytest.raises(TheoryInputError, match="steps is 1"):
        regions(HidingParameters(), steps=1)
