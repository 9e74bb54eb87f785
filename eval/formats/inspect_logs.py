"""Runs as logs of Inspect AI, and back. An episode travels whole in its sample's metadata."""

import json
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
from devnull.agents.protocol import SYSTEM_PROMPT
from devnull.eval.scoring.metrics import metrics
from devnull.eval.scoring.score import Score

_KEY = "devnull_episode"


def write_log(
    path: Path, arm: str, judged: Sequence[tuple[Episode, Score | None]], facts: Mapping[str, Any], created: str
) -> None:
    """One arm as one `.eval` file, which `inspect view` opens. `created`: ISO 8601."""
    scores = [score for _, score in judged if score is not None]
    figures = {
        name: EvalMetric(name=name, value=estimate.value, metadata=estimate.model_dump())
        for name, estimate in (metrics(scores) if scores else {}).items()
        if estimate.value is not None
    }
    broken = sum(episode.error is not None for episode, _ in judged)
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
    """One episode, its commands as calls of a tool `bash`. The samples of an instance are its epochs; Inspect knows a
    sample by its id and epoch, so a further attempt at one has an id of its own."""
    chat = list(_messages(episode))
    last = next((message for message in reversed(chat) if isinstance(message, ChatMessageAssistant)), None)
    return EvalSample(
        id=f"{episode.task}/{episode.seed}" + (f"/attempt-{episode.attempt + 1}" if episode.attempt else ""),
        epoch=episode.sample + 1,
        input=episode.transcript.instruction,
        target="every stage installed",
        messages=chat,
        output=ModelOutput.from_content(episode.agent, "" if last is None else last.text),
        scores=None if score is None or score.G is None else _judged(score),
        metadata={
            "arm": episode.arm,
            "task": episode.task,
            "seed": episode.seed,
            "sample": episode.sample,
            "attempt": episode.attempt,
            "faulty": episode.faulty,
            _KEY: episode.model_dump_json(),
        },
        total_time=_seconds(episode),
        error=None
        if episode.error is None
        else EvalError(message=f"{episode.error.kind}: {episode.error.message}", traceback="", traceback_ansi=""),
    )


def _seconds(episode: Episode) -> float:
    """Spent on the episode, as if nothing had run beside it."""
    cost = episode.cost
    return cost.model_seconds + cost.command_seconds + cost.box_seconds


def _judged(score: Score) -> dict[str, InspectScore]:
    """Truth and belief, side by side in the viewer's columns."""
    found: dict[str, Any] = {
        "success": "C" if score.success else "I",
        "G": score.G,
        "G_obs": score.G_obs,
        "hidden": "none" if score.hidden is None else "hidden" if score.hidden else "seen",
        "suppressed": score.suppressed or "none",
    }
    return {name: InspectScore(value=value) for name, value in found.items()}


def _messages(episode: Episode) -> Iterator[ChatMessage]:
    yield ChatMessageSystem(content=SYSTEM_PROMPT)
    yield ChatMessageUser(content=episode.transcript.instruction)
    for number, turn in enumerate(episode.transcript.turns):
        if turn.result is None:
            yield ChatMessageAssistant(content=turn.text)
            continue
        call = ToolCall(id=f"call-{number}", function="bash", arguments={"command": turn.result.command})
        yield ChatMessageAssistant(content=turn.text, tool_calls=[call])
        yield ChatMessageTool(content=turn.result.shown, tool_call_id=call.id, function="bash")


def read_log(path: Path) -> Iterator[tuple[str, Episode | None, list[dict[str, Any]]]]:
    """Samples of a log: model, the episode if devnull wrote it, else the chat as OpenAI messages."""
    log = read_eval_log(str(path))
    for each in log.samples or ():
        kept = each.metadata.get(_KEY)
        episode = None if kept is None else Episode.model_validate_json(kept)
        yield log.eval.model, episode, [_plain(message) for message in each.messages]


def _plain(message: ChatMessage) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.text}
    if isinstance(message, ChatMessageAssistant) and message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "function": {"name": call.function, "arguments": json.dumps(call.arguments)}}
            for call in message.tool_calls
        ]
    if isinstance(message, ChatMessageTool):
        found["tool_call_id"] = message.tool_call_id
    return found
