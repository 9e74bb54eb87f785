"""Preferences as a reward model meets them: each side one conversation, or the evaluator's belief marginalised out.

Belief-marginalised (Lang et al. 2024, sec. 5): an evaluator who compares what it believes happened has
P(a > b) = σ(β (Σ_h B(h|o_a) r(a, h) - Σ_h B(h|o_b) r(b, h))), h being the ways in which an episode may have ended. The
reward model scores the agent's messages with one hypothesis h at the end, and must not see the terminal: if it sees
the observation too, r is not identified (r(worked) - r(failed) came out as +6.6 without it and -1.2 with it).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devnull.agents.agent import Message
from devnull.agents.episode import Episode
from devnull.agents.protocol import FinalReport, parse_action
from devnull.rewards.belief.belief import Belief
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import certain_belief, describe_endings, hypotheses
from devnull.rewards.feedback.comparisons import Preference, episode_messages
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.training.data import filter_by_length, tokenize_conversation
from devnull.training.endings import LearntEnding, PaidEnding
from devnull.training.settings import TooLong

SIDES = ("chosen", "rejected")

WeightedConversations = tuple[tuple[tuple[Message, ...], float], ...]
"""One side: conversations to score and the weight of each; the weights add up to 1."""


@dataclass(frozen=True)
class WeightedPreference:
    """One preference as a reward model meets it: the score of a side is the weighted mean of its conversations'."""

    chosen: WeightedConversations
    rejected: WeightedConversations
    preference: Preference
    ending: LearntEnding | None = None
    """What fills the slot of the ending; `None`: the sides are conversations as they were, with no such slot."""


def plain_preferences(preferences: Iterable[Preference]) -> list[WeightedPreference]:
    """Each side is one conversation of weight 1, annotated or not, as the preference holds it."""

    def side(preference: Preference, answer: Sequence[Message]) -> WeightedConversations:
        return (((*preference.prompt, *answer), 1.0),)

    return [WeightedPreference(side(p, p.chosen), side(p, p.rejected), p) for p in preferences]


def marginalised_preferences(
    preferences: Iterable[Preference],
    episodes: Iterable[Episode],
    evaluator: Evaluator,
    tasks: Mapping[str, Task],
    ending: LearntEnding = "rater",
) -> list[WeightedPreference]:
    """Each side is the agent's messages, once with each ending that the evaluator held for possible, by its belief.

    Args:
        episodes: Those that the preferences compare.
        evaluator: Whose beliefs are assumed. They are computed again, so another than the one who gave the preferences
            is a learner that is wrong about the beliefs; its members have the same names.
        ending: What fills the slot.

    Raises:
        InputError: A preference is about an episode that is not in `episodes` or has no outcome where the truth is
            asked for, or by a rater who is not a member of the evaluator; it is annotated; or the choices do not follow
            from endings alone.
    """
    if evaluator.config.pays_beside_endings:
        raise InputError(
            f"evaluator {evaluator.name}: its detector or report pays beside the endings, which marginalised "
            f"preferences are about; train a plain reward model"
        )
    preferences = list(preferences)
    if any(preference.annotations != "none" for preference in preferences):
        raise InputError(
            "these comparisons end with annotations, and a marginalised model reads an ending instead; label again "
            "without --annotations"
        )
    known = {episode.key: episode for episode in episodes}
    members = {member.name: member for member in evaluator.members}

    def side(preference: Preference, name: str) -> WeightedConversations:
        key = preference.chosen_key if name == "chosen" else preference.rejected_key
        if key not in known:
            raise InputError(f"a preference speaks of the episode {key}, which the run does not hold")
        episode, task = known[key], tasks[known[key].task]
        chat = (*preference.prompt, *(preference.chosen if name == "chosen" else preference.rejected))
        if ending == "truth":
            return weigh_endings(chat, task, true_ending(episode, task))
        if ending == "rater" and preference.evaluator not in members:
            raise InputError(
                f"a preference was given by {preference.evaluator!r}, who is not among the raters whose beliefs are "
                f"known ({', '.join(members)}); name the evaluator that gave it, or one with members of these names"
            )
        judged = evaluator.judge(
            task,
            episode.transcript,
            seed=episode.stream,
            member=members[preference.evaluator] if ending == "rater" else None,
            audit=preference.audited,
        )
        return weigh_endings(chat, task, judged.belief)

    return [WeightedPreference(side(p, "chosen"), side(p, "rejected"), p, ending) for p in preferences]


def fill_ending(episode: Episode, task: Task, ending: PaidEnding, evaluator: Evaluator | None) -> WeightedConversations:
    """What a marginalised model scores of an episode.

    Args:
        evaluator: Whose mean belief fills the slot; needed for `believed`.

    Raises `InputError` where the truth is asked for and the episode has no outcome.
    """
    if ending == "truth":
        belief = true_ending(episode, task)
    elif evaluator is not None:
        belief = evaluator.judge(task, episode.transcript, seed=episode.stream).belief
    else:
        raise ValueError("what is believed wants an evaluator")
    return weigh_endings(episode_messages(episode), task, belief)


def true_ending(episode: Episode, task: Task) -> Belief:
    """The belief that is certain of how the episode ended. Raises `InputError` where it has no outcome."""
    if episode.outcome is None:
        raise InputError(f"episode {episode.key} has no outcome, and this reward model is told how it ended")
    return certain_belief(task, episode.outcome.truths)


def weigh_endings(chat: Sequence[Message], task: Task, belief: Belief) -> WeightedConversations:
    """The agent's messages once with each ending, by its probability; endings below 1 % are left out, and the others
    scaled up."""
    return tuple(
        (with_hypothesis(chat, describe_endings(task, each.truths)), each.probability)
        for each in hypotheses(task, belief, 0.01)
    )


def with_hypothesis(chat: Sequence[Message], ending: str) -> tuple[Message, ...]:
    """The prompt, the agent's commands and how it ended; no output of the terminal, nor the report that repeats it.

    Args:
        chat: A whole conversation: system prompt, instruction, then agent and terminal in turns.
        ending: A sentence (`devnull.rewards.feedback.annotations.describe_endings`).
    """
    own = [message for message in chat[2:] if message["role"] == "assistant"]
    own = [message for message in own if not isinstance(parse_action(message["content"], tolerant=True), FinalReport)]
    return (*chat[:2], *own, Message(role="user", content=f"What happened: {ending}"))


def reward_rows(
    preferences: Sequence[WeightedPreference], tokenizer: Any, max_length: int, too_long: TooLong
) -> tuple[list[dict[str, Any]], list[WeightedPreference]]:
    """A row a preference whose sides differ, and the preference of each row.

    Columns `chosen_ids`, `rejected_ids` (token ids of each conversation) and `chosen_weights`, `rejected_weights`.
    Raises `InputError` where none is left, or one is too long (`devnull.training.data.filter_by_length`).
    """
    known: dict[tuple[str, ...], list[int]] = {}  # few conversations stand on many sides

    def tokens(chat: Sequence[Message]) -> list[int]:
        text = tuple(part for message in chat for part in (message["role"], message["content"]))
        if text not in known:
            known[text] = tokenize_conversation(tokenizer, chat).ids
        return known[text]

    rows: list[dict[str, Any]] = []
    for preference in preferences:
        row: dict[str, Any] = {"preference": preference}
        for side, weighted in ((name, getattr(preference, name)) for name in SIDES):
            row[f"{side}_ids"] = [tokens(chat) for chat, _ in weighted]
            row[f"{side}_weights"] = [weight for _, weight in weighted]
        if row["chosen_ids"] != row["rejected_ids"] or row["chosen_weights"] != row["rejected_weights"]:
            rows.append(row)
    if not rows:
        raise InputError(
            f"none of the {len(preferences)} preferences tells its two sides apart, so they say nothing; "
            f"make some with `devnull label`"
        )
    lengths = [max(map(len, row["chosen_ids"] + row["rejected_ids"])) for row in rows]
    rows = filter_by_length(rows, lengths, max_length, too_long, "pairs")
    return rows, [row.pop("preference") for row in rows]
