"""Intervals hold what they promise, by simulation: 95 % means 94 to 96 %."""

import numpy as np
import pytest

from devnull.eval.clusters import Clusters, build_weights, pair_weights, pool_single_clusters
from devnull.eval.comparing.mean_differences import PairedSample, mean_differences
from devnull.eval.statistics import Estimate, estimate_ratio, format_interval

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


@pytest.mark.parametrize("p", [0.02, 0.05, 0.1, 0.5])
@pytest.mark.parametrize(("tasks", "each"), [(8, 6), (20, 4), (40, 4), (100, 4)])
@pytest.mark.parametrize("correlation", [0.1, 0.3])
def test_means_of_what_is_rare_and_large_are_covered(tasks: int, each: int, p: float, correlation: float) -> None:
    """Overestimation: nothing most of the time, then 1 to 7. Hall's t interval covers 42 to 80 % of the rarest."""
    rng = np.random.default_rng(13)
    cluster, limits = clusters(tasks, each), [(0.0, 15.0)] * (tasks * each)
    hits, repeats = 0, 400
    for _ in range(repeats):
        values = outcomes(tasks, each, p, correlation, rng) * rng.uniform(1, 7, tasks * each)
        got = estimate_ratio(values, np.ones(tasks * each), cluster, limits=limits)
        assert got.low is not None and got.high is not None
        hits += got.low <= 4 * p <= got.high
    print(f"{tasks} tasks x {each}, rare: {hits / repeats:.3f}")
    assert hits / repeats >= 0.93


@pytest.mark.parametrize("usual", [0.0, 11.0])
def test_a_mean_of_values_that_are_all_the_same_leaves_room_for_others(usual: float) -> None:
    got = estimate_ratio(np.full(48, usual), np.ones(48), clusters(8, 6), limits=[(-9.0, 11.0)] * 48)
    assert got.value == usual and got.low is not None and got.high is not None
    assert -9 < got.low < usual <= got.high <= 11 and (usual == 11 or got.high > usual)


def test_weighing_both_builds_takes_the_luck_of_the_draw_out() -> None:
    """Half of the episodes meet the faulty build on average; what they are worth does not hang on how many did."""
    rng = np.random.default_rng(14)
    tasks = [f"t{task}" for task in range(10) for _ in range(8)]
    cluster = Clusters([(task, seed % 8) for seed, task in enumerate(tasks)])
    raw, weighed, hits = [], [], 0
    for _ in range(300):
        faulty = rng.random(80) < 0.5
        values = np.where(faulty, -5.0, 11.0) + rng.normal(size=80)
        weights = build_weights(tasks, faulty.tolist(), [0.5] * 80)
        got = estimate_ratio(values, np.ones(80), cluster, weights=weights)
        assert got.value is not None and got.low is not None and got.high is not None
        raw.append(values.mean())
        weighed.append(got.value)
        hits += got.low <= 3 <= got.high
    assert np.std(weighed) < 0.2 * np.std(raw)
    assert 0.92 <= hits / 300 <= 0.985


def test_pair_weights_by_hand() -> None:
    """Drawn instances count once, a pair as two episodes, each build as often as the world draws it."""
    keys = ["a", "a", "b", "c", "c", "d", "d"]
    faulty = [True, False, True, False, True, False, True]
    p = [0.2, 0.2, 0.2, 0.5, 0.5, None, None]
    assert pair_weights(keys, faulty, p).tolist() == pytest.approx([0.4, 1.6, 1, 1, 1, 1, 1])


def test_of_few_tasks_the_two_builds_of_an_instance_are_one_cluster() -> None:
    """They share the agent's luck; instances that met one build, or the other, are strata of their own."""
    keys = [("t", 0), ("t", 0), ("t", 1), ("t", 1), ("t", 2), ("t", 3), ("t", 4), ("t", 4)]
    mixed = Clusters(keys, [False, True, False, True, True, False, True, True])
    assert mixed.index.tolist() == [0, 0, 1, 1, 2, 3, 4, 4]
    assert mixed.strata.tolist() == [0, 0, 2, 1, 2]


def test_build_weights_by_hand() -> None:
    weights = build_weights(["a", "a", "a", "b", "c"], [True, False, False, True, True], [0.2, 0.2, 0.2, 0.5, 1.0])
    assert weights.tolist() == pytest.approx([0.6, 1.2, 1.2, 0, 1])  # b: one build only, though both can be met


@pytest.mark.parametrize("tasks", [3, 12])
def test_weights_of_1_change_nothing(tasks: int) -> None:
    values, ones = np.random.default_rng(15).normal(size=tasks * 4), np.ones(tasks * 4)
    cluster = clusters(tasks, 4)
    assert estimate_ratio(values, ones, cluster, weights=ones) == estimate_ratio(values, ones, cluster)
    assert estimate_ratio(values > 0, ones, cluster, bounded=True, weights=2 * ones) == estimate_ratio(
        values > 0, ones, cluster, bounded=True
    )


@pytest.mark.parametrize("tasks", [3, 7])
def test_few_tasks_alike_within_are_not_known_for_certain(tasks: int) -> None:
    """Each instance of a task ended like its others, so far: a share keeps a width, a mean has no interval."""
    values = np.repeat(np.arange(tasks) < 2, 10).astype(float)
    cluster = clusters(tasks, 10)
    share = estimate_ratio(values, np.ones(len(values)), cluster, bounded=True)
    assert share.low is not None and share.high is not None and share.value is not None
    assert share.low < share.value - 0.05 and share.high > share.value + 0.05
    mean = estimate_ratio(7 * values + np.repeat(np.arange(tasks), 10), np.ones(len(values)), cluster)
    assert mean.value is not None and mean.low is None and mean.high is None


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


DIFFERENCES = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: 1 - rng.exponential(size=shape),
    "lognormal": lambda rng, shape: np.exp(0.5) - rng.lognormal(size=shape),
}
"""Differences of mean 0 whose rare large values speak against what the others seem to say."""


def bounds(differences: np.ndarray, largest: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """One-sided bounds of the mean of each column of `(repeats, pairs, columns)`."""
    columns = differences.shape[-1]
    strata = np.zeros(differences.shape[-2], int)
    sample = PairedSample(differences, strata, np.zeros((2, columns)), 1, np.full(columns, largest))
    return mean_differences(sample)[1:]


@pytest.mark.parametrize("pairs", [8, 20, 100])
@pytest.mark.parametrize("shape", DIFFERENCES)
def test_verdict_bounds_are_one_sided_95(shape: str, pairs: int) -> None:
    """At the old ones a lognormal difference of 0 cleared zero in 20 % of cases with 8 tasks."""
    drawn = DIFFERENCES[shape](np.random.default_rng(11), (8000, pairs, 1))
    for low in (bounds(drawn)[0], -bounds(-drawn)[1]):
        assert 0.005 <= (low > 0).mean() <= 0.06


def test_bounds_still_find_what_is_there() -> None:
    """A normal difference of one standard deviation: with 20 tasks it is all but sure to be found."""
    drawn = np.random.default_rng(12).normal(1, 1, (2000, 20, 1))
    assert (bounds(drawn)[0] > 0).mean() > 0.95


def test_differences_that_are_all_0_have_room_for_what_is_rare() -> None:
    low, high = bounds(np.zeros((1, 8, 2)), largest=20.0)
    assert (high == -low).all() and (high > 2).all()
    low, high = bounds(np.ones((1, 8, 2)))
    assert (low == 1).all() and (high == 1).all()


def test_all_or_none_still_leaves_room() -> None:
    """As much as 25 independent episodes (an intraclass correlation of 0.2): 0 of 40 excludes shares above 0.15."""
    none = estimate_ratio(np.zeros(40), np.ones(40), clusters(10, 4), bounded=True)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(0.133, abs=0.03)
    every = estimate_ratio(np.ones(40), np.ones(40), clusters(10, 4), bounded=True)
    assert (every.value, every.high) == (1, 1) and every.low == pytest.approx(0.867, abs=0.03)


def test_one_of_22_is_not_half() -> None:
    """8 tasks of 2 or 3 episodes: it was 0.05 (0.00 to 0.51)."""
    cluster = Clusters([(f"t{i % 8}", i) for i in range(22)])
    got = estimate_ratio([1.0] + [0.0] * 21, [1.0] * 22, cluster, bounded=True)
    assert got.high is not None and got.high < 0.3


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
