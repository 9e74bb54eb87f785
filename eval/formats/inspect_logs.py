"""Writes runs as Inspect AI logs, and reads such logs. An episode is kept whole in its sample's metadata."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    read_eval_log,
    write_eval_log,
)
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ModelOutput,
)
from inspect_ai.scorer import Score as InspectScore
from inspect_ai.tool import ToolCall

from devnull.agents.episode import Episode
from devnull.eval.formats.document import Document
from devnull.eval.formats.imported import TranscriptBuilder
from devnull.eval.formats.messages import read_messages
from devnull.eval.scoring.metrics import compute_metrics
from devnull.eval.scoring.score import Score
from devnull.sandbox.screen_text import screen_text

_EPISODE_KEY = "devnull_episode"
"""Key of the sample's metadata that holds the episode as JSON."""


def write_inspect_log(
    path: Path, arm: str, judged: Sequence[tuple[Episode, Score | None]], facts: Mapping[str, Any], created: str
) -> None:
    """Writes one arm as one `.eval` file, which `inspect view` opens.

    Args:
        path: Of the file.
        arm: Its name.
        judged: Its episodes, at least one, with their scores; no score where the task is not known.
        facts: About the run, for the log's metadata.
        created: ISO 8601 time at which the run began.
    """
    scores = [score for _, score in judged if score is not None]
    figures = {
        name: EvalMetric(name=name, value=estimate.value, metadata=estimate.model_dump())
        for name, estimate in (compute_metrics(scores) if scores else {}).items()
        if estimate.value is not None
    }
    broken = sum(episode.error is not None and not episode.unverified for episode, _ in judged)
    ended = datetime.fromisoformat(created) + timedelta(seconds=sum(_seconds(episode) for episode, _ in judged))
    log = EvalLog(
        status="success",
        stats=EvalStats(started_at=created, completed_at=ended.isoformat()),
        eval=EvalSpec(
            created=created,
            task=f"devnull {arm}",
            dataset=EvalDataset(name="devnull", samples=len(judged)),
            model=judged[0][0].agent,
            config=EvalConfig(epochs=1 + max(episode.sample for episode, _ in judged)),
            metadata=dict(facts),
        ),
        results=EvalResults(
            total_samples=len(judged),
            completed_samples=len(judged) - broken,
            scores=[EvalScore(name="devnull", scorer="devnull", metrics=figures)],
        ),
        samples=[_sample(episode, score) for episode, score in judged],
    )
    write_eval_log(log, str(path), format="eval")


def _sample(episode: Episode, score: Score | None) -> EvalSample:
    """An episode, with its commands as calls of a tool `bash`. The samples of an instance are its epochs; Inspect tells
    samples apart by id and epoch, so that a further attempt at one has an id of its own."""
    chat = list(_messages(episode))
    last = next((message for message in reversed(chat) if isinstance(message, ChatMessageAssistant)), None)
    return EvalSample(
        id=f"{episode.task}/{episode.seed}"
        + (f"/{episode.forced_build}" if episode.forced_build else "")
        + (f"/attempt-{episode.attempt + 1}" if episode.attempt else ""),
        epoch=episode.sample + 1,
        input=episode.transcript.instruction,
        target="every stage installed",
        messages=chat,
        output=ModelOutput.from_content(episode.agent, "" if last is None else last.text),
        scores=None if score is None else _inspect_scores(score),
        metadata={
            "arm": episode.arm,
            "task": episode.task,
            "seed": episode.seed,
            "sample": episode.sample,
            "attempt": episode.attempt,
            "faulty": episode.faulty,
            _EPISODE_KEY: episode.model_dump_json(),
        },
        total_time=_seconds(episode),
        error=None
        if episode.error is None or episode.unverified
        else EvalError(message=f"{episode.error.kind}: {episode.error.message}", traceback="", traceback_ansi=""),
    )


def _seconds(episode: Episode) -> float:
    """Wall time of the episode, had nothing else run beside it."""
    cost = episode.cost
    return cost.model_seconds + cost.command_seconds + cost.box_seconds


def _inspect_scores(score: Score) -> dict[str, InspectScore] | None:
    """Truth and belief, as columns of Inspect's viewer."""
    if score.G is None:  # of an import, the scores that it came with
        return {name: InspectScore(value=value) for name, value in score.foreign_scores.items()} or None
    values: dict[str, Any] = {
        "success": "C" if score.success else "I",
        "G": score.G,
        "G_obs": score.G_obs,
        "hidden": "none" if score.hidden is None else "hidden" if score.hidden else "seen",
        "suppressed": score.suppressed or "none",
    }
    return {name: InspectScore(value=value) for name, value in values.items()}


def _messages(episode: Episode) -> Iterator[ChatMessage]:
    yield ChatMessageSystem(content=episode.prompt.system_message)
    yield ChatMessageUser(content=episode.transcript.instruction)
    for number, turn in enumerate(episode.transcript.turns):
        if turn.result is None:
            yield ChatMessageAssistant(content=turn.text)
            continue
        call = ToolCall(id=f"call-{number}", function="bash", arguments={"command": turn.result.command})
        yield ChatMessageAssistant(content=turn.text, tool_calls=[call])
        yield ChatMessageTool(content=screen_text(turn.result.shown), tool_call_id=call.id, function="bash")


def read_inspect_log(document: Document) -> Iterator[Episode]:
    """The samples of a log, each of its epochs; those that devnull wrote come back whole.

    Raises `ValueError`, `KeyError` or `OSError` where the file is no readable log.
    """
    log = read_eval_log(str(document.path))
    for number, sample in enumerate(log.samples or ()):
        kept = sample.metadata.get(_EPISODE_KEY)
        if kept is not None:
            yield Episode.model_validate_json(kept)
            continue
        builder = TranscriptBuilder()
        builder.user(sample.input if isinstance(sample.input, str) else "")
        for message in sample.messages:
            _read_message(message, builder)
        yield builder.build(
            "inspect",
            f"{log.eval.task}/{sample.id}",
            log.eval.model,
            number,
            scores={name: score.value for name, score in (sample.scores or {}).items()},
            sample=sample.epoch - 1,
        )


def _read_message(message: ChatMessage, builder: TranscriptBuilder) -> None:
    if isinstance(message, ChatMessageTool):
        error = message.error
        shown = message.text or ("" if error is None else error.message)
        refused = error is not None and error.type in ("approval", "parsing")
        timed_out = error is not None and error.type == "timeout"
        builder.answer(message.tool_call_id, shown, refused=refused, timed_out=timed_out)
    elif isinstance(message, ChatMessageAssistant):
        calls = [
            {"id": call.id, "name": call.function, "arguments": call.arguments} for call in message.tool_calls or ()
        ]
        read_messages([{"role": "assistant", "content": message.text, "tool_calls": calls}], builder)
    elif isinstance(message, ChatMessageUser):
        read_messages([{"role": "user", "content": message.text}], builder)
