"""Intervals hold what they promise, by simulation: 95 % means 94 to 96 %."""

import numpy as np
import pytest

from devnull.eval.comparing.verdicts import bootstrap_bounds
from devnull.eval.statistics import (
    Clusters,
    Estimate,
    estimate_ratio,
    expanded_tail,
    format_interval,
    pool_single_clusters,
)

REPEATS = 3000


def clusters(tasks: int, each: int) -> Clusters:
    return Clusters([(f"task-{task:03d}", seed) for task in range(tasks) for seed in range(each)])


def outcomes(tasks: int, each: int, p: float, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """0/1 outcomes whose chance differs from task to task (beta-binomial)."""
    spread = (1 - correlation) / correlation
    chances = rng.beta(p * spread, (1 - p) * spread, tasks)
    return (rng.random(tasks * each) < np.repeat(chances, each)).astype(float)


@pytest.mark.parametrize(
    ("tasks", "each", "p", "correlation", "counted"),
    [(100, 4, 0.5, 0.3, 1.0), (100, 4, 0.15, 0.3, 1.0), (40, 8, 0.3, 0.3, 0.5), (20, 8, 0.4, 0.2, 1.0)],
)
def test_shares_are_covered(tasks: int, each: int, p: float, correlation: float, counted: float) -> None:
    rng = np.random.default_rng(7)
    cluster = clusters(tasks, each)
    hits = 0
    for _ in range(REPEATS):
        counts = (rng.random(tasks * each) < counted).astype(float)
        got = estimate_ratio(outcomes(tasks, each, p, correlation, rng) * counts, counts, cluster, bounded=True)
        assert got.low is not None and got.high is not None
        hits += got.low <= p <= got.high
    print(f"{tasks} tasks x {each}, p={p}: {hits / REPEATS:.3f}")
    assert 0.94 <= hits / REPEATS <= 0.96


@pytest.mark.parametrize(
    ("tasks", "each", "p"), [(100, 4, 0.03), (40, 8, 0.05), (20, 8, 0.05), (20, 8, 0.95), (8, 6, 0.1), (8, 6, 0.9)]
)
def test_shares_near_0_and_1_are_covered(tasks: int, each: int, p: float) -> None:
    """Where an answer is rare no interval is exact: it may cover more than it says, never less."""
    rng = np.random.default_rng(12)
    cluster = clusters(tasks, each)
    hits = 0
    for _ in range(REPEATS):
        got = estimate_ratio(outcomes(tasks, each, p, 0.2, rng), np.ones(tasks * each), cluster, bounded=True)
        assert got.low is not None and got.high is not None
        hits += got.low <= p <= got.high
    print(f"{tasks} tasks x {each}, p={p}: {hits / REPEATS:.3f}")
    assert 0.94 <= hits / REPEATS <= 0.99


@pytest.mark.parametrize(("tasks", "each"), [(100, 4), (12, 8)])
def test_means_are_covered(tasks: int, each: int) -> None:
    rng = np.random.default_rng(8)
    cluster = clusters(tasks, each)
    hits = 0
    for _ in range(REPEATS):
        values = np.repeat(rng.normal(0, 0.6, tasks), each) + rng.normal(0, 0.8, tasks * each)
        got = estimate_ratio(values, np.ones(tasks * each), cluster)
        assert got.low is not None and got.high is not None
        hits += got.low <= 0 <= got.high
    print(f"{tasks} tasks x {each}, means: {hits / REPEATS:.3f}")
    assert 0.94 <= hits / REPEATS <= 0.96


@pytest.mark.parametrize(("tasks", "each", "p"), [(20, 8, 0.1), (100, 4, 0.05), (8, 6, 0.1)])
def test_means_of_what_is_rare_and_large_are_covered(tasks: int, each: int, p: float) -> None:
    """Overestimation: nothing most of the time, then 3 to 5. The plain t interval covers 86 to 92 % of these."""
    rng = np.random.default_rng(13)
    cluster = clusters(tasks, each)
    hits = 0
    for _ in range(REPEATS):
        values = outcomes(tasks, each, p, 0.2, rng) * rng.uniform(3, 5, tasks * each)
        got = estimate_ratio(values, np.ones(tasks * each), cluster)
        assert got.low is not None and got.high is not None
        hits += got.low <= 4 * p <= got.high
    print(f"{tasks} tasks x {each}, rare: {hits / REPEATS:.3f}")
    assert 0.94 <= hits / REPEATS <= 0.975


def test_few_tasks_are_taken_as_given() -> None:
    """With 3 tasks the interval speaks of these 3: it covers their own mean, whatever tasks at large do."""
    rng = np.random.default_rng(9)
    chances = np.array([0.2, 0.5, 0.9])
    cluster = clusters(3, 30)
    assert cluster.by == "instance"
    hits = 0
    for _ in range(REPEATS):
        values = (rng.random(90) < np.repeat(chances, 30)).astype(float)
        got = estimate_ratio(values, np.ones(90), cluster, bounded=True)
        assert got.low is not None and got.high is not None and got.clusters == "instance"
        hits += got.low <= chances.mean() <= got.high
    assert 0.94 <= hits / REPEATS <= 0.96


def test_ignoring_the_clusters_would_not_do() -> None:
    """The figure that made this necessary: each episode its own cluster covers far less than it says."""
    rng = np.random.default_rng(10)
    naive = Clusters([(f"task-{i:04d}", 0) for i in range(20 * 16)])
    hits = 0
    for _ in range(500):
        got = estimate_ratio(outcomes(20, 16, 0.4, 0.4, rng), np.ones(320), naive, bounded=True)
        assert got.low is not None and got.high is not None
        hits += got.low <= 0.4 <= got.high
    assert hits / 500 < 0.8


@pytest.mark.parametrize("pairs", [8, 30])
def test_verdict_bounds_are_one_sided_95(pairs: int) -> None:
    rng = np.random.default_rng(11)
    strata = np.zeros(pairs, dtype=int)
    below = above = 0
    for i in range(600):
        low, high = bootstrap_bounds(rng.normal(0, 1, (pairs, 4)), strata, i)
        below += int((low > 0).sum())
        above += int((high < 0).sum())
    print(f"{pairs} pairs: {below / 2400:.3f} {above / 2400:.3f}")
    assert 0.03 <= below / 2400 <= 0.07
    assert 0.03 <= above / 2400 <= 0.07


def test_all_or_none_still_leaves_room() -> None:
    """As much as if each task were one episode: 0 of 10 excludes shares above 0.28 (each task its own: 0.31)."""
    none = estimate_ratio(np.zeros(40), np.ones(40), clusters(10, 4), bounded=True)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(0.278, abs=0.001)
    every = estimate_ratio(np.ones(40), np.ones(40), clusters(10, 4), bounded=True)
    assert (every.value, every.high) == (1, 1) and every.low == pytest.approx(0.722, abs=0.001)


def test_nothing_over_nothing_is_undefined() -> None:
    got = estimate_ratio(np.zeros(4), np.zeros(4), clusters(2, 2), bounded=True)
    assert got.undefined and got.value is None and got.low is None and got.n == 0


def test_one_instance_has_no_interval() -> None:
    mean = estimate_ratio([3.0], [1.0], Clusters([("t", 0)]))
    assert (mean.value, mean.low, mean.high, mean.n) == (3.0, None, None, 1)
    assert estimate_ratio([1.0], [1.0], Clusters([("t", 0)]), bounded=True).low == 0


def test_clusters_are_tasks_where_there_are_enough() -> None:
    assert clusters(8, 2).by == "task"
    assert clusters(7, 2).by == "instance"


def test_lone_strata_are_pooled() -> None:
    assert pool_single_clusters(np.array([0, 0, 1, 2])).tolist() == [1, 1, 0, 0]


def test_few_clusters_widen_the_tail() -> None:
    assert expanded_tail(0.05, 8) < 0.025 < expanded_tail(0.05, 1000) < 0.05


@pytest.mark.parametrize(
    ("value", "low", "high", "text", "signed"),
    [
        (0.5, 0.31, 0.69, "0.50 (0.31 to 0.69)", "+0.50 (+0.31 to +0.69)"),
        (-0.9, -1.0, 0.1, "-0.90 (-1.00 to 0.10)", "-0.90 (-1.00 to +0.10)"),
        (3.0, None, None, "3.00", "+3.00"),
        (3.0, 2.0, None, "3.00", "+3.00"),
        (None, None, None, "undefined", "undefined"),
        (None, 0.1, 0.9, "undefined", "undefined"),
    ],
)
def test_every_estimate_can_be_printed(
    value: float | None, low: float | None, high: float | None, text: str, signed: str
) -> None:
    estimate = Estimate(value=value, low=low, high=high, n=1, undefined=value is None)
    assert str(estimate) == f"{estimate}" == text
    assert format_interval(value, low, high, signed=True) == signed
