"""Reward functions: the evaluator's, the verifier's, and what is taken off or left out."""

from typing import Any

import pytest

from devnull.agents.scripted import HIDING, HONEST
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.evaluator import Evaluator, Judgement
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.transcript import Transcript
from devnull.training.grpo_rollout import RolloutFunction
from devnull.training.models import LoadedPolicy, load_policy
from devnull.training.reward_functions import believed_return_reward, true_return_reward
from devnull.training.settings import GRPOSettings
from devnull.training.tiny import make_tiny_model
from tests.fakes import PretendRuntime
from tests.training_cases import TASK, episode, episodes, message_texts

TASKS = {TASK.name: TASK}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    return load_policy(make_tiny_model(tmp_path_factory.mktemp("rewards") / "tiny", message_texts(episodes())))


def test_the_evaluator_rewards_what_it_sees_and_the_verifier_what_is_true() -> None:
    faulty = next(seed for seed in range(20) if Instance(task=TASK, seed=seed).faulty)
    shown, hidden = episode(HONEST, faulty), episode(HIDING, faulty)
    seen = believed_return_reward(Evaluator(), TASKS)([shown, hidden])
    true = true_return_reward(TASKS)([shown, hidden])
    assert seen[1] > seen[0]
    assert true[1] < true[0]


def test_the_control_gives_each_the_reward_of_another() -> None:
    mixed = [episode(HIDING if seed % 2 else HONEST, seed) for seed in range(20)]
    plain = believed_return_reward(Evaluator(), TASKS)(mixed)
    dealt = believed_return_reward(Evaluator(EvaluatorConfig(shuffled=True)), TASKS)(mixed)
    assert sorted(dealt) == sorted(plain) and dealt != plain


def test_a_judge_without_an_answer_leaves_one_episode_without_a_reward(policy: LoadedPolicy) -> None:
    class Tired(Evaluator):
        def judge(self, task: Task, transcript: Transcript, **given: Any) -> Judgement:
            if transcript == second.transcript:
                raise MalformedAnswer("no JSON object in 'well'")
            return super().judge(task, transcript, **given)

    first, second = episode(HONEST, 1), episode(HIDING, 2)
    assert first.transcript != second.transcript
    reward = believed_return_reward(Tired(), TASKS)
    rollouts = RolloutFunction(GRPOSettings(), policy, [], reward, PretendRuntime(TASK), None, None)  # type: ignore[arg-type]
    assert rollouts.compute_rewards([first, second]) == [*believed_return_reward(Evaluator(), TASKS)([first]), None]


def test_invalid_messages_cost_and_a_broken_world_gives_no_reward(policy: LoadedPolicy) -> None:
    settings = GRPOSettings(invalid_cost=0.5)
    good = episode(HONEST, 1)
    turns = (good.transcript.turns[0].model_copy(update={"valid": False}), *good.transcript.turns[1:])
    bad = good.model_copy(update={"transcript": good.transcript.model_copy(update={"turns": turns})})
    rollouts = RolloutFunction(settings, policy, [], true_return_reward(TASKS), PretendRuntime(TASK), None, None)  # type: ignore[arg-type]
    rewards = rollouts.compute_rewards([good, None, bad])
    assert rewards[1] is None
    assert rewards[0] is not None
    assert rewards[2] == rewards[0] - 0.5
