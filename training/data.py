"""From episodes and preferences to token ids with a mask: 1 where the agent spoke, 0 where the terminal did."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from datasets import Dataset

from devnull.agents.agent import Message
from devnull.agents.episode import Episode
from devnull.agents.protocol import messages, neutralise
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.training.settings import TooLong

datasets.disable_progress_bars()


@dataclass(frozen=True)
class Encoded:
    """A conversation as a model meets it; both lists have one entry a token."""

    ids: list[int]
    mask: list[int]
    """1: the agent wrote this token (the end of its message included)."""


def encode(tokenizer: Any, chat: Sequence[Message]) -> Encoded:
    """Tokens of a whole conversation, and which of them are the agent's."""
    done = tokenizer.apply_chat_template(
        harmless(tokenizer, chat), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return Encoded(list(done["input_ids"]), list(done["assistant_masks"]))


def prompt_ids(tokenizer: Any, chat: Sequence[Message]) -> list[int]:
    """Tokens up to where the agent is to speak."""
    return list(
        tokenizer.apply_chat_template(
            harmless(tokenizer, chat), add_generation_prompt=True, tokenize=True, return_dict=False
        )
    )


def harmless(tokenizer: Any, chat: Sequence[Message]) -> list[Message]:
    """The chat without this tokenizer's special tokens, as the policy is prompted: no printed text ends a turn."""
    special = tuple(tokenizer.all_special_tokens)
    return [Message(role=message["role"], content=neutralise(message["content"], special)) for message in chat]


def conversation(episode: Episode) -> tuple[Message, ...]:
    """All that was said in an episode, the agent's last message included."""
    return messages(episode.transcript.instruction, episode.transcript.turns)


def sft_dataset(
    episodes: Iterable[Episode],
    tokenizer: Any,
    max_length: int,
    *,
    too_long: TooLong = "error",
    tag: Callable[[Episode], str | None] | None = None,
) -> Dataset:
    """Columns `input_ids` and `labels`, which is -100 wherever the agent did not speak.

    Episodes that an infrastructure failure ended are left out. `tag` puts a line before the instruction
    (conditional training: "Rated good."). Raises `InputError` if nothing is left to learn from.
    """
    rows = []
    for episode in episodes:
        if episode.error is not None:
            continue
        chat = conversation(episode)
        word = tag(episode) if tag else None
        if word is not None:
            chat = _tagged(chat, word)
        encoded = encode(tokenizer, chat)
        labels = [token if mine else -100 for token, mine in zip(encoded.ids, encoded.mask, strict=True)]
        rows.append({"input_ids": encoded.ids, "labels": labels})
    if not rows:
        raise InputError("no episode to learn from: the run holds none that ended without an infrastructure error")
    lengths = [len(row["input_ids"]) for row in rows]
    rows = keep_fitting(rows, lengths, max_length, too_long, "episodes")
    silent = sum(all(label == -100 for label in row["labels"]) for row in rows)
    if silent:
        raise InputError(f"{silent} of {len(rows)} episodes hold no token of the agent: there is nothing to learn from")
    return Dataset.from_list(rows)


def _tagged(chat: Sequence[Message], word: str) -> tuple[Message, ...]:
    """The conversation with a line put before its instruction."""
    first = Message(role="user", content=f"{word}\n{chat[1]['content']}")
    return (chat[0], first, *chat[2:])


def preference_dataset(
    preferences: Iterable[Preference], tokenizer: Any, max_length: int, *, too_long: TooLong = "error"
) -> Dataset:
    """Columns `prompt_ids`, and `ids` and `mask` of what follows it, for `chosen` and `rejected`.

    Raises `InputError` where no pair says anything (both sides the same text), or a side holds no token of
    the agent.
    """
    rows: list[dict[str, list[int]]] = []
    total = 0
    for preference in preferences:
        total += 1
        prompt = prompt_ids(tokenizer, preference.prompt)
        row = {"prompt_ids": prompt}
        for side, answer in (("chosen", preference.chosen), ("rejected", preference.rejected)):
            if not any(message["role"] == "assistant" for message in answer):
                raise InputError(f"pair {total}: the {side} side holds no token of the agent")
            encoded = encode(tokenizer, (*preference.prompt, *answer))
            if encoded.ids[: len(prompt)] != prompt:
                raise InputError(
                    "the chat template renders a prompt differently once an answer follows it: use another"
                )
            row[f"{side}_ids"] = encoded.ids[len(prompt) :]
            row[f"{side}_mask"] = encoded.mask[len(prompt) :]
        if row["chosen_ids"] != row["rejected_ids"]:
            rows.append(row)
    if not total:
        raise InputError("no preferences to learn from; make some with `devnull label`")
    if not rows:
        raise InputError(
            f"all {total} preferences are between two equal conversations, so they say nothing; "
            f"roll out more episodes, or a policy with more variety"
        )
    lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
    return Dataset.from_list(keep_fitting(rows, lengths, max_length, too_long, "pairs"))


def keep_fitting(
    rows: list[dict[str, Any]], lengths: Sequence[int], max_length: int, too_long: TooLong, what: str
) -> list[dict[str, Any]]:
    """The rows that fit. A cut conversation would teach an ending that never happened, so none is cut."""
    fitting = [row for row, length in zip(rows, lengths, strict=True) if length <= max_length]
    over = len(rows) - len(fitting)
    if over and (too_long == "error" or not fitting):
        raise InputError(
            f"{over} of {len(rows)} {what} are longer than max_length={max_length} tokens (longest: {max(lengths)}); "
            f"raise it to at most the model's context, show less of each command, or pass --too-long drop"
        )
    return fitting
