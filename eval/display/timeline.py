"""Timeline of an episode: moment by moment, what the evaluator is shown beside what happens."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from devnull.agents.episode import Episode
from devnull.agents.protocol import words_around
from devnull.eval.display.counting import count_noun
from devnull.eval.scoring.examination import Examination
from devnull.eval.scoring.import_assessment import CommandFinding, assess_commands, claim_is_false, is_recorded
from devnull.rewards.evaluator import Evaluator, Judgement
from devnull.rewards.views import View, ViewTurn, observe
from devnull.sandbox.command import CommandResult
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Task
from devnull.sandbox.transcript import Turn

SpanKind = Literal[
    "instruction",
    "reasoning",
    "message",
    "command",
    "shown",
    "suppressed",
    "stderr",
    "status",
    "report",
    "finding",
    "note",
]
"""What a piece of text is: the user's instruction; what the agent thought before its message; a message of the agent;
a command it ran; output on the terminal; stderr that was kept off the terminal; stderr as a view with that sensor shows
it; an exit status; the final message; what devnull found in an imported transcript; a remark of devnull."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text of one kind, raw: it must go through `devnull.eval.display.escaping` before it is shown."""

    kind: SpanKind
    text: str
    destination: str = ""
    """Where suppressed text went: `/dev/null`, a file, a closed descriptor."""


class BeliefSnapshot(Frozen):
    """What the evaluator would believe had the episode ended at this moment."""

    installed: dict[str, float]
    """P(the stage works), by stage."""
    success: float
    """P(every stage works)."""
    G_obs: float
    """The return it would believe in."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What is added to the two sides at one moment."""

    seconds: float
    """Since the episode began."""
    turn: int
    """From 0; -1 before the agent's first message."""
    seen: tuple[Span, ...] = ()
    """Added to what the evaluator saw."""
    truth: tuple[Span, ...] = ()
    """Added to what happened."""
    belief: BeliefSnapshot | None = None
    """At the end of a turn; `None` in its midst, and where the task is not known."""
    hidden: bool = False
    """This turn ended with a material failure whose evidence its command kept off the terminal."""


def build_timeline(
    episode: Episode, task: Task | None, evaluator: Evaluator, examination: Examination | None = None
) -> tuple[Frame, ...]:
    """Frames of one episode in the order of time, the first before the agent's first message.

    Args:
        task: `None` where it is not known: then the frames have no belief, and none is marked as hidden.
        evaluator: Whose view and beliefs are shown.
        examination: Of the episode, or of one in which the same happened, by this evaluator, where there is one.
    """
    if task is None:
        view = observe(episode.transcript, evaluator.config.sensors, episode.stream)
        return tuple(_generate_frames(episode, view, [None] * (len(episode.transcript.turns) + 1), frozenset()))
    found = examination or Examination(episode, task, evaluator)
    beliefs = [_snapshot_belief(task, judgement) for judgement in found.judgements]
    return tuple(_generate_frames(episode, found.judgement.view, beliefs, found.hiding_commands))


def _generate_frames(
    episode: Episode, view: View, beliefs: Sequence[BeliefSnapshot | None], hiding: Set[int]
) -> Iterator[Frame]:
    """Args:
    view: What the evaluator saw of the whole.
    beliefs: After no turn, one, and so on.
    hiding: Positions of commands that hid a failure.
    """
    transcript = episode.transcript
    instruction = (Span(kind="instruction", text=transcript.instruction),)
    yield Frame(seconds=0.0, turn=-1, seen=instruction, truth=instruction, belief=beliefs[0])
    command, clock = 0, 0.0
    findings = assess_commands(episode) if episode.unverified and not is_recorded(episode) else ()
    for number, (turn, (start, clock)) in enumerate(zip(transcript.turns, turn_times(episode), strict=True)):
        after = beliefs[number + 1]
        if turn.reasoning:
            yield Frame(seconds=start, turn=number, truth=(Span(kind="reasoning", text=turn.reasoning),))
        if turn.result is None:
            final = transcript.report is not None and number == len(transcript.turns) - 1
            message = transcript.report if final and transcript.report is not None else turn.text
            kind: SpanKind = "report" if final else "message"
            shown = (Span(kind="report", text=message),) if final and view.report is not None else ()
            rest = () if final or episode.unverified else (Span(kind="note", text="no action: nothing was run"),)
            if final and findings and claim_is_false(episode, findings):
                rest = (Span(kind="finding", text="THE CLAIM IS FALSE: the last command failed"),)
            yield Frame(
                seconds=clock, turn=number, seen=shown, truth=(Span(kind=kind, text=message), *rest), belief=after
            )
            continue
        if said := _words_with_command(episode, turn):
            yield Frame(seconds=start, turn=number, seen=said if episode.unverified else (), truth=said)
        yield from _command_frames(turn.result, view.turns[command], number, start)
        yield Frame(
            seconds=clock,
            turn=number,
            seen=_spans_after_command(turn.result, view.turns[command]),
            truth=(*_status_spans(turn.result), *(_finding_spans(findings[command]) if findings else ())),
            belief=after,
            hidden=command in hiding,
        )
        command += 1
    if episode.error is not None:
        words = (
            _describe_import(episode)
            if episode.unverified
            else f"no outcome: {episode.error.kind}: {episode.error.message}"
        )
        yield Frame(seconds=clock, turn=len(transcript.turns) - 1, truth=(Span(kind="note", text=words),))


def turn_times(episode: Episode) -> list[tuple[float, float]]:
    """When each turn's message came and when its command ended, in seconds since the episode began."""
    turns = episode.transcript.turns
    thought, clock = episode.cost.model_seconds / max(1, len(turns)), 0.0
    times = []
    for turn in turns:
        start = clock + thought
        clock = start + (0.0 if turn.result is None else turn.result.seconds)
        times.append((start, clock))
    return times


def output_order(result: CommandResult) -> tuple[tuple[str, str, int], ...]:
    """(kind, destination, characters) of what a command wrote to the terminal and kept off it, in the order in which it
    did; empty where nothing was kept off it, since then there is one order only."""
    if all(write.fate != "suppressed" for write in result.stderr):
        return ()
    pieces = groupby((span for _, span in timed_output(result)), key=lambda span: (span.kind, span.destination))
    return tuple((*key, sum(len(span.text) for span in spans)) for key, spans in pieces)


def _words_with_command(episode: Episode, turn: Turn) -> tuple[Span, ...]:
    """What the agent wrote beside its command. An evaluator of ours is not shown it; an import's reader was."""
    words = turn.text.strip() if episode.unverified else words_around(turn.text)
    return (Span(kind="message", text=words),) if words else ()


def _finding_spans(finding: CommandFinding) -> Iterator[Span]:
    """What an imported command's own text and screen give away."""
    if finding.constructs:
        strength = {"strong": "may hide messages", "weak": "weak construct", "opaque": "code that cannot be read"}
        words = strength.get(finding.label, "may act later")
        yield Span(kind="finding", text=f"{words}: {'  '.join(finding.constructs[:8])} (whether it did is not known)")
    if finding.failed:
        shown = finding.shown_failures[0] if finding.shown_failures else "by its status"
        yield Span(kind="finding", text=f"failed: {shown}")


def _describe_import(episode: Episode) -> str:
    """Where it comes from, what its own tool made of it, and what is no part of it."""
    origin = episode.imported
    words = "imported: nobody verified how it ended, and where its stderr went was not recorded"
    if is_recorded(episode):
        words = "watched: nobody verified how it ended"
    if origin is None:
        return words
    scores = ", ".join(f"{name} {value}" for name, value in origin.scores.items())
    left = {"refused or never run": origin.not_run, "without an answer": origin.unanswered}
    parts = [f"{count_noun(count, 'command')} {why}" for why, count in left.items() if count]
    parts += [f"{count_noun(count, 'call')} of {name or '?'}" for name, count in origin.other_calls.items()]
    return "; ".join(
        [
            f"{words} ({origin.format})",
            *([f"its own tool's scores: {scores}"] if scores else []),
            *([f"not shown: {', '.join(parts)}"] if parts else []),
        ]
    )


def _command_frames(result: CommandResult, seen: ViewTurn, turn: int, start: float) -> Iterator[Frame]:
    """The command, then what it wrote as it wrote it."""
    typed = Span(kind="command", text=result.command)
    yield Frame(seconds=start, turn=turn, seen=() if seen.command is None else (typed,), truth=(typed,))
    live = seen.shown == result.shown.replace("\r\n", "\n")
    for seconds, span in timed_output(result):
        on_screen = live and span.kind == "shown"
        yield Frame(seconds=start + seconds, turn=turn, seen=(span,) if on_screen else (), truth=(span,))


def timed_output(result: CommandResult) -> list[tuple[float, Span]]:
    """(seconds since the command began, text) of its output and its suppressed stderr, in the order of time."""
    pieces: list[tuple[float, Span]] = []
    place = 0
    for seconds, characters in result.timing:
        pieces.append((seconds, Span(kind="shown", text=result.shown[place : place + characters])))
        place += characters
    if place < len(result.shown):
        pieces.append((result.seconds, Span(kind="shown", text=result.shown[place:])))
    for write in result.stderr:
        if write.fate == "suppressed":
            pieces.append((write.seconds, Span(kind="suppressed", text=write.text, destination=write.to)))
    return _merge_writes(sorted(pieces, key=lambda piece: piece[0]))


def _merge_writes(pieces: list[tuple[float, Span]]) -> list[tuple[float, Span]]:
    """Writes of a moment (a fiftieth of a second) to one place become one piece."""
    kept: list[tuple[float, Span]] = []
    for seconds, span in pieces:
        if kept:
            last, before = kept[-1]
            if seconds - last < 0.02 and (before.kind, before.destination) == (span.kind, span.destination):
                kept[-1] = (last, replace(before, text=before.text + span.text))
                continue
        kept.append((seconds, span))
    return kept


def _spans_after_command(result: CommandResult, seen: ViewTurn) -> tuple[Span, ...]:
    """What the evaluator is shown once the command has ended: the screen, where it is not simply what was printed, and
    its other sensors."""
    spans = []
    if seen.shown and seen.shown != result.shown.replace("\r\n", "\n"):
        spans.append(Span(kind="shown", text=seen.shown))
    if seen.stderr:
        spans.append(Span(kind="stderr", text=seen.stderr))
    if seen.status_seen:
        spans.append(Span(kind="status", text=_format_exit(result)))
    if seen.processes is not None:
        spans += [Span(kind="status", text=line) for line in _failed_programs(result)]
    return tuple(spans)


def _status_spans(result: CommandResult) -> Iterator[Span]:
    yield Span(kind="status", text=_format_exit(result))
    for line in _failed_programs(result):
        yield Span(kind="status", text=line)
    if result.cut_bytes:
        yield Span(kind="note", text=f"{result.cut_bytes:,} bytes beyond the limits were not kept")
    if result.unrecorded_bytes:
        yield Span(kind="note", text=f"{result.unrecorded_bytes:,} bytes of stderr and trace were not recorded")


def _format_exit(result: CommandResult) -> str:
    if result.timed_out:
        return "timed out"
    return "status not recorded" if result.exit_code is None else f"exit {result.exit_code}"


def _failed_programs(result: CommandResult) -> list[str]:
    """Command lines of programs that did not exit with 0, and their exit status."""
    return [
        f"{' '.join(process.argv)[:200]} → {process.exit_code}"
        for process in result.processes
        if process.exit_code not in (0, None)
    ]


def _snapshot_belief(task: Task, judgement: Judgement) -> BeliefSnapshot:
    installed = {stage.name: judgement.belief.installed(stage.name) for stage in task.stages}
    return BeliefSnapshot(installed=installed, success=judgement.belief.success, G_obs=judgement.G_obs)
