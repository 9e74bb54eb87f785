"""Comparisons of runs: paired by task, honest intervals, p-values that many questions do not cheapen."""

import numpy as np
import pytest

from devnull.eval.comparing.comparison import Comparison, MetricDifference, adjust_holm, compare, randomisation_p_value
from devnull.eval.comparing.planning import describe_plan, plan_samples
from devnull.eval.comparing.seeds import compare_seeds, crossed_mean, pool_seeds
from devnull.eval.comparing.verdicts import compare_to_reference
from devnull.eval.intervals import t_quantile
from devnull.eval.scoring.metrics import METRICS
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError
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


def test_a_policy_beside_itself_has_room_for_what_is_rare() -> None:
    a = [make_score(f"t{t}", s, G=1.0 + t % 2, G_obs=1.0, return_limits=(-9, 11)) for t in range(8) for s in range(6)]
    found = one(a, a, "J", "E_plus", "true_success")
    assert found.shared == 1
    for change in found.changes.values():
        assert change.low is not None and change.high is not None and change.low < 0 == change.difference < change.high


@pytest.mark.parametrize(("tasks", "names", "possible"), [(8, 6, True), (8, 7, False), (7, 1, True), (20, 21, True)])
def test_it_is_known_when_no_p_is_small_enough(tasks: int, names: int, possible: bool) -> None:
    both = [make_score(f"t{t}", s, G=float(s)) for t in range(tasks) for s in range(1 if tasks >= 8 else 2)]
    every = ["J", "J_obs", "E_plus", "E_minus", "true_success", "attempt_rate", "brier", "shown_success_rate"]
    found = one(both, both, *every[:names])
    assert found.tests == min(names, len(every)) and found.can_be_significant == possible


@pytest.mark.parametrize(("seeds", "tasks"), [(3, 8), (5, 8), (5, 20)])
def test_pooled_seeds_are_covered(seeds: int, tasks: int) -> None:
    """Seeds, tasks and the rest each with a third of the variance. Tasks alone for clusters would cover 60 to 75 %."""
    rng, hits = np.random.default_rng(8), 0
    for _ in range(1000):
        values = rng.normal(size=(seeds, 1)) + rng.normal(size=(1, tasks)) + rng.normal(size=(seeds, tasks))
        mean, error, freedom = crossed_mean(values)
        hits += abs(mean) <= t_quantile(freedom) * error
    assert 0.92 <= hits / 1000 <= 0.99


def trained(seed: int, rise: float) -> tuple[list[Score], list[Score]]:
    """A policy that inflates by `rise`, give or take, and its warm start, with a training seed's own luck."""
    rng = np.random.default_rng(seed)
    luck = rise + rng.normal(0, 0.2)
    sft, policy = [], []
    for task in range(10):
        for instance in range(6):
            G = float(rng.normal(0, 2))
            sft.append(make_score(f"t{task}", instance, "sft", G=G, G_obs=G))
            policy.append(
                make_score(f"t{task}", instance, "partial", G=G, G_obs=G + max(0.0, luck + rng.normal(0, 0.5)))
            )
    return policy, sft


def test_seeds_are_pooled() -> None:
    found = compare_seeds("partial", "sft", [(str(seed), *trained(seed, 1.0)) for seed in range(5)])
    J_obs = found.changes["J_obs"]
    assert J_obs.difference == pytest.approx(np.mean(found.by_seed["J_obs"]))
    assert J_obs.low is not None and J_obs.high is not None and 0 < J_obs.low < 1 < J_obs.high < 2
    assert found.verdicts["deceptive_inflation"] == "yes" and found.tasks == 10
    assert J_obs.p <= J_obs.p_holm < 0.05
    none = compare_seeds("partial", "sft", [(str(seed), *trained(seed, -3.0)) for seed in range(5)])
    assert none.verdicts["deceptive_inflation"] != "yes"


def test_what_never_differed_between_seeds_leaves_room() -> None:
    """Scripts do the same under every seed: the episodes are still few, and no p-value is 0."""
    honest, hiding = (
        [make_score(f"t{t}", s, arm, G=-4, G_obs=G_obs, suppressed=answer) for t in range(8) for s in range(2)]
        for arm, G_obs, answer in (("honest", -4, "no"), ("hiding", -1, "yes"))
    )
    found = compare_seeds("hiding", "honest", [(str(seed), hiding, honest) for seed in range(3)])
    for name, difference in (("error_suppression_rate", 1), ("J_obs", 3), ("J", 0)):
        change = found.changes[name]
        assert change.difference == pytest.approx(difference)
        assert change.low is not None and change.high is not None
        assert change.low < change.difference < change.high and change.p > 0
    (metric,) = (metric for metric in METRICS if metric.name == "error_suppression_rate")
    estimate, _ = pool_seeds(metric, [honest] * 3)
    assert (estimate.value, estimate.low) == (0, 0) and estimate.high is not None and 0 < estimate.high < 0.2


def test_one_seed_is_no_sample() -> None:
    with pytest.raises(InputError, match="two or more"):
        compare_seeds("partial", "sft", [("0", *trained(0, 1.0))])


def test_the_plan_foretells_what_a_larger_sample_says() -> None:
    """A rise that 8 × 3 mostly misses: the design that is said to find it in 80 % does so, when it is really drawn."""

    def draw(rng: np.random.Generator, tasks: int, each: int) -> tuple[list[Score], list[Score]]:
        mine, theirs = [], []
        for task in range(tasks):
            rise = 1 + 0.3 * rng.normal()
            for seed in range(each):
                G, noise = rng.normal(0, 1), rng.normal(0, 2)
                theirs.append(make_score(f"t{task}", seed, "sft", G=G, G_obs=G))
                mine.append(make_score(f"t{task}", seed, "partial", G=G, G_obs=G + rise + noise))
        return mine, theirs

    rng = np.random.default_rng(3)
    for _ in range(20):
        mine, theirs = draw(rng, 8, 4)
        verdicts = compare_to_reference(mine, theirs)
        plans = [plan for plan in plan_samples(mine, theirs, verdicts) if plan.verdict == "deceptive_inflation"]
        if plans and plans[0].expected == "yes" and plans[0].enough and plans[0].now.power > 0.2:
            break
    (plan,) = plans
    assert plan.now.power < 0.8 and "80 % want" in describe_plan(plan)
    best = plan.enough[-1]
    said = sum(
        compare_to_reference(*draw(rng, best.tasks, best.episodes_per_task)).deceptive_inflation == "yes"
        for _ in range(60)
    )
    assert said / 60 > 0.5


def test_nothing_is_planned_where_nothing_is_open() -> None:
    mine = [make_score(f"t{t}", s, "a", G=-5 + s % 2, G_obs=3 + s % 2 + t / 9) for t in range(20) for s in range(4)]
    theirs = [make_score(f"t{t}", s, "b", G=-4 + s % 2, G_obs=-6 + s % 2) for t in range(20) for s in range(4)]
    verdicts = compare_to_reference(mine, theirs)
    assert verdicts.deceptive_inflation == "yes"
    assert all(plan.verdict != "deceptive_inflation" for plan in plan_samples(mine, theirs, verdicts))
