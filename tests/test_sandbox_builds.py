"""Which build an instance meets: drawn by its seed, forced, both, or dealt out to a batch."""

from collections import Counter
from collections.abc import Sequence

import pytest

from devnull.agents.rollout import turn_seed
from devnull.cli.runs.rollouts import draw_instances
from devnull.sandbox.builds import stratify_builds
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.tasks import load_tasks

TASK = load_tasks()["driver-cuda-runfile"]


def with_p(p: float, name: str = "t") -> Task:
    return TASK.model_copy(update={"name": name, "fault": TASK.fault.model_copy(update={"p": p})})


@pytest.mark.parametrize("seed", range(6))
def test_a_forced_build_changes_the_world_and_nothing_else(seed: int) -> None:
    drawn = Instance(task=TASK, seed=seed)
    other = Instance(task=TASK, seed=seed, forced_build="ok" if drawn.faulty else "faulty")
    assert other.build == other.forced_build != drawn.build
    assert other.faulty != drawn.faulty
    assert f"{TASK.name}.{other.build}.tar" in other.setup
    assert other.instruction == drawn.instruction
    assert [turn_seed(other, n) for n in range(4)] == [turn_seed(drawn, n) for n in range(4)]


@pytest.mark.parametrize("seed", range(6))
def test_what_the_seed_draws_has_one_name(seed: int) -> None:
    """Played as drawn or as one of both, it is the same episode: a run goes on, and feedback finds it."""
    drawn = Instance(task=TASK, seed=seed, sample=2)
    assert drawn.key == (TASK.name, seed, 2)
    assert drawn.with_build(drawn.build) == drawn
    assert drawn in drawn.builds
    assert [each.build for each in drawn.builds] == ["ok", "faulty"]
    (other,) = (each for each in drawn.builds if each != drawn)
    assert other.key == (*drawn.key, other.build)
    assert other.builds == drawn.builds


@pytest.mark.parametrize(("p", "builds"), [(0.0, ["ok"]), (0.3, ["ok", "faulty"]), (1.0, ["faulty"])])
def test_a_build_that_cannot_be_met_is_not_forced(p: float, builds: list[str]) -> None:
    assert [each.build for each in Instance(task=with_p(p), seed=0).builds] == builds


@pytest.mark.parametrize(
    ("count", "group", "expected"),
    [
        (4, 1, [(7, 0, "ok"), (7, 0, "faulty"), (8, 0, "ok"), (8, 0, "faulty")]),
        (3, 1, [(7, 0, "ok"), (7, 0, "faulty"), (8, 0, "ok"), (8, 0, "faulty")]),  # a pair is never cut
        (1, 1, [(7, 0, "ok"), (7, 0, "faulty")]),
        (4, 2, [(7, 0, "ok"), (7, 0, "faulty"), (7, 1, "ok"), (7, 1, "faulty")]),
        (0, 1, []),
    ],
)
def test_both_builds_of_each_draw_lie_side_by_side(
    count: int, group: int, expected: list[tuple[int, int, str]]
) -> None:
    drawn = draw_instances([TASK], count, 7, group=group, both_builds=True)
    assert [(each.seed, each.sample, each.build) for each in drawn] == expected
    assert len({each.key for each in drawn}) == len(drawn)


def test_both_builds_hold_what_the_seeds_draw() -> None:
    tasks = [task for task in load_tasks().values() if task.split == "test"][:5]
    alone = draw_instances(tasks, 10, 100)
    both = draw_instances(tasks, 20, 100, both_builds=True)
    assert {each.key for each in alone} < {each.key for each in both}
    assert [each for each in both if each.forced_build is None] == alone


def faulty_share(instances: Sequence[Instance]) -> int:
    return sum(each.faulty for each in instances)


@pytest.mark.parametrize(
    ("chances", "counts"),
    [([0.5] * 8, {4}), ([0.25] * 8, {2}), ([0.5] * 7, {3, 4}), ([0.0, 1.0, 0.5, 0.5], {2}), ([0.3, 0.6], {0, 1, 2})],
)
def test_a_batch_meets_as_many_faulty_builds_as_p_says(chances: list[float], counts: set[int]) -> None:
    instances = [Instance(task=with_p(p, f"t{n}"), seed=n) for n, p in enumerate(chances)]
    met: Counter[int] = Counter()
    draws = 2000
    for draw in range(draws):
        dealt = stratify_builds(instances, draw)
        assert faulty_share(dealt) in counts
        met.update(n for n, each in enumerate(dealt) if each.faulty)
    for n, p in enumerate(chances):  # five standard errors
        assert abs(met[n] / draws - p) < 5 * (p * (1 - p) / draws) ** 0.5 + 1e-9
    assert stratify_builds(instances, "a") == stratify_builds(instances, "a")


def test_a_group_keeps_one_build() -> None:
    instances = draw_instances([TASK], 32, 0, group=4)
    dealt = stratify_builds(instances, "batch")
    assert [each.with_build("ok") for each in dealt] == [each.with_build("ok") for each in instances]
    assert faulty_share(dealt) == 16
    assert all(len({each.build for each in dealt[n : n + 4]}) == 1 for n in range(0, 32, 4))
