"""What a format is: how a file of it is told from others, and how its transcripts are read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder, mapping


@dataclass(frozen=True)
class TranscriptFormat:
    """One format of other tools' transcripts."""

    name: str
    """As `--format` takes it."""
    title: str
    """For people."""
    matches: Callable[[Document], bool]
    """Whether a file looks like it, from its first records."""
    read: Callable[[Document], Iterator[Episode]]
    """Its transcripts. What cannot be read is added to the document's problems."""


_SCORES = ("resolved", "is_resolved", "reward", "score", "success", "passed", "exit_status", "target", "failure_mode")


def foreign_scores(*records: Any) -> dict[str, Any]:
    """What other tools call their scores, out of the objects that may hold them; `metrics` and `scores` are opened."""
    found: dict[str, Any] = {}
    for record in map(mapping, records):
        found |= {key: record[key] for key in _SCORES if key in record}
        for key in ("metrics", "scores", "rewards", "test_result"):
            inner = record.get(key)
            if isinstance(inner, Mapping):
                found |= {str(name): value for name, value in inner.items()}
    return found


def record_name(record: Any, source: str, number: int) -> str:
    """The name that a record gives itself, else the file's with the record's number, from 1."""
    facts = mapping(record)
    for key in ("instance_id", "task_id", "id", "example_id", "session_id", "trial_name", "task"):
        value = facts.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{source}#{value}"
    return f"{source}#{number + 1}"


def model_name(record: Any) -> str:
    """The model that a record names, in any of the places that tools have for it; `unknown` where there is none."""
    facts = mapping(record)
    config = mapping(mapping(facts.get("info")).get("config"))
    places = (
        facts.get("model"),
        facts.get("model_name"),
        mapping(config.get("model")).get("model_name"),
        mapping(facts.get("metadata")).get("llm_config") and mapping(facts["metadata"]["llm_config"]).get("model"),
        mapping(facts.get("agent")).get("model_name"),
        mapping(facts.get("agent")).get("name"),
        facts.get("agent"),
    )
    return next((place for place in places if isinstance(place, str) and place.strip()), "unknown")


def read_each(
    document: Document, name: str, read_one: Callable[[Any, TranscriptBuilder], bool], *, unanswered_ran: bool = False
) -> Iterator[Episode]:
    """An episode of each record. A record that is none of the format is said, and costs itself only.

    Args:
        name: Of the format.
        read_one: Reads a record into a builder; false: it is none of the format.
    """
    for number, record in enumerate(document.records):
        builder = TranscriptBuilder(unanswered_ran=unanswered_ran)
        try:
            readable = read_one(record, builder)
        except RecursionError:
            readable = False
        if readable:
            yield builder.build(
                name,
                record_name(record, document.source, number),
                model_name(record),
                number,
                scores=foreign_scores(record, mapping(record).get("info")),
            )
        else:
            document.problems.append(f"record {number + 1}: no transcript of the format {name}, left out")
