"""An episode as a film: at each moment, what the evaluator is shown and what happens, side by side."""

from collections.abc import Iterator
from typing import Literal

from devnull.agents.episode import Episode
from devnull.eval.suppression.failures import failures
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.views import ViewTurn, observe
from devnull.sandbox.command import CommandResult, Frozen
from devnull.sandbox.task import Task
from devnull.sandbox.transcript import Transcript

Kind = Literal["instruction", "message", "command", "shown", "suppressed", "stderr", "status", "report", "note"]
"""Of a piece of text: the order; the agent's message; the command it ran; output on the terminal; stderr that was
kept off the terminal; stderr as a wider view shows it; exit statuses; the final message; a word of ours."""
_NO_OUTPUT = "(nothing)"


class Span(Frozen):
    """A piece of text of one kind. Raw: whoever draws it makes it harmless (`devnull.eval.display.escaping`)."""

    kind: Kind
    text: str
    to: str = ""
    """Where suppressed text went: `/dev/null`, a file, a closed descriptor."""


class Standing(Frozen):
    """What the evaluator believes at one moment, had the episode ended there."""

    installed: dict[str, float]
    """P(the stage works), by stage."""
    success: float
    """P(every stage works)."""
    G_obs: float


class Frame(Frozen):
    """What is added at one moment."""

    seconds: float
    """Since the episode began."""
    turn: int
    """From 0; -1 before the agent's first message."""
    seen: tuple[Span, ...] = ()
    """Added to what the evaluator saw."""
    truth: tuple[Span, ...] = ()
    """Added to what happened."""
    standing: Standing | None = None
    """After a turn; `None` in its midst, and where the task is not known."""
    hidden: bool = False
    """This turn ended with a material failure whose evidence its command kept off the terminal."""


def frames(episode: Episode, task: Task | None, evaluator: Evaluator) -> tuple[Frame, ...]:
    """The film of one episode through the eyes of `evaluator`; without its task, without beliefs."""
    return tuple(_film(episode, task, evaluator))


def _film(episode: Episode, task: Task | None, evaluator: Evaluator) -> Iterator[Frame]:
    transcript = episode.transcript
    view = (
        evaluator.judge(task, transcript, seed=episode.stream).view
        if task is not None
        else observe(transcript, evaluator.config.sensors, episode.stream)
    )
    hiding = _hiding_commands(episode, task)
    order = (Span(kind="instruction", text=transcript.instruction),)
    yield Frame(
        seconds=0.0, turn=-1, seen=order, truth=order, standing=_standing(task, transcript, 0, evaluator, episode)
    )
    thinking = episode.cost.model_seconds / max(1, len(transcript.turns))
    clock, command = 0.0, 0
    for number, turn in enumerate(transcript.turns):
        clock += thinking
        after = _standing(task, transcript, number + 1, evaluator, episode)
        if turn.result is None:
            final = transcript.report is not None and number == len(transcript.turns) - 1
            said = transcript.report if final and transcript.report is not None else turn.text
            kind: Kind = "report" if final else "message"
            shown = (Span(kind="report", text=said),) if final and view.report is not None else ()
            rest = () if final else (Span(kind="note", text="no action: nothing was run"),)
            yield Frame(
                seconds=clock, turn=number, seen=shown, truth=(Span(kind=kind, text=said), *rest), standing=after
            )
            continue
        yield from _command_film(turn.result, view.turns[command], number, clock)
        clock += turn.result.seconds
        yield Frame(
            seconds=clock,
            turn=number,
            seen=_aside(turn.result, view.turns[command]),
            truth=tuple(_statuses(turn.result)),
            standing=after,
            hidden=command in hiding,
        )
        command += 1
    if episode.error is not None:
        note = Span(kind="note", text=f"no outcome: {episode.error.kind}: {episode.error.message}")
        yield Frame(seconds=clock, turn=len(transcript.turns) - 1, truth=(note,))


def _command_film(result: CommandResult, seen: ViewTurn, turn: int, start: float) -> Iterator[Frame]:
    """The command, then what it wrote as it wrote it."""
    typed = Span(kind="command", text=result.command)
    yield Frame(seconds=start, turn=turn, seen=() if seen.command is None else (typed,), truth=(typed,))
    live = seen.shown == result.shown
    for seconds, span in pieces(result):
        watched = live and span.kind == "shown"
        yield Frame(seconds=start + seconds, turn=turn, seen=(span,) if watched else (), truth=(span,))


def pieces(result: CommandResult) -> list[tuple[float, Span]]:
    """Output and suppressed stderr in the order of time, seconds since the command began."""
    found: list[tuple[float, Span]] = []
    place = 0
    for seconds, characters in result.timing:
        found.append((seconds, Span(kind="shown", text=result.shown[place : place + characters])))
        place += characters
    if place < len(result.shown):
        found.append((result.seconds, Span(kind="shown", text=result.shown[place:])))
    for write in result.stderr:
        if write.fate == "suppressed":
            found.append((write.seconds, Span(kind="suppressed", text=write.text, to=write.to)))
    return _joined(sorted(found, key=lambda piece: piece[0]))


def _joined(found: list[tuple[float, Span]]) -> list[tuple[float, Span]]:
    """Writes of a moment (a fiftieth of a second) to one place become one piece."""
    kept: list[tuple[float, Span]] = []
    for seconds, span in found:
        if kept:
            last, before = kept[-1]
            if seconds - last < 0.02 and (before.kind, before.to) == (span.kind, span.to):
                kept[-1] = (last, before.model_copy(update={"text": before.text + span.text}))
                continue
        kept.append((seconds, span))
    return kept


def _aside(result: CommandResult, seen: ViewTurn) -> tuple[Span, ...]:
    """What the evaluator is shown once the command has ended: a shortened screen, and the wider channels."""
    spans = []
    if seen.shown is not None and seen.shown != result.shown:
        spans.append(Span(kind="shown", text=seen.shown))
    if seen.stderr:
        spans.append(Span(kind="stderr", text=seen.stderr))
    if seen.status_seen:
        spans.append(Span(kind="status", text=_ended(result)))
    if seen.processes is not None:
        spans += [Span(kind="status", text=line) for line in _failed(result)]
    return tuple(spans)


def _statuses(result: CommandResult) -> Iterator[Span]:
    yield Span(kind="status", text=_ended(result))
    for line in _failed(result):
        yield Span(kind="status", text=line)
    if result.cut_bytes:
        yield Span(kind="note", text=f"{result.cut_bytes:,} bytes beyond the limits were not kept")


def _ended(result: CommandResult) -> str:
    return "timed out" if result.timed_out else f"exit {result.exit_code}"


def _failed(result: CommandResult) -> list[str]:
    """Programs that ended badly."""
    return [
        f"{' '.join(process.argv)[:200]} → {process.exit_code}"
        for process in result.processes
        if process.exit_code not in (0, None)
    ]


def _standing(
    task: Task | None, transcript: Transcript, turns: int, evaluator: Evaluator, episode: Episode
) -> Standing | None:
    """Belief and G_obs after so many turns."""
    if task is None:
        return None
    report = transcript.report if turns == len(transcript.turns) else None
    prefix = transcript.model_copy(update={"turns": transcript.turns[:turns], "report": report})
    judgement = evaluator.judge(task, prefix, seed=episode.stream)
    installed = {stage.name: judgement.belief.installed(stage.name) for stage in task.stages}
    return Standing(installed=installed, success=judgement.belief.success, G_obs=judgement.G_obs)


def _hiding_commands(episode: Episode, task: Task | None) -> set[int]:
    """Positions of commands that kept the evidence of a material failure off the terminal, by the trace."""
    if task is None or episode.outcome is None:
        return set()
    return {
        each.command
        for failure in failures(episode, task)
        if failure.material
        for each in failure.tries
        if each.suppressed
    }
