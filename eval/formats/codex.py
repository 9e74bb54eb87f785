"""Codex: rollouts under `~/.codex/sessions/`, and the events of `codex exec --json`."""

from collections.abc import Iterator, Mapping
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder, mapping, text_of
from devnull.eval.formats.openai_responses import read_items
from devnull.eval.formats.transcript_format import TranscriptFormat

_LINES = {"session_meta", "response_item", "turn_context", "event_msg", "compacted"}


def _matches(document: Document) -> bool:
    some = document.some()
    return any(
        (each.get("type") in _LINES and isinstance(each.get("payload"), Mapping)) or _is_event(each)
        for each in some
        if isinstance(each.get("type"), str)
    )


def _is_event(record: Mapping[str, Any]) -> bool:
    return record["type"] in ("item.completed", "item.started") and isinstance(record.get("item"), Mapping)


def _read(document: Document) -> Iterator[Episode]:
    """One session a file. `event_msg` tells the screen what `response_item` holds, and is passed over."""
    builder = TranscriptBuilder()
    model = session = ""
    items: list[Any] = []
    for line in builder.objects(document.records):
        kind, payload = line.get("type"), mapping(line.get("payload"))
        if not isinstance(kind, str):
            builder.unreadable()
        elif kind == "session_meta":
            session = session or _text(payload.get("id"))
        elif kind == "turn_context":
            model = model or _text(payload.get("model"))
        elif kind == "response_item":
            items.append(line.get("payload"))
        elif kind == "thread.started":
            session = _text(line.get("thread_id"))
        elif kind == "item.completed":
            _read_event(mapping(line.get("item")), builder)
    read_items(items, builder)
    yield builder.build("codex", session or document.source, model or "codex", 0)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _read_event(item: Mapping[str, Any], builder: TranscriptBuilder) -> None:
    """An item of `codex exec --json`, which comes once it is over."""
    kind, identity = item.get("type", item.get("item_type")), item.get("id")
    if kind in ("agent_message", "assistant_message"):
        builder.next_message(text_of(item.get("text")))
    elif kind == "command_execution":
        builder.next_message()
        builder.call("shell", item.get("command"), identity)
        declined = item.get("status") == "declined"
        builder.answer(identity, text_of(item.get("aggregated_output")), item.get("exit_code"), refused=declined)


CODEX = TranscriptFormat("codex", "Codex rollouts and exec events", _matches, _read)
"""Sessions of Codex."""
