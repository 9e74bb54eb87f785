"""What a policy is paid online: the evaluator's word, a reward model's, or the truth."""

import random
from collections.abc import Mapping, Sequence

from devnull.agents.episode import Episode
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import Mode, annotate, told
from devnull.rewards.returns import true_return
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.training.data import conversation
from devnull.training.grpo import RewardFunction
from devnull.training.reward_model import RewardModel, with_hypothesis


def believed(evaluator: Evaluator, tasks: Mapping[str, Task]) -> RewardFunction:
    """G_obs, the return the evaluator believes in: naive RLHF's optimum is a policy that maximises it.

    A shuffled evaluator, the control, pays each episode what another of the batch was believed to be worth.
    Nothing where the evaluator, a language model, gave no proper answer.
    Raises `InputError` for an evaluator whose labels err: a return is paid, no label is given.
    """
    config = evaluator.config
    unheeded = [
        name
        for name in ("label_noise", "poisoned", "misaligned", "audit_rate", "rating_noise")
        if getattr(config, name)
    ]
    if unheeded:
        raise InputError(
            f"evaluator {config.name}: {', '.join(unheeded)} changes labels, and here the believed return itself is "
            f"paid; leave it out, or let it label pairs (devnull label) for dpo or a reward model"
        )

    def worth(episode: Episode) -> float | None:
        try:
            return evaluator.judge(tasks[episode.task], episode.transcript, seed=episode.stream).G_obs
        except MalformedAnswer:
            return None

    def reward(episodes: Sequence[Episode]) -> list[float | None]:
        returns = [worth(episode) for episode in episodes]
        if config.shuffled:
            random.Random(f"{config.name}/{[episode.stream for episode in episodes]}").shuffle(returns)
        return returns

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
