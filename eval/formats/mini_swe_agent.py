"""mini-swe-agent: trajectories (`.traj.json`) of version 1, a fenced block a message, and of version 2, with calls.

A message of version 1 that does not hold exactly one block was refused by the tool, and none of its blocks was run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder, mapping, text_of
from devnull.eval.formats.messages import is_chat, read_messages, role_of
from devnull.eval.formats.text_calls import find_blocks
from devnull.eval.formats.transcript_format import TranscriptFormat, read_each


def _is_record(record: Any) -> bool:
    facts = mapping(record)
    named = str(facts.get("trajectory_format", "")).startswith("mini-swe-agent")
    told = isinstance(facts.get("info"), Mapping) and (
        "mini_version" in facts["info"] or "exit_status" in facts["info"]
    )
    return (named or told) and is_chat(facts.get("messages"))


def _matches(document: Document) -> bool:
    return any(map(_is_record, document.some()))


def _read(document: Document) -> Iterator[Episode]:
    return read_each(document, "mini-swe-agent", _read_record, unanswered_ran=True)


def _read_record(record: Any, builder: TranscriptBuilder) -> bool:
    if not _is_record(record):
        return False
    for message in builder.objects(record["messages"]):
        actions = _actions(message)
        if role_of(message) != "agent":
            read_messages([message], builder)
        elif actions is None and not message.get("tool_calls"):
            _read_text(message, builder)
        elif actions is None:
            read_messages([message], builder)
        else:
            builder.next_message(text_of(message.get("content")))
            for action in actions:
                facts = mapping(action)
                command = facts.get("command") if facts else action
                if isinstance(command, str) and command.strip():
                    builder.command(command, facts.get("tool_call_id"))
                else:
                    builder.unreadable()
    return True


def _actions(message: Mapping[str, Any]) -> list[Any] | None:
    """What the tool ran of a message, as it says itself; `None`: it does not say."""
    actions = mapping(message.get("extra")).get("actions")
    return actions if isinstance(actions, list) else None


def _read_text(message: Mapping[str, Any], builder: TranscriptBuilder) -> None:
    content = message.get("content")
    text = text_of(content)
    builder.next_message(text)
    builder.blocks(content)
    builder.unreadable(content is None)
    blocks = find_blocks(text)
    if len(blocks) == 1:
        builder.command(blocks[0])
    else:
        builder.drop(len(blocks))


MINI_SWE_AGENT = TranscriptFormat("mini-swe-agent", "mini-swe-agent trajectories, versions 1 and 2", _matches, _read)
"""Trajectories of mini-swe-agent."""
