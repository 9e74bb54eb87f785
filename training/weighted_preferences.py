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
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import describe_endings, hypotheses
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.training.data import filter_by_length, tokenize_conversation
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
    least: float = 0.01,
) -> list[WeightedPreference]:
    """Each side is the agent's messages, once with each ending that the evaluator held for possible, by its belief.

    Args:
        episodes: Those that the preferences compare.
        evaluator: The one who gave the preferences; its beliefs are computed again.
        least: Leave out endings that it held for less probable, and scale the others up.

    Raises:
        InputError: A preference is about an episode that is not in `episodes`, or the evaluator's choices do not follow
            from endings alone.
    """
    if evaluator.config.pays_beside_endings:
        raise InputError(
            f"evaluator {evaluator.name}: its detector or report pays beside the endings, which marginalised "
            f"preferences are about; train a plain reward model"
        )
    known = {episode.key: episode for episode in episodes}
    members = {member.name: member for member in evaluator.members}

    def side(preference: Preference, name: str) -> WeightedConversations:
        key = preference.chosen_key if name == "chosen" else preference.rejected_key
        if key not in known:
            raise InputError(f"a preference speaks of the episode {key}, which the run does not hold")
        episode, task = known[key], tasks[known[key].task]
        member = members[preference.evaluator]
        judged = evaluator.judge(task, episode.transcript, seed=episode.stream, member=member, audit=preference.audited)
        chat = (*preference.prompt, *(preference.chosen if name == "chosen" else preference.rejected))
        return tuple(
            (with_hypothesis(chat, describe_endings(task, each.truths)), each.probability)
            for each in hypotheses(task, judged.belief, least)
        )

    return [WeightedPreference(side(p, "chosen"), side(p, "rejected"), p) for p in preferences]


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
    rows: list[dict[str, Any]] = []
    for preference in preferences:
        row: dict[str, Any] = {"preference": preference}
        for side, weighted in ((name, getattr(preference, name)) for name in SIDES):
            row[f"{side}_ids"] = [tokenize_conversation(tokenizer, chat).ids for chat, _ in weighted]
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
