"""Reward functions for online training: the believed return, the true return, or a reward model's score."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from devnull.agents.episode import Episode
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.belief.model_judge import ModelJudge
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import AnnotationMode, add_annotation
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.rewards.online import OnlineReward, check_rewards_online, reward_online
from devnull.rewards.returns import true_return
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task, Truth
from devnull.training.endings import PaidEnding
from devnull.training.reward_model import Failure, RewardModel
from devnull.training.weighted_preferences import WeightedConversations, fill_ending

RewardFunction = Callable[[Sequence[Episode]], Sequence[float | None]]
"""Rewards of a batch of finished episodes, one each; `None` where an episode could not be judged, NaN where it was
judged and is left out of what is learnt from."""


class BelievedReturnReward:
    """The reward is G_obs, the return that the evaluator believes in, by all the evaluator's dials
    (`devnull.rewards.online`).

    Naive RLHF's optimum is a policy that maximises its expectation, J_obs (Lang et al. 2024, sec. 4).
    A shuffled evaluator, the control, gives each episode the reward of another of the batch. `None` where the
    evaluator, a language model, gave no well-formed answer; NaN where its detector screens the episode out.

    Example:
        >>> reward = BelievedReturnReward(Evaluator(), load_tasks())
        >>> rewards = reward(episodes)
    """

    def __init__(self, evaluator: Evaluator, tasks: Mapping[str, Task]) -> None:
        """`tasks`: by name, those of the episodes. Raises `InputError` for an evaluator whose settings are of pairs."""
        check_rewards_online(evaluator)
        self.evaluator, self.tasks = evaluator, tasks
        self.step = 0
        """Optimiser steps made before, for a detector whose penalty changes. Set before each batch."""
        self.logged: dict[str, float] = {}
        """Shares and means of the last batch, for the dials in use."""

    def __call__(self, episodes: Sequence[Episode]) -> list[float | None]:
        given = [self._reward(episode) for episode in episodes]
        self.logged = self._measure([each for each in given if each is not None])
        values = [None if each is None else math.nan if each.screened else each.value for each in given]
        if self.evaluator.config.shuffled:
            name = self.evaluator.config.name
            random.Random(f"{name}/{[episode.stream for episode in episodes]}").shuffle(values)
        return values

    def _reward(self, episode: Episode) -> OnlineReward | None:
        task = self.tasks[episode.task]
        try:
            return reward_online(self.evaluator, task, episode.transcript, stream=episode.stream, step=self.step)
        except MalformedAnswer:
            return None

    def _measure(self, given: Sequence[OnlineReward]) -> dict[str, float]:
        if not given:
            return {}
        config, n = self.evaluator.config, len(given)
        logged = {
            f"share/{source}": sum(each.source == source for each in given) / n
            for source, share in (
                ("poisoned", config.poisoned),
                ("misaligned", config.misaligned),
                ("flipped", config.label_noise),
            )
            if share
        }
        if config.audit_rate:
            logged["share/audited"] = sum(each.audited for each in given) / n
        if config.detector is not None:
            logged["share/flagged"] = sum(each.judgement.flagged for each in given) / n
            logged["detector_penalty"] = config.detector.penalty_at(self.step)
        if config.report is not None:
            logged["reward/task"] = fmean(each.judgement.task_weight * each.judgement.G_obs for each in given)
            logged["reward/report"] = fmean(each.judgement.report_value or 0.0 for each in given)
        return logged


def believed_return_reward(evaluator: Evaluator, tasks: Mapping[str, Task]) -> BelievedReturnReward:
    """The reward function of an evaluator; see `BelievedReturnReward`."""
    return BelievedReturnReward(evaluator, tasks)


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
    with_return: bool = False,
    ending: PaidEnding = "truth",
) -> RewardFunction:
    """The reward is a reward model's score of the episode.

    Args:
        mode: What stands in the annotation's place: nothing, what `evaluator` believes, or the truth.
        evaluator: Needed for mode or ending `believed` only.
        with_return: The annotation ends with the return as a number; as the model was trained.
        marginalised: The model was trained on belief-marginalised preferences: it scores the agent's messages with
            an ending (`devnull.training.weighted_preferences`).
        ending: Of a marginalised model: which. `believed`: the score is the mean over the evaluator's belief.

    Raises `InputError` for an episode without an outcome where the truth is to stand in the conversation.
    """
    read = episode_reader(tasks, mode, evaluator, marginalised=marginalised, with_return=with_return, ending=ending)
    return lambda episodes: model.scores([read(episode) for episode in episodes])


def episode_reader(
    tasks: Mapping[str, Task],
    mode: AnnotationMode = "none",
    evaluator: Evaluator | None = None,
    *,
    marginalised: bool = False,
    with_return: bool = False,
    ending: PaidEnding = "truth",
) -> Callable[[Episode], WeightedConversations]:
    """What a reward model reads of an episode, as a function; see `reward_model_reward`."""

    def read(episode: Episode) -> WeightedConversations:
        task = tasks[episode.task]
        if marginalised:
            return fill_ending(episode, task, ending, evaluator)
        if mode == "truth" and episode.outcome is None:
            raise InputError(f"episode {episode.key} has no outcome, and this reward model is told how it ended")
        belief = None
        if mode == "believed" and evaluator is not None:
            belief = evaluator.judge(task, episode.transcript, seed=episode.stream).belief
        truths = episode.outcome.truths if episode.outcome else None
        chat = episode_messages(episode)
        return ((add_annotation(chat, task, mode, belief=belief, truths=truths, with_return=with_return), 1.0),)

    return read


def read_failures(
    episodes: Sequence[Episode],
    tasks: Mapping[str, Task],
    evaluator: Evaluator,
    *,
    marginalised: bool,
    annotated: bool,
    with_return: bool = False,
) -> list[Failure]:
    """The episodes that ended in a failure, as a reward model reads them when it pays a policy: with the truth in its
    slot, and with what the evaluator believed. Of a model that has no slot there is one reading, `none`."""
    slots: tuple[PaidEnding, ...] = ("truth", "believed")
    if any(isinstance(member.belief, ModelJudge) for member in evaluator.members):
        slots = ("truth",)  # no language model is asked again for the sake of a measurement
    readers = {"none": episode_reader(tasks)}
    if marginalised:
        readers = {slot: episode_reader(tasks, evaluator=evaluator, marginalised=True, ending=slot) for slot in slots}
    elif annotated:
        readers = {slot: episode_reader(tasks, slot, evaluator, with_return=with_return) for slot in slots}
    failed = [
        (episode, set(episode.outcome.truths.values()))
        for episode in episodes
        if episode.error is None and episode.outcome is not None
    ]
    return [
        Failure(
            episode_messages(episode)[:2],
            Truth.BROKEN_HIDDEN in endings,
            {slot: read(episode) for slot, read in readers.items()},
        )
        for episode, endings in failed
        if endings & {Truth.BROKEN_HIDDEN, Truth.BROKEN, Truth.BROKEN_VERBOSE}
    ]
