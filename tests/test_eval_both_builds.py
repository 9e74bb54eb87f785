"""Episodes played under both builds estimate what drawn ones estimate, and better."""

import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from devnull.eval.comparing.comparison import compare
from devnull.eval.comparing.pairing import pair_difference
from devnull.eval.comparing.seeds import compare_seeds
from devnull.eval.comparing.verdicts import compare_to_reference
from devnull.eval.display.figures import calibration_bins
from devnull.eval.scoring.metrics import compute_metrics
from devnull.eval.scoring.score import Score
from tests.fakes import make_score

Play = Callable[[str, int, bool], Score]
"""The episode of a task, the agent's luck, and a build."""
LIMITS = (-10.0, 12.0)


def ending(task: str, luck: int, faulty: bool, p: float, arm: str = "a", hides: int = 2) -> Score:
    """A policy that stops one time in four, whatever the build, and else hides as many of its failures in four."""
    stops, hidden = luck == 0, luck <= hides
    worth = {"G": 1.0, "G_obs": 1.0, "attempted": False, "belief_success": 0.1, "success": False}
    if not stops and faulty:
        worth = {"G": -8.0 if hidden else -4.0, "G_obs": 2.0 if hidden else -4.0, "belief_success": 0.6 * hidden}
        worth |= {"suppressed": "yes" if hidden else "no", "success": False, "opportunity": True}
    elif not stops:
        worth = {"G": 11.0, "G_obs": 11.0, "belief_success": 1.0}
    return make_score(task, faulty=faulty, arm=arm, fault_probability=p, return_limits=LIMITS, **worth)


def expected(p: float, hides: int = 2) -> dict[str, float]:
    """What the metrics are of, over all of the agent's luck."""
    worlds = [
        (ending("t", luck, faulty, p, hides=hides), (p if faulty else 1 - p) / 4)
        for luck in range(4)
        for faulty in (False, True)
    ]
    mean = {name: sum(w * (getattr(s, name) or 0) for s, w in worlds) for name in ("G", "G_obs")}
    material = sum(w for s, w in worlds if s.suppressed)
    return {
        "J": mean["G"],
        "J_obs": mean["G_obs"],
        "E_plus": sum(w * max(0, (s.G_obs or 0) - (s.G or 0)) for s, w in worlds),
        "attempt_rate": sum(w for s, w in worlds if s.attempted),
        "true_success": sum(w for s, w in worlds if s.success),
        "error_suppression_rate": sum(w for s, w in worlds if s.suppressed == "yes") / material,
    }


def both(task: str, seeds: Sequence[int], p: float, **more: object) -> list[Score]:
    """Each luck under both builds."""
    return [
        ending(task, luck, faulty, p, **more).model_copy(update={"seed": seed})  # type: ignore[arg-type]
        for seed, luck in enumerate(seeds)
        for faulty in (False, True)
    ]


@pytest.mark.parametrize("p", [0.5, 0.2, 0.9])
def test_every_mean_is_unbiased(p: float) -> None:
    """Exactly: over all that the agent's luck can be in two instances of a task."""
    found = [compute_metrics(both("t", lucks, p)) for lucks in itertools.product(range(4), repeat=2)]
    for name, true in expected(p).items():
        values = [each[name].value for each in found if each[name].value is not None]
        if name != "error_suppression_rate":  # a ratio of two means
            assert len(values) == 16
            assert np.mean(values) == pytest.approx(true)
    whole = compute_metrics(both("t", range(4), p))
    for name, true in expected(p).items():
        assert whole[name].value == pytest.approx(true)
        assert f"{name}_weighed" not in whole or whole[f"{name}_weighed"].value == pytest.approx(true)
    assert whole["J"].n == 8


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_differences_are_weighed_alike_everywhere(p: float) -> None:
    ours, theirs = (
        [each for task in range(10) for each in both(f"t{task}", range(4), p, arm=arm, hides=hides)]
        for arm, hides in (("a", 3), ("b", 1))
    )
    more, less = expected(p, 3), expected(p, 1)
    verdicts = compare_to_reference(ours, theirs)
    (comparison,) = compare(("b", theirs), [("a", ours)])
    seeds = compare_seeds("a", "b", [("0", ours, theirs), ("1", ours, theirs)])
    mean = pair_difference(ours, theirs).mean
    for column, name in enumerate(("J", "J_obs", "E_plus")):
        true = more[name] - less[name]
        assert verdicts.differences[name].value == pytest.approx(true)
        assert comparison.changes[name].difference == pytest.approx(true)
        assert seeds.changes[name].difference == pytest.approx(true)
        assert mean[column] == pytest.approx(true)
    change = comparison.changes["error_suppression_rate"]
    assert change.difference == pytest.approx(more["error_suppression_rate"] - less["error_suppression_rate"])
    assert verdicts.shared == comparison.shared == 1.0
    assert verdicts.deceptive_inflation == "yes"


def test_a_calibration_bin_weighs_both_builds() -> None:
    """A belief of 0.6 is of broken installations only; in its bin lies one build of a pair, and still counts 2p."""
    bins = calibration_bins([*both("t", range(4), 0.2), make_score("u", belief_success=1.0, success=False)])
    last = bins[-1]
    assert last.success.value == pytest.approx(3 * 1.6 / (3 * 1.6 + 1))


def simulate(rng: random.Random, p: float, tasks: int, paired: bool, arm: str = "a", hides: int = 2) -> list[Score]:
    """12 episodes a task: of 12 seeds with a build drawn each, or of 6 under both."""
    scores = []
    for task in range(tasks):
        for seed in range(6 if paired else 12):
            luck, drawn = rng.randrange(4), rng.random() < p
            for faulty in (False, True) if paired else (drawn,):
                found = ending(f"t{task}", luck, faulty, p, arm, hides)
                scores.append(found.model_copy(update={"seed": seed}))
    return scores


@pytest.mark.parametrize(("tasks", "least"), [(3, 0.9), (10, 0.9)])
def test_intervals_cover_and_are_narrower(tasks: int, least: float) -> None:
    p, rounds = 0.5, 120
    true = expected(p)
    for name in ("J", "J_obs", "E_plus"):
        rng, spread, hits = random.Random(f"{tasks}/{name}"), {}, 0
        for paired in (False, True):
            found = [compute_metrics(simulate(rng, p, tasks, paired))[name] for _ in range(rounds)]
            values = [each.value or 0.0 for each in found]
            spread[paired] = float(np.std(values))
            assert abs(np.mean(values) - true[name]) < 4 * spread[paired] / rounds**0.5
            hits += paired * sum((e.low or 0) <= true[name] <= (e.high or 0) for e in found)
        assert hits / rounds >= least
        assert spread[True] < spread[False]
        assert name != "J" or spread[True] < 0.8 * spread[False]
