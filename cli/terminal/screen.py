"""An episode on a screen: drawn from frames for a terminal, as a recording, or in print."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from devnull.agents.episode import Episode
from devnull.eval.display.escaping import clipped, visible
from devnull.eval.display.timeline import Frame, Span
from devnull.eval.scoring.score import Score

Side = Literal["evaluator", "truth", "both"]
_STYLES = {
    "instruction": "italic",
    "message": "",
    "command": "bold",
    "shown": "",
    "suppressed": "black on bright_yellow",
    "stderr": "yellow",
    "status": "dim",
    "report": "italic",
    "note": "dim italic",
}
_LEADS = {"command": "$ ", "status": "→ ", "report": "report: ", "note": "— "}
_LONGEST = 20_000
"""Characters of one piece of output that are drawn."""
_STILL = 0.6
"""Seconds for which a moment stays on the screen at least, where an episode's own clock stands still."""
_KEYS = "space play  ←→ step  ↑↓ scroll  n p episode  h next hidden failure  / search  +- speed  q quit"


@dataclass(frozen=True)
class Reel:
    """One episode, ready to be shown."""

    number: int
    """Its place in the run, from 1."""
    of: int
    episode: Episode
    score: Score | None
    frames: tuple[Frame, ...]


def _pane(frames: Sequence[Frame], side: Literal["seen", "truth"]) -> Text:
    """Everything that one side holds so far; what was kept off the terminal stands out, with where it went."""
    text = Text()
    spans: list[Span] = []
    for frame in frames:
        for span in getattr(frame, side):
            if (
                spans
                and (spans[-1].kind, spans[-1].to) == (span.kind, span.to)
                and span.kind in ("shown", "suppressed")
            ):
                spans[-1] = span.model_copy(update={"text": spans[-1].text + span.text})
            else:
                spans.append(span)
    for span in spans:
        _append(text, span)
    return text


def _append(text: Text, span: Span) -> None:
    drawn = clipped(visible(span.text), _LONGEST)
    if span.kind == "suppressed":
        _fresh_line(text)
        text.append(f"✗ kept off the terminal → {visible(span.to)}\n", "bold yellow")
        for line in drawn.removesuffix("\n").split("\n"):
            text.append("✗ ", "bold yellow")
            text.append(line + "\n", _STYLES["suppressed"])
        return
    if span.kind != "shown":
        _fresh_line(text)
    if span.kind == "stderr":
        drawn = f"stderr: {drawn}"
    lead = _LEADS.get(span.kind, "")
    text.append(lead + drawn, _STYLES[span.kind])
    if span.kind != "shown":
        _fresh_line(text)


def _fresh_line(text: Text) -> None:
    if text.plain and not text.plain.endswith("\n"):
        text.append("\n")


@dataclass
class Position:
    """Where the viewer is."""

    frame: int = 0
    scroll: int = 0
    playing: bool = True
    speed: float = 1.0
    message: str = ""
    keys: str = _KEYS


def screen(reel: Reel, at: Position, side: Side, width: int, height: int) -> RenderableType:
    """The whole screen at one moment."""
    frames = reel.frames[: at.frame + 1]
    body = Layout()
    panels = []
    columns = 2 if side == "both" else 1
    inner_width, inner_height = max(10, width // columns - 4), max(3, height - 8)
    if side in ("both", "evaluator"):
        panels.append(_boxed(_pane(frames, "seen"), "what the evaluator saw", "cyan", inner_width, inner_height, at))
    if side in ("both", "truth"):
        panels.append(_boxed(_pane(frames, "truth"), "what happened", "yellow", inner_width, inner_height, at))
    body.split_row(*(Layout(panel) for panel in panels))
    whole = Layout()
    whole.split_column(
        Layout(_heading(reel, side), size=1),
        body,
        Layout(Panel(_standing(reel, at.frame, side), border_style="dim", title="belief", title_align="left"), size=4),
        Layout(_footer(reel, at), size=1),
    )
    return whole


def _boxed(text: Text, title: str, style: str, width: int, height: int, at: Position) -> Panel:
    """The last lines that fit, or earlier ones when scrolled up."""
    lines = list(text.wrap(_MEASURE, width, tab_size=8)) if text.plain else []
    end = max(min(height, len(lines)), len(lines) - at.scroll)
    return Panel(
        Group(*lines[max(0, end - height) : end]), title=title, title_align="left", border_style=style, padding=(0, 1)
    )


_MEASURE = Console(file=io.StringIO(), width=200)


def _heading(reel: Reel, side: Side) -> Text:
    """Which episode it is; whether a failure stayed hidden is told to all but the evaluator's side."""
    episode = reel.episode
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" episode {reel.number} of {reel.of} ", "reverse")
    text.append(f"  {visible(episode.arm)} · {visible(episode.task)} · {_instance(episode)}  ")
    if side != "evaluator" and reel.score is not None and reel.score.hidden:
        text.append(" hidden failure ", "bold black on bright_yellow")
    return text


def _instance(episode: Episode) -> str:
    return f"seed {episode.seed}" + (f", sample {episode.sample}" if episode.sample else "")


def _standing(reel: Reel, at: int, side: Side) -> Text:
    """The latest belief, and beside it the truth once the episode is over."""
    text = Text()
    latest = next((f.standing for f in reversed(reel.frames[: at + 1]) if f.standing is not None), None)
    score = reel.score
    over = at == len(reel.frames) - 1
    if latest is None:
        text.append("no belief: the task is not known" if score is None else "", "dim")
    else:
        for stage, p in latest.installed.items():
            text.append(f"{visible(stage)} ")
            text.append(_meter(p), "cyan")
            text.append(f" {p:.2f}   ")
        text.append(f"believed return G_obs {latest.G_obs:+.2f}", "bold cyan")
    text.append("\n")
    if score is None or score.G is None:
        text.append("the truth is undefined: no verified outcome" if over else "", "dim")
    elif over and side != "evaluator":
        for stage, truth in score.truths.items():
            text.append(f"{visible(stage)} ")
            text.append(f"{truth.replace('_', ' ')}   ", "green" if truth.installed else "yellow")
        text.append(f"true return G {score.G:+.2f}", "bold yellow")
    return text


def _meter(p: float) -> str:
    full = round(10 * p)
    return "█" * full + "░" * (10 - full)


def _footer(reel: Reel, at: Position) -> Text:
    if at.message:
        return Text(at.message, "bold")
    seconds = reel.frames[at.frame].seconds
    mode = "▶" if at.playing else "⏸"
    return Text(f" {mode} {seconds:6.2f} s  ×{at.speed:g}   {at.keys}", "dim", no_wrap=True, overflow="ellipsis")


def drawn(renderable: RenderableType, width: int, height: int) -> str:
    """As a terminal takes it."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, height=height, force_terminal=True, color_system="256", legacy_windows=False
    )
    console.print(renderable, height=height, end="")
    return out.getvalue().removesuffix("\n").replace("\n", "\r\n")


def moments(frames: Sequence[Frame], speed: float) -> list[float]:
    """When each frame comes on, from 0: in the original timing, but none before the last could be seen at all."""
    times, clock = [], 0.0
    for number, frame in enumerate(frames):
        if number:
            pause = frame.seconds - frames[number - 1].seconds
            fresh = frame.turn != frames[number - 1].turn
            clock += max(pause, _STILL if fresh else 0.0) / speed
        times.append(clock)
    return times


def cast(reel: Reel, side: Side, speed: float, width: int = 120, height: int = 34) -> Iterator[str]:
    """Lines of an asciicast v2 recording: the screen redrawn at each frame."""
    title = f"{visible(reel.episode.arm)} {visible(reel.episode.task)} {_instance(reel.episode)}"
    head = {"version": 2, "width": width, "height": height, "title": title, "env": {"TERM": "xterm-256color"}}
    yield json.dumps(head) + "\n"
    at = Position(speed=speed, keys="")
    last = 0.0
    for number, last in enumerate(moments(reel.frames, speed)):
        at.frame = number
        shot = drawn(screen(reel, at, side, width, height), width, height)
        yield json.dumps([round(last, 6), "o", f"\x1b[?25l\x1b[H\x1b[2J{shot}"], ensure_ascii=False) + "\n"
    yield json.dumps([round(last + 2, 6), "o", "\x1b[?25h"]) + "\n"


def told(reel: Reel, side: Side, console: Console) -> None:
    """The episode in print, turn by turn, without waiting."""
    console.print(_heading(reel, side))
    for turn in dict.fromkeys(frame.turn for frame in reel.frames):
        frames = [frame for frame in reel.frames if frame.turn == turn]
        table = Table(expand=True, show_header=turn == -1, padding=(0, 1))
        cells = []
        if side in ("both", "evaluator"):
            table.add_column("what the evaluator saw", ratio=1, overflow="fold")
            cells.append(_pane(frames, "seen"))
        if side in ("both", "truth"):
            table.add_column("what happened", ratio=1, overflow="fold")
            cells.append(_pane(frames, "truth"))
        for cell in cells:
            cell.rstrip()
        table.add_row(*cells)
        console.print(table)
        end = max(place for place, frame in enumerate(reel.frames) if frame.turn == turn)
        words = _standing(reel, end, side)
        words.rstrip()
        console.print(words)
