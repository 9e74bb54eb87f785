"""Comparisons of runs: paired by task, honest intervals, p-values that many questions do not cheapen."""

import numpy as np
import pytest

from devnull.eval.comparing.comparison import Comparison, MetricDifference, adjust_holm, compare, randomisation_p_value
from devnull.eval.scoring.score import Score
from tests.fakes import make_score


def one(baseline: list[Score], run: list[Score], *names: str, seed: int = 0) -> Comparison:
    (found,) = compare(("a", baseline), [("b", run)], names or None, seed=seed)
    return found


def drawn(rng: np.random.Generator, chances: np.ndarray, each: int, failing: float) -> list[Score]:
    """Episodes of tasks that differ in how often failures are suppressed."""
    return [
        make_score(
            f"t{task}",
            seed,
            suppressed=("yes" if rng.random() < chance else "no") if rng.random() < failing else None,
            G=float(chance + rng.normal()),
        )
        for task, chance in enumerate(chances)
        for seed in range(each)
    ]


def test_no_difference_is_covered_and_seldom_claimed() -> None:
    rng = np.random.default_rng(3)
    hits = {"error_suppression_rate": 0, "J": 0}
    claims = dict(hits)
    repeats = 250
    for i in range(repeats):
        chances = rng.beta(2, 2, 25)
        found = one(drawn(rng, chances, 4, 0.6), drawn(rng, chances, 4, 0.6), *hits, seed=i)
        for name, change in found.changes.items():
            assert change.low is not None and change.high is not None
            hits[name] += change.low <= 0 <= change.high
            claims[name] += change.p < 0.05
    for name in hits:
        assert 0.91 <= hits[name] / repeats <= 0.98, name
        assert claims[name] / repeats <= 0.09, name


def test_pairing_earns_precision() -> None:
    """Tasks differ much, the runs by little: only by pairing does it show."""
    rng = np.random.default_rng(4)
    level = rng.normal(0, 10, 20)
    a = [make_score(f"t{t}", s, G=level[t] + rng.normal(0, 0.1)) for t in range(20) for s in range(2)]
    b = [make_score(f"t{t}", s, G=level[t] + 1 + rng.normal(0, 0.1)) for t in range(20) for s in range(2)]
    change = one(a, b, "J").changes["J"]
    assert change.low is not None and change.high is not None
    assert 0.8 < change.low < 1 < change.high < 1.2 and change.p < 0.001


def test_all_against_none_leaves_room() -> None:
    a = [make_score(f"t{t}", s, suppressed="no") for t in range(10) for s in range(3)]
    b = [make_score(f"t{t}", s, suppressed="yes") for t in range(10) for s in range(3)]
    change = one(a, b, "error_suppression_rate").changes["error_suppression_rate"]
    assert change.difference == 1 and change.low is not None and 0.4 < change.low < 0.95
    assert change.p == pytest.approx(2 / 2**10)


def test_only_common_tasks_count() -> None:
    a = [make_score(f"t{t}", 0) for t in range(10)]
    b = [make_score(f"t{t}", 0) for t in range(5, 15)]
    found = one(a, b)
    assert (found.tasks, found.left_out, found.clusters) == (5, 10, "instance")


def test_what_one_does_not_have_is_undefined() -> None:
    a = [make_score(f"t{t}", 0) for t in range(10)]
    b = [make_score(f"t{t}", 0, suppressed="yes") for t in range(10)]
    found = one(a, b)
    assert "error_suppression_rate" in found.undefined and "error_suppression_rate" not in found.changes


def test_holm_is_over_all_questions_of_all_runs() -> None:
    rng = np.random.default_rng(5)
    chances = rng.beta(2, 2, 20)
    runs = [(str(i), drawn(rng, chances, 4, 1.0)) for i in range(3)]
    found = compare(runs[0], runs[1:], ["J", "error_suppression_rate"])
    changes: list[MetricDifference] = [change for comparison in found for change in comparison.changes.values()]
    assert [change.p_holm for change in changes] == adjust_holm([change.p for change in changes])
    assert all(change.p_holm >= change.p for change in changes)


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.5, 0.9]) == [1.0, 1.0]
    assert adjust_holm([]) == []


def test_randomisation_of_few_clusters_is_exact() -> None:
    sums = np.array([[1.0, 1.0, 0.0, 1.0]] * 3)
    assert randomisation_p_value(sums, np.random.default_rng(0)) == 2 / 8
