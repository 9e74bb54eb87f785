"""Rows of Hugging Face data sets: `messages` (a list, or its JSON), `trajectory` with `ai` turns (of SWE-agent),
`conversations` (of ShareGPT)."""

from collections.abc import Iterator
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder, mapping
from devnull.eval.formats.messages import is_chat, read_messages
from devnull.eval.formats.tool_calls import read_arguments
from devnull.eval.formats.transcript_format import TranscriptFormat, read_each

_CHATS = ("messages", "trajectory", "conversations", "conversation", "traj", "chat", "dialog", "history")


def _chat_of(record: Any) -> tuple[str, list[Any]] | None:
    """The column that holds the chat, and the chat."""
    for key in _CHATS:
        value = read_arguments(mapping(record).get(key))
        if is_chat(value):
            return key, value
    return None


def _matches(document: Document) -> bool:
    """Any row but those of OpenAI's plain form, which have `messages` alone."""
    found = [(each, _chat_of(each)) for each in document.some()]
    return any(chat and (chat[0] != "messages" or isinstance(row["messages"], str)) for row, chat in found)


def _read(document: Document) -> Iterator[Episode]:
    return read_each(document, "hf-rows", _read_record)


def _read_record(record: Any, builder: TranscriptBuilder) -> bool:
    found = _chat_of(record)
    if found is None:
        return False
    read_messages(found[1], builder, bare_fences=found[0] in ("trajectory", "traj"))
    return True


HF_ROWS = TranscriptFormat("hf-rows", "Hugging Face rows, ShareGPT", _matches, _read)
"""Rows of data sets of transcripts."""
