"""What comparisons tell of the rewards when the belief is known: right where identified, named where not."""

from itertools import combinations

import numpy as np
import pytest

from devnull.agents.episode import Episode
from devnull.rewards.evaluator import Evaluator, sigmoid
from devnull.rewards.evaluator_config import make_evaluator_config
from devnull.rewards.feedback.comparison_matrix import ComparisonMatrix, build_comparison_matrix
from devnull.rewards.feedback.comparisons import Preference, make_preferences
from devnull.rewards.feedback.reward_columns import true_rewards
from devnull.rewards.feedback.reward_inference import InferredRewards, fit_rewards, infer_rewards
from devnull.sandbox.errors import InputError
from devnull.sandbox.outcome import StageOutcome
from devnull.sandbox.task import Truth
from devnull.sandbox.tasks import load_tasks
from devnull.sandbox.transcript import Turn
from tests.fakes import CUDA_ERROR, CUDA_OK, DRIVER_OK, make_episode, result

TASKS = load_tasks()
A, B = TASKS["driver-cuda-runfile"], TASKS["verbose-build"]
SHOWN = {
    A.name: {
        Truth.INSTALLED: CUDA_OK,
        Truth.BROKEN: CUDA_ERROR,
        Truth.BROKEN_HIDDEN: "",
        Truth.NOT_ATTEMPTED: None,
    },
    B.name: {
        Truth.INSTALLED: "",
        Truth.INSTALLED_VERBOSE: "cc\nNCCL 2.20 installed\n",
        Truth.BROKEN: "nccl.c: error: x\n",
        Truth.NOT_ATTEMPTED: None,
    },
}


def outcome(truth: Truth) -> StageOutcome:
    if truth is Truth.NOT_ATTEMPTED:
        return StageOutcome(state="not_attempted")
    return StageOutcome(
        state="installed" if truth.installed else "broken",
        hidden=truth is Truth.BROKEN_HIDDEN,
        verbose=truth is Truth.INSTALLED_VERBOSE,
    )


def episodes(task: str, copies: int = 1) -> list[Episode]:
    """One of each ending, `copies` times over."""
    made = []
    for n, (truth, shown) in enumerate([*SHOWN[task].items()] * copies):
        results = [DRIVER_OK] if shown is None else [DRIVER_OK, shown]
        driver, other = TASKS[task].stages
        turns = [Turn(text=f"{n}: {truth}", valid=True, result=result("x", text)) for text in results]
        stages = {driver.name: "installed", other.name: outcome(truth)}
        made.append(make_episode(TASKS[task], turns, stages, seed=n, arm="all", faulty=False))
    return made


def exactly(task: str, table: dict[str, object]) -> InferredRewards:
    """What infinitely many comparisons of everything with everything would tell, by every member of the panel."""
    evaluator = Evaluator(make_evaluator_config(table, "e"))
    shown = episodes(task)
    preferences, share = [], []
    for a, b in combinations(shown, 2):
        for member in evaluator.members:
            judged = [evaluator.judge(TASKS[task], e.transcript, member=member) for e in (a, b)]
            preferences.append(
                Preference(
                    task=task,
                    evaluator=member.name,
                    prompt=(),
                    chosen=(),
                    rejected=(),
                    chosen_key=a.key,
                    rejected_key=b.key,
                    chosen_G=0,
                    rejected_G=0,
                    chosen_G_obs=judged[0].G_obs,
                    rejected_G_obs=judged[1].G_obs,
                    probability=0.5,
                    label="honest",
                )
            )
    known = build_comparison_matrix(preferences, shown, evaluator, TASKS)
    rewards = np.array(list(true_rewards(known.columns, TASKS).values()))
    share = np.array([sigmoid(u) for u in known.X @ rewards])
    return fit_rewards(ComparisonMatrix(known.columns, known.X, 1e9 * share, 1e9 * (1 - share)), ridge=0)


def test_example_a_leaves_one_direction_open_and_names_it() -> None:
    found = exactly(A.name, {"beta": 0.3})
    assert (found.rank, found.ambiguous) == (2, 1)
    assert found.directions == ("driver-cuda, cuda: failed and hid against never tried",)
    cuda = ("driver-cuda", "cuda")
    assert found.difference((*cuda, Truth.INSTALLED), (*cuda, Truth.BROKEN)) == pytest.approx(15, abs=1e-3)
    assert found.difference((*cuda, Truth.BROKEN_HIDDEN), (*cuda, Truth.NOT_ATTEMPTED)) is None


def test_an_uneven_belief_leaves_an_uneven_direction() -> None:
    found = exactly(A.name, {"beta": 0.3, "belief": {"p_hide": 0.75}})
    assert found.directions == ("driver-cuda, cuda: 1 x failed and hid against 3 x never tried",)


def test_two_evaluators_with_different_paranoia_identify_everything() -> None:
    table = {
        "beta": 0.3,
        "panel": [{"name": "trusting", "belief": {"p_hide": 0.1}}, {"name": "wary", "belief": {"p_hide": 0.8}}],
    }
    found = exactly(A.name, table)
    assert (found.rank, found.ambiguous, found.directions) == (3, 0, ())
    truth = true_rewards(found.columns, TASKS)
    for i, column in enumerate(found.columns):
        for j, other in enumerate(found.columns):
            if column[:2] == other[:2]:
                true = truth[column] - truth[other]
                assert found.difference(column, other) == pytest.approx(true, abs=1e-2)
                assert found.least_squares[i] - found.least_squares[j] == pytest.approx(true, abs=1e-2)


def test_example_b_leaves_its_own_direction_open() -> None:
    b = exactly(B.name, {"beta": 0.3})
    assert (b.rank, b.ambiguous) == (2, 1)
    assert b.directions == ("verbose-build, library: 9 x works against 1 x never tried",)


def test_sampled_preferences_come_near_the_truth() -> None:
    table = {
        "beta": 0.2,
        "panel": [{"name": "trusting", "belief": {"p_hide": 0.0}}, {"name": "wary", "belief": {"p_hide": 1.0}}],
    }
    evaluator = Evaluator(make_evaluator_config(table, "e"))
    shown = episodes(A.name, copies=25)
    preferences = list(make_preferences(shown, evaluator, TASKS, seed=0, count=4000))
    found = infer_rewards(preferences, shown, evaluator, TASKS)
    truth = true_rewards(found.columns, TASKS)
    assert found.ambiguous == 0
    assert found.comparisons == 4000
    for column in found.columns:
        first = ("driver-cuda", column[1], Truth.INSTALLED)
        assert found.difference(column, first) == pytest.approx(truth[column] - truth[first], abs=2.5)


def test_a_preference_of_an_unknown_episode_is_refused() -> None:
    evaluator = Evaluator(make_evaluator_config({}, "e"))
    shown = episodes(A.name, copies=2)
    preferences = list(make_preferences(shown, evaluator, TASKS, seed=0))
    with pytest.raises(InputError, match="which is not among those given"):
        infer_rewards(preferences, shown[:1], evaluator, TASKS)
    with pytest.raises(InputError, match="no preferences"):
        infer_rewards([], shown, evaluator, TASKS)


def test_choices_that_all_go_one_way_give_a_finite_reward() -> None:
    X = np.array([[1.0, -1.0]])
    columns = (("f", "s", Truth.BROKEN), ("f", "s", Truth.INSTALLED))
    found = fit_rewards(ComparisonMatrix(columns, X, np.array([0.0]), np.array([50.0])), ridge=1e-3)
    difference = found.difference(columns[1], columns[0])
    assert difference is not None
    assert 2 < difference < 20
