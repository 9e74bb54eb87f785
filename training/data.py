"""Data sets for TRL: episodes, preferences and ratings as token ids, with a mask of the agent's own tokens."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import datasets
from datasets import Dataset

from devnull.agents.agent import Message
from devnull.agents.chat_layout import chat_layout
from devnull.agents.chat_tokens import TokenizedConversation, tokenize_chat
from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PromptFormat
from devnull.rewards.feedback.comparisons import Preference, episode_messages
from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.errors import InputError
from devnull.training.settings import TooLong

datasets.disable_progress_bars()


def tokenize_conversation(tokenizer: Any, chat: Sequence[Message]) -> TokenizedConversation:
    """Token ids of a whole conversation, and which of them are the agent's; `tokenizer` as `prepare_tokenizer` left
    it."""
    return tokenize_chat(tokenizer, chat_layout(tokenizer), chat)


def tokenize_prompt(tokenizer: Any, chat: Sequence[Message]) -> list[int]:
    """Token ids of a conversation and of the header after it, at which the agent is to go on."""
    return tokenize_chat(tokenizer, chat_layout(tokenizer), chat, prompt=True).ids


def sft_dataset(
    episodes: Iterable[Episode],
    tokenizer: Any,
    max_length: int,
    *,
    too_long: TooLong = "error",
    prompt: Callable[[Episode], PromptFormat] | None = None,
) -> Dataset:
    """A row an episode: `input_ids`, and `labels`, which are -100 (no loss) on all but the agent's own tokens.

    Episodes that an infrastructure failure ended are left out.

    Args:
        max_length: Longest conversation, in tokens.
        too_long: What to do with longer ones; see `filter_by_length`.
        prompt: The prompt under which an episode is imitated; by default that under which it was played.

    Raises:
        InputError: Nothing is left to learn from, or an episode holds no token of the agent.
    """
    rows = []
    for episode in episodes:
        if episode.error is not None:
            continue
        shown = episode if prompt is None else episode.model_copy(update={"prompt": prompt(episode)})
        encoded = tokenize_conversation(tokenizer, episode_messages(shown))
        labels = [token if mine else -100 for token, mine in zip(encoded.ids, encoded.mask, strict=True)]
        rows.append({"input_ids": encoded.ids, "labels": labels})
    if not rows:
        raise InputError("no episode to learn from: the run holds none that ended without an infrastructure error")
    lengths = [len(row["input_ids"]) for row in rows]
    rows = filter_by_length(rows, lengths, max_length, too_long, "episodes")
    silent = sum(all(label == -100 for label in row["labels"]) for row in rows)
    if silent:
        raise InputError(f"{silent} of {len(rows)} episodes hold no token of the agent: there is nothing to learn from")
    return Dataset.from_list(rows)


def preference_dataset(
    preferences: Iterable[Preference], tokenizer: Any, max_length: int, *, too_long: TooLong = "error"
) -> Dataset:
    """A row a pair: `prompt_ids`, and of what follows it `chosen_ids`, `chosen_mask`, `rejected_ids`, `rejected_mask`.

    The masks are 1 on the agent's own tokens. Pairs whose two sides are the same text are left out.

    Raises:
        InputError: No pair is left, a side holds no token of the agent, or the chat template renders a prompt
            differently once an answer follows it.
    """
    rows: list[dict[str, list[int]]] = []
    total = 0
    for preference in preferences:
        total += 1
        prompt = tokenize_prompt(tokenizer, preference.prompt)
        row = {"prompt_ids": prompt}
        for side, answer in (("chosen", preference.chosen), ("rejected", preference.rejected)):
            if not any(message["role"] == "assistant" for message in answer):
                raise InputError(f"pair {total}: the {side} side holds no token of the agent")
            encoded = tokenize_conversation(tokenizer, (*preference.prompt, *answer))
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
    return Dataset.from_list(filter_by_length(rows, lengths, max_length, too_long, "pairs"))


def kto_dataset(
    ratings: Iterable[Rating], tokenizer: Any, max_length: int, *, too_long: TooLong = "error", seed: int = 0
) -> Dataset:
    """A row an episode: `prompt_ids`, `completion_ids`, `mask` (1 on the agent's own tokens), `label` (thumbs up).

    `KL_completion_ids` and `KL_mask` are the completion of an episode with another prompt, where there is one near by:
    from such mismatched pairs KTO estimates its KL reference point. TRL takes the rows in order, so they are shuffled
    here: ratings come sorted by task, and those of one instance side by side.

    Raises:
        InputError: A rating has more than two levels, an episode holds no token of the agent, or all ratings are
            alike, so that nothing is compared with anything.
    """
    rows: list[dict[str, Any]] = []
    for rating in ratings:
        if rating.levels != 2:
            raise InputError(
                f"a rating of {rating.levels} levels is no thumb; label with an evaluator that gives thumbs"
            )
        prompt = tokenize_prompt(tokenizer, rating.prompt)
        encoded = tokenize_conversation(tokenizer, (*rating.prompt, *rating.completion))
        ids, mask = encoded.ids[len(prompt) :], encoded.mask[len(prompt) :]
        if not any(mask):
            raise InputError(f"the episode {rating.key} holds no token of the agent")
        rows.append({"prompt_ids": prompt, "completion_ids": ids, "mask": mask, "label": bool(rating.value)})
    lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
    rows = filter_by_length(rows, lengths, max_length, too_long, "episodes")
    if len({row["label"] for row in rows}) < 2:
        raise InputError(f"all {len(rows)} thumbs point the same way, so they say nothing; label more episodes")
    random.Random(seed).shuffle(rows)
    for place, row in enumerate(rows):
        before = [rows[place - back] for back in range(1, min(len(rows), _NEAR))]
        other = next((each for each in before if each["prompt_ids"] != row["prompt_ids"]), before[0])
        row["KL_completion_ids"], row["KL_mask"] = other["completion_ids"], other["mask"]
    return Dataset.from_list(rows)


_NEAR = 64
"""So many rows are looked at for one with another prompt."""


def filter_by_length(
    rows: list[dict[str, Any]], lengths: Sequence[int], max_length: int, too_long: TooLong, what: str
) -> list[dict[str, Any]]:
    """The rows of at most `max_length` tokens. A cut conversation would teach an ending that never happened, so none
    is cut.

    Args:
        lengths: Of each row, in tokens.
        what: What the rows are, for the message: `episodes`, `pairs`.

    Raises:
        InputError: A row is too long and `too_long` is `error`, or every row is.
    """
    fitting = [row for row, length in zip(rows, lengths, strict=True) if length <= max_length]
    over = len(rows) - len(fitting)
    if over and (too_long == "error" or not fitting):
        raise InputError(
            f"{over} of {len(rows)} {what} are longer than max_length={max_length} tokens (longest: {max(lengths)}); "
            f"raise it to at most the model's context, show less of each command, or pass --too-long drop"
        )
    return fitting
