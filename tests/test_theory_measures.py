import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from devnull.theory.measures import (
    Measures,
    deceptive_inflation,
    measure,
    overestimation,
    overjustification,
    quadrant,
    underestimation,
)

values = st.floats(-100, 100)


def test_errors_are_averaged_per_sequence_not_between_averages():
    m = measure([0.0, 10.0], [10.0, 0.0])
    assert (m.J, m.J_obs) == (5.0, 5.0)
    assert (m.E_plus, m.E_minus) == (5.0, 5.0)


@given(arrays(float, 7, elements=values), arrays(float, 7, elements=values), arrays(float, 7, elements=st.floats(0, 1)))
def test_identity_and_signs(G, G_obs, raw):
    weights = (raw + 0.1) / (raw + 0.1).sum()
    m = measure(G, G_obs, weights)
    assert m.E_plus - m.E_minus == pytest.approx(m.J_obs - m.J, abs=1e-9)
    assert m.E_plus >= max(0.0, m.J_obs - m.J) - 1e-9
    assert (overestimation(G, G_obs) * underestimation(G, G_obs) == 0).all()


def test_verdicts_are_strict_and_need_both_halves():
    reference = Measures(J=3.0, J_obs=3.0, E_plus=0.0, E_minus=0.0)
    assert deceptive_inflation(Measures(2.0, 4.0, 2.0, 0.0), reference)
    assert not deceptive_inflation(Measures(2.0, 3.0, 1.0, 0.0), reference), "rated no higher"
    assert not deceptive_inflation(Measures(4.0, 4.0, 0.0, 0.0), reference), "no overestimation"
    low = Measures(J=3.0, J_obs=1.0, E_plus=0.0, E_minus=2.0)
    assert overjustification(Measures(2.0, 2.0, 0.0, 0.0), low)
    assert not overjustification(Measures(3.0, 3.0, 0.0, 0.0), low), "costs nothing"
    assert not overjustification(Measures(2.0, 0.0, 0.0, 2.0), low), "no less underestimated"
    assert not deceptive_inflation(reference, reference)
    assert not overjustification(low, low)


@pytest.mark.parametrize(("plus", "over"), [(2.0, "raised"), (1.0, "unchanged"), (0.0, "lowered")])
@pytest.mark.parametrize(("minus", "under"), [(2.0, "raised"), (1.0, "unchanged"), (0.0, "lowered")])
def test_quadrants_name_the_signs(plus, over, minus, under):
    found = quadrant(Measures(0.0, plus - minus, plus, minus), Measures(0.0, 0.0, 1.0, 1.0))
    assert (found.overestimation, found.underestimation) == (over, under)
    assert found.inflating == (over == "raised")
    assert found.justifying == (under == "lowered")
    assert over in str(found) and under in str(found)


def test_tolerance_decides_what_counts_as_more():
    reference = Measures(0.0, 0.0, 0.0, 0.0)
    barely = Measures(0.0, 5e-10, 5e-10, 0.0)
    assert not deceptive_inflation(barely, reference)
    assert deceptive_inflation(barely, reference, tolerance=1e-12)
    assert np.isclose(barely.E_plus - barely.E_minus, barely.J_obs - barely.J)
