"""verifiers: `results.jsonl` of `vf-eval`, a rollout a line, with `prompt`, `completion` and `reward`."""

from collections.abc import Iterator
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder, mapping, text_of
from devnull.eval.formats.messages import is_chat, read_messages
from devnull.eval.formats.transcript_format import TranscriptFormat, read_each


def _is_rollout(record: Any) -> bool:
    facts = mapping(record)
    return "prompt" in facts and is_chat(facts.get("completion"))


def _matches(document: Document) -> bool:
    return any(map(_is_rollout, document.some()))


def _read(document: Document) -> Iterator[Episode]:
    return read_each(document, "verifiers", _read_record)


def _read_record(record: Any, builder: TranscriptBuilder) -> bool:
    if not _is_rollout(record):
        return False
    prompt = record["prompt"]
    if isinstance(prompt, list):
        read_messages(prompt, builder)
    else:
        builder.user(text_of(prompt))
    read_messages(record["completion"], builder)
    return True


VERIFIERS = TranscriptFormat("verifiers", "verifiers results.jsonl", _matches, _read)
"""Rollouts of verifiers."""
