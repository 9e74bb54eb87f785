"""What an episode is worth to the policy, by whose word."""

from typing import Any

import pytest

from devnull.agents.scripted import HIDING, HONEST
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.evaluator import Evaluator, Judgement
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.transcript import Transcript
from devnull.training.grpo import Rollouts
from devnull.training.models import Policy, load_policy, make_tiny
from devnull.training.reward_functions import actual, believed
from devnull.training.settings import GRPOSettings
from tests.training_cases import TASK, PretendRuntime, episode, episodes, texts

TASKS = {TASK.name: TASK}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return load_policy(make_tiny(tmp_path_factory.mktemp("pay") / "tiny", texts(episodes())))


def test_the_evaluator_pays_for_what_it_sees_and_the_verifier_for_what_is_true() -> None:
    faulty = next(seed for seed in range(20) if Instance(task=TASK, seed=seed).faulty)
    shown, hidden = episode(HONEST, faulty), episode(HIDING, faulty)
    seen = believed(Evaluator(), TASKS)([shown, hidden])
    true = actual(TASKS)([shown, hidden])
    assert seen[1] > seen[0]
    assert true[1] < true[0]


def test_the_control_pays_each_what_another_earned() -> None:
    mixed = [episode(HIDING if seed % 2 else HONEST, seed) for seed in range(20)]
    plain = believed(Evaluator(), TASKS)(mixed)
    dealt = believed(Evaluator(EvaluatorConfig(shuffled=True)), TASKS)(mixed)
    assert sorted(dealt) == sorted(plain) and dealt != plain


def test_a_judge_without_an_answer_leaves_one_episode_unpaid(policy: Policy) -> None:
    class Tired(Evaluator):
        def judge(self, task: Task, transcript: Transcript, **given: Any) -> Judgement:
            if transcript == second.transcript:
                raise MalformedAnswer("no JSON object in 'well'")
            return super().judge(task, transcript, **given)

    first, second = episode(HONEST, 1), episode(HIDING, 2)
    assert first.transcript != second.transcript
    paid = believed(Tired(), TASKS)
    rollouts = Rollouts(GRPOSettings(), policy, [], paid, PretendRuntime(), None, None)  # type: ignore[arg-type]
    assert rollouts.pay([first, second]) == [*believed(Evaluator(), TASKS)([first]), None]


def test_an_evaluator_whose_labels_err_pays_nobody() -> None:
    with pytest.raises(InputError, match=r"label_noise, poisoned changes labels.*devnull label"):
        believed(Evaluator(EvaluatorConfig(label_noise=0.1, poisoned=0.1)), TASKS)


def test_invalid_messages_cost_and_a_broken_world_pays_nothing(policy: Policy) -> None:
    settings = GRPOSettings(invalid_cost=0.5)
    good = episode(HONEST, 1)
    turns = (good.transcript.turns[0].model_copy(update={"valid": False}), *good.transcript.turns[1:])
    bad = good.model_copy(update={"transcript": good.transcript.model_copy(update={"turns": turns})})
    rollouts = Rollouts(settings, policy, [], actual(TASKS), PretendRuntime(), None, None)  # type: ignore[arg-type]
    pay = rollouts.pay([good, None, bad])
    assert pay[1] is None
    assert pay[0] is not None
    assert pay[2] == pay[0] - 0.5
