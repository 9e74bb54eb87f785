"""verifiers 0.4 and later: `traces.jsonl` of a run, an episode a line with a trace for each agent that played in it.

A trace is a graph of messages, each kept once; what was compacted or branched off goes on from another one. Messages
of the agent that no model call made (`sampled` is false) are context, and what they call was not run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder, mapping, mappings
from devnull.eval.formats.messages import read_messages, role_of
from devnull.eval.formats.transcript_format import TranscriptFormat, foreign_scores, record_name

EPISODE_KEY = "devnull_episode"
"""In the `info` of a trace that devnull's harness made: the episode, as a line of `episodes.jsonl`."""


def _is_trace(record: Any) -> bool:
    return isinstance(mapping(record).get("nodes"), list) and isinstance(mapping(record).get("task"), Mapping)


def _traces(record: Any) -> list[Mapping[str, Any]]:
    """Those of an episode; a trace by itself is one."""
    facts = mapping(record)
    return [each for each in ([facts] if _is_trace(facts) else mappings(facts.get("traces"))) if _is_trace(each)]


def _matches(document: Document) -> bool:
    return any(map(_traces, document.some()))


def _read(document: Document) -> Iterator[Episode]:
    for number, record in enumerate(document.records):
        traces = _traces(record)
        for trace in traces:
            yield _kept_episode(trace, number, document) or _read_trace(trace, number, document)
        listed = mapping(record).get("traces")
        missing = len(listed) - len(traces) if isinstance(listed, list) and listed else not traces
        if missing:
            document.problems.append(f"record {number + 1}: {missing:d} of its traces cannot be read")


def _kept_episode(trace: Mapping[str, Any], number: int, document: Document) -> Episode | None:
    kept = mapping(trace.get("info")).get(EPISODE_KEY)
    if isinstance(kept, str):
        try:
            return Episode.model_validate_json(kept)
        except ValidationError:
            document.problems.append(f"record {number + 1}: the episode kept in it cannot be read; its messages were")
    return None


def _read_trace(trace: Mapping[str, Any], number: int, document: Document) -> Episode:
    builder = TranscriptBuilder()
    before: Any = None
    for place, node in enumerate(trace["nodes"]):
        facts = mapping(node)
        message = facts.get("message")
        context = role_of(mapping(message)) == "agent" and facts.get("sampled") is False
        if context or facts.get("parent") != before:
            builder.next_message()  # another branch: what its user says answers no call of the one before
        if not context:
            read_messages([message], builder)
        before = place
    rewards = {name: mapping(each).get("score") for name, each in mapping(trace.get("rewards")).items()}
    return builder.build(
        "verifiers-traces",
        record_name(mapping(trace["task"]).get("data"), document.source, number),
        _model_of(trace),
        number,
        scores=foreign_scores({"rewards": rewards, "metrics": trace.get("metrics")}),
    )


def _model_of(trace: Mapping[str, Any]) -> str:
    asked = [mapping(mapping(trace.get("agent")).get("config")), *mappings(trace.get("calls"))]
    return next((name for each in asked if isinstance(name := each.get("model"), str) and name.strip()), "unknown")


VERIFIERS_TRACES = TranscriptFormat("verifiers-traces", "verifiers traces.jsonl", _matches, _read)
"""Traces of verifiers."""
