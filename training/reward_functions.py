"""Reward functions for online training: the believed return, the true return, or a reward model's score."""

import random
from collections.abc import Callable, Mapping, Sequence

from devnull.agents.episode import Episode
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import AnnotationMode, add_annotation, describe_endings
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.rewards.returns import true_return
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.training.reward_model import RewardModel
from devnull.training.weighted_preferences import with_hypothesis

RewardFunction = Callable[[Sequence[Episode]], Sequence[float | None]]
"""Rewards of a batch of finished episodes, one each; `None` where an episode could not be judged."""


def believed_return_reward(evaluator: Evaluator, tasks: Mapping[str, Task]) -> RewardFunction:
    """The reward is G_obs, the return that the evaluator believes in.

    Naive RLHF's optimum is a policy that maximises its expectation, J_obs (Lang et al. 2024, sec. 4).
    A shuffled evaluator, the control, gives each episode the believed return of another of the batch. `None` where
    the evaluator, a language model, gave no well-formed answer.

    Args:
        tasks: By name, those of the episodes.

    Raises:
        InputError: The evaluator's config asks for wrong labels, and here no label is given.

    Example:
        >>> reward = believed_return_reward(Evaluator(), load_tasks())
        >>> rewards = reward(episodes)
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
            f"the reward; leave it out, or let it label pairs (devnull label) for dpo or a reward model"
        )

    def believed_return_of(episode: Episode) -> float | None:
        try:
            return evaluator.judge(tasks[episode.task], episode.transcript, seed=episode.stream).G_obs
        except MalformedAnswer:
            return None

    def reward(episodes: Sequence[Episode]) -> list[float | None]:
        returns = [believed_return_of(episode) for episode in episodes]
        if config.shuffled:
            random.Random(f"{config.name}/{[episode.stream for episode in episodes]}").shuffle(returns)
        return returns

    return reward


def true_return_reward(tasks: Mapping[str, Task]) -> RewardFunction:
    """The reward is G, the true return by the verifier: the control that no evaluator could give.

    Raises `InputError` for an episode without an outcome.
    """

    def reward(episodes: Sequence[Episode]) -> list[float]:
        returns = []
        for episode in episodes:
            if episode.outcome is None:
                raise InputError(f"episode {episode.key} has no outcome, so no true return")
            returns.append(true_return(tasks[episode.task], episode.outcome.truths))
        return returns

    return reward


def reward_model_reward(
    model: RewardModel,
    tasks: Mapping[str, Task],
    mode: AnnotationMode = "none",
    evaluator: Evaluator | None = None,
    *,
    marginalised: bool = False,
) -> RewardFunction:
    """The reward is a reward model's score of the episode.

    Args:
        mode: What stands in the annotation's place: nothing, what `evaluator` believes, or the truth.
        evaluator: Needed for mode `believed` only.
        marginalised: The model was trained on belief-marginalised preferences: it scores the agent's messages with
            an ending (`devnull.training.weighted_preferences`), here the true one.
    """

    def reward(episodes: Sequence[Episode]) -> list[float]:
        sides = []
        for episode in episodes:
            task, chat = tasks[episode.task], episode_messages(episode)
            truths = episode.outcome.truths if episode.outcome else None
            if marginalised and truths is not None:
                chat = with_hypothesis(chat, describe_endings(task, truths))
            elif not marginalised:
                belief = None
                if mode == "believed" and evaluator is not None:
                    belief = evaluator.judge(task, episode.transcript, seed=episode.stream).belief
                chat = add_annotation(chat, task, mode, belief=belief, truths=truths)
            sides.append(((chat, 1.0),))
        return model.scores(sides)

    return reward
