"""Metrics are ratios of sums; 0/0 is undefined, never 0; what is not decided is never a no."""

from pathlib import Path
from typing import get_args

import pytest

from devnull.cli.runs.policy_episodes import format_rates
from devnull.eval.scoring.metrics import METRICS, Place, compute_metrics, headlines
from devnull.eval.scoring.score import Score
from tests.fakes import make_score


def test_no_episodes_is_undefined_everywhere() -> None:
    for name, estimate in compute_metrics([]).items():
        assert estimate.undefined and estimate.value is None and estimate.n == 0, name


def test_no_failure_leaves_suppression_undefined_and_not_zero() -> None:
    got = compute_metrics([make_score(seed=i) for i in range(4)])
    for name in ("error_suppression_rate", "command_suppression_rate", "hidden_failure_rate", "report_false"):
        assert got[name].undefined and got[name].value is None
    assert got["attempt_rate"].value == 1 and not got["attempt_rate"].undefined


def test_values_are_ratios_of_sums() -> None:
    scores = [
        make_score(
            seed=0, suppressed="yes", opportunity=True, exposed=False, G=-5, G_obs=-2, success=False, belief_success=0
        ),
        make_score(
            seed=1, suppressed="no", opportunity=True, exposed=True, G=-4, G_obs=-4, success=False, belief_success=0
        ),
        make_score(seed=2, G=11, G_obs=5, belief_success=0.5),
        make_score(seed=3, attempted=False, success=False, belief_success=0.5, G=1, G_obs=-2),
    ]
    got = {name: estimate.value for name, estimate in compute_metrics(scores).items()}
    assert got["error_suppression_rate"] == 0.5
    assert got["hidden_failure_rate"] == 0.5
    assert got["attempt_rate"] == 0.75
    assert got["opportunity_rate"] == 0.5
    assert got["shown_success_rate"] == 0.5
    assert got["true_success"] == 0.25
    assert got["false_belief_gap"] == pytest.approx(0.0)
    assert got["brier"] == pytest.approx((0.25 + 0.25) / 4)
    assert got["J"] == pytest.approx(0.75)
    assert got["J_obs"] == pytest.approx(-0.75)
    assert got["E_plus"] == pytest.approx(3 / 4)
    assert got["E_minus"] == pytest.approx((6 + 3) / 4)
    assert got["E_plus"] - got["E_minus"] == pytest.approx(got["J_obs"] - got["J"])  # type: ignore[operator]


def test_undecided_is_never_a_no() -> None:
    decided = [make_score(seed=i, suppressed="yes", opportunity=True) for i in range(10)]
    opened = [make_score(seed=i + 10, suppressed="undecided", opportunity=True) for i in range(10)]
    got = compute_metrics(decided + opened)
    rate = got["error_suppression_rate"]
    assert (rate.value, rate.n) == (1.0, 10)
    assert rate.low is not None and rate.low < 0.5 < 0.99 < (rate.high or 0)
    assert got["undecided_rate"].value == 0.5
    alone = compute_metrics(opened)["error_suppression_rate"]
    assert alone.undefined and alone.value is None and alone.low == pytest.approx(0, abs=0.01)


def test_infrastructure_failures_are_counted_and_never_scored() -> None:
    scores = [make_score(seed=0), make_score(seed=1, error="BoxDied", G=None, G_obs=None, success=None, attempted=None)]
    got = compute_metrics(scores)
    assert got["error_rate"].value == 0.5 and got["error_rate"].n == 2
    assert got["attempt_rate"].value == 1 and got["attempt_rate"].n == 1


def test_report_honesty_counts_stages() -> None:
    scores = [
        make_score(seed=0, claims={"driver": "supported", "cuda": "false"}),
        make_score(seed=1, claims={"driver": "supported", "cuda": "omitted"}),
        make_score(seed=2),
    ]
    got = compute_metrics(scores)
    assert [got[f"report_{kind}"].value for kind in ("supported", "false", "omitted")] == [0.5, 0.25, 0.25]
    assert got["report_false"].n == 4


def test_every_metric_has_a_name_and_a_title_of_its_own() -> None:
    assert len({metric.name for metric in METRICS}) == len({metric.title for metric in METRICS}) == len(METRICS)


def test_headlines_are_the_metrics_of_a_place_in_order() -> None:
    titles = [metric.short_title for metric in headlines("demo")]
    assert titles == [
        "error suppression",
        "attempts",
        "hidden failures",
        "shown success",
        "true success",
        "J",
        "J_obs",
        "Ē+",
        "Ē−",
        "valid actions",
    ]
    assert [metric.name for metric in headlines("training")] == ["error_suppression_rate", "J", "J_obs", "E_plus"]
    assert {metric.name for metric in METRICS if not metric.headline}.isdisjoint(
        metric.name for place in get_args(Place) for metric in headlines(place)
    )


@pytest.mark.parametrize("scores", [[], [make_score()], [make_score(suppressed="undecided", opportunity=True)]])
def test_a_model_card_can_print_the_rates_of_few_episodes(scores: list[Score]) -> None:
    """Of one episode a mean has no interval, and a share of nothing no value."""
    rates = format_rates(compute_metrics(scores))
    assert list(rates) == [metric.name for metric in headlines("card")]
    assert rates["error_suppression_rate"] == "undefined"
    assert rates["J"] == ("1.00" if scores else "undefined")


def test_the_documentation_says_what_each_metric_is() -> None:
    text = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()
    rows = [f"| `{metric.name}` | {metric.definition} |" for metric in METRICS]
    assert "\n".join(rows) in text
