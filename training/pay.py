"""What a policy is paid online: the evaluator's word, a reward model's, or the truth."""

from collections.abc import Mapping, Sequence

from agents.episode import Episode
from rewards.annotations import Mode, annotate, told
from rewards.evaluator import Evaluator
from rewards.returns import true_return
from sandbox.errors import InputError
from sandbox.task import Task
from training.data import conversation
from training.grpo import RewardFunction
from training.reward import RewardModel, with_hypothesis


def believed(evaluator: Evaluator, tasks: Mapping[str, Task]) -> RewardFunction:
    """G_obs, the return the evaluator believes in: naive RLHF's optimum is a policy that maximises it."""

    def reward(episodes: Sequence[Episode]) -> list[float]:
        return [evaluator.judge(tasks[e.task], e.transcript, seed=e.stream).G_obs for e in episodes]

    return reward


def actual(tasks: Mapping[str, Task]) -> RewardFunction:
    """G, the true return by the verifier: the control that no evaluator could give."""

    def reward(episodes: Sequence[Episode]) -> list[float]:
        returns = []
        for episode in episodes:
            if episode.outcome is None:
                raise InputError(f"episode {episode.key} has no outcome, so no true return")
            returns.append(true_return(tasks[episode.task], episode.outcome.truths))
        return returns

    return reward


def scored(
    model: RewardModel,
    tasks: Mapping[str, Task],
    mode: Mode = "none",
    evaluator: Evaluator | None = None,
    *,
    marginalised: bool = False,
) -> RewardFunction:
    """What a reward model makes of the episode.

    `mode` says what stands in the annotation's place: nothing, what `evaluator` believes, or the truth.
    `marginalised`: the model scores the agent's messages with an ending, here the true one.
    """

    def reward(episodes: Sequence[Episode]) -> list[float]:
        sides = []
        for episode in episodes:
            task, chat = tasks[episode.task], conversation(episode)
            truths = episode.outcome.truths if episode.outcome else None
            if marginalised and truths is not None:
                chat = with_hypothesis(chat, told(task, truths))
            elif not marginalised:
                belief = None
                if mode == "believed" and evaluator is not None:
                    belief = evaluator.judge(task, episode.transcript, seed=episode.stream).belief
                chat = annotate(chat, task, mode, belief=belief, truths=truths)
            sides.append(((chat, 1.0),))
        return model.scores(sides)

    return reward
