"""OpenAI's chat messages: a JSON list of them, or objects with `messages`, one a line or in a list."""

from collections.abc import Iterator
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder, mapping
from devnull.eval.formats.messages import is_chat, read_messages
from devnull.eval.formats.transcript_format import TranscriptFormat, model_name, read_each


def _is_one_chat(document: Document) -> bool:
    """The records are the messages of one chat, in a list or a line each."""
    return is_chat(document.records) and not any(_chat_of(each) for each in document.some())


def _chat_of(record: Any) -> list[Any] | None:
    chat = record if isinstance(record, list) else mapping(record).get("messages")
    return chat if is_chat(chat) else None


def _matches(document: Document) -> bool:
    return _is_one_chat(document) or any(_chat_of(each) for each in document.records[:60])


def _read(document: Document) -> Iterator[Episode]:
    if not _is_one_chat(document):
        yield from read_each(document, "openai-messages", _read_record)
        return
    builder = TranscriptBuilder()
    read_messages(document.records, builder)
    yield builder.build("openai-messages", f"{document.source}#1", model_name(None), 0)


def _read_record(record: Any, builder: TranscriptBuilder) -> bool:
    chat = _chat_of(record)
    read_messages(chat or [], builder)
    return chat is not None


OPENAI_MESSAGES = TranscriptFormat("openai-messages", "OpenAI chat messages", _matches, _read)
"""Chats in OpenAI's form."""
