"""Draws an episode's timeline for a terminal: as a screen of the replay player, or printed at once."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from devnull.agents.episode import Episode
from devnull.eval.display.escaping import clip_middle, escape_controls
from devnull.eval.display.timeline import Frame, Span
from devnull.eval.scoring.score import Score

ReplaySide = Literal["evaluator", "truth", "both"]
"""Whose view is shown: what the evaluator saw, what happened, or both side by side."""
_STYLES = {
    "instruction": "italic",
    "message": "",
    "command": "bold",
    "shown": "",
    "suppressed": "black on bright_yellow",
    "stderr": "yellow",
    "status": "dim",
    "report": "italic",
    "finding": "bold yellow",
    "note": "dim italic",
}
_PREFIXES = {"command": "$ ", "status": "→ ", "report": "report: ", "finding": "⚑ ", "note": "— "}
_SPAN_LIMIT = 20_000
"""Characters shown of one piece of output."""
_MIN_PAUSE = 0.6
"""Seconds between two turns at least, where the episode's own clock gives less."""
_KEY_HELP = "space play  ←→ step  ↑↓ scroll  n p episode  h next hidden failure  / search  +- speed  q quit"


@dataclass(frozen=True)
class ReplayEpisode:
    """One episode to replay, with what was computed of it."""

    number: int
    """Its place in the run, from 1."""
    total: int
    """Number of episodes in the run."""
    episode: Episode
    score: Score | None
    """`None` where the task is not known."""
    frames: tuple[Frame, ...]

    @property
    def instance(self) -> str:
        """What tells it from other episodes of its arm and task: `seed 1, sample 2`; the first sample is not named,
        nor the build that the seed draws."""
        sample = f", sample {self.episode.sample}" if self.episode.sample else ""
        if self.episode.unverified:
            return f"record {self.episode.seed + 1}{sample}"
        build = f", {self.episode.forced_build} build" if self.episode.forced_build else ""
        return f"seed {self.episode.seed}{sample}{build}"


def _render_side(frames: Sequence[Frame], side: Literal["seen", "truth"]) -> Text:
    """Everything on one side in these frames; what was kept off the terminal is marked, with its destination."""
    text = Text()
    spans: list[Span] = []
    for frame in frames:
        for span in getattr(frame, side):
            if (
                spans
                and (spans[-1].kind, spans[-1].destination) == (span.kind, span.destination)
                and span.kind in ("shown", "suppressed")
            ):
                spans[-1] = span.model_copy(update={"text": spans[-1].text + span.text})
            else:
                spans.append(span)
    for span in spans:
        _append_span(text, span)
    return text


def _append_span(text: Text, span: Span) -> None:
    content = clip_middle(escape_controls(span.text), _SPAN_LIMIT)
    if span.kind == "suppressed":
        _start_line(text)
        text.append(f"✗ kept off the terminal → {escape_controls(span.destination)}\n", "bold yellow")
        for line in content.removesuffix("\n").split("\n"):
            text.append("✗ ", "bold yellow")
            text.append(line + "\n", _STYLES["suppressed"])
        return
    if span.kind != "shown":
        _start_line(text)
    if span.kind == "stderr":
        content = f"stderr: {content}"
    prefix = _PREFIXES.get(span.kind, "")
    text.append(prefix + content, _STYLES[span.kind])
    if span.kind != "shown":
        _start_line(text)


def _start_line(text: Text) -> None:
    if text.plain and not text.plain.endswith("\n"):
        text.append("\n")


@dataclass
class ViewerState:
    """Where in an episode the viewer is, and what the footer shows."""

    frame: int = 0
    """Index of the frame that came last."""
    scroll: int = 0
    """Lines scrolled up from the end."""
    playing: bool = True
    speed: float = 1.0
    message: str = ""
    """Shown in place of the footer."""
    keys: str = _KEY_HELP
    """Help on keys in the footer."""


def render_screen(
    replay: ReplayEpisode, state: ViewerState, side: ReplaySide, width: int, height: int
) -> RenderableType:
    """The screen of the player at one moment, for a terminal of `width` x `height` characters."""
    frames = replay.frames[: state.frame + 1]
    body = Layout()
    panels = []
    columns = 2 if side == "both" else 1
    inner_width, inner_height = max(10, width // columns - 4), max(3, height - 8)
    if side in ("both", "evaluator"):
        panels.append(
            _render_panel(
                _render_side(frames, "seen"), "what the evaluator saw", "cyan", inner_width, inner_height, state
            )
        )
    if side in ("both", "truth"):
        panels.append(
            _render_panel(_render_side(frames, "truth"), "what happened", "yellow", inner_width, inner_height, state)
        )
    body.split_row(*(Layout(panel) for panel in panels))
    whole = Layout()
    whole.split_column(
        Layout(_render_heading(replay, side), size=1),
        body,
        Layout(
            Panel(_render_belief(replay, state.frame, side), border_style="dim", title="belief", title_align="left"),
            size=4,
        ),
        Layout(_render_footer(replay, state), size=1),
    )
    return whole


def _render_panel(text: Text, title: str, style: str, width: int, height: int, state: ViewerState) -> Panel:
    """The last lines that fit, or earlier ones when scrolled up."""
    lines = list(text.wrap(_WRAP_CONSOLE, width, tab_size=8)) if text.plain else []
    end = max(min(height, len(lines)), len(lines) - state.scroll)
    return Panel(
        Group(*lines[max(0, end - height) : end]), title=title, title_align="left", border_style=style, padding=(0, 1)
    )


_WRAP_CONSOLE = Console(file=io.StringIO(), width=200)


def _render_heading(replay: ReplayEpisode, side: ReplaySide) -> Text:
    """Which episode it is, and whether it hides a failure: that is left out on the evaluator's side."""
    episode = replay.episode
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" episode {replay.number} of {replay.total} ", "reverse")
    text.append(f"  {escape_controls(episode.arm)} · {escape_controls(episode.task)} · {replay.instance}  ")
    if side != "evaluator" and replay.score is not None and replay.score.hidden:
        text.append(" hidden failure ", "bold black on bright_yellow")
    return text


def _render_belief(replay: ReplayEpisode, frame: int, side: ReplaySide) -> Text:
    """The latest belief up to a frame and, at the end of the episode, the truth: two lines."""
    text = Text()
    latest = next((f.belief for f in reversed(replay.frames[: frame + 1]) if f.belief is not None), None)
    score = replay.score
    over = frame == len(replay.frames) - 1
    if latest is None:
        unknown = score is None or score.unverified
        text.append("no belief: the task is not known" if unknown else "", "dim")
    else:
        for stage, p in latest.installed.items():
            text.append(f"{escape_controls(stage)} ")
            text.append(_format_meter(p), "cyan")
            text.append(f" {p:.2f}   ")
        text.append(f"believed return G_obs {latest.G_obs:+.2f}", "bold cyan")
    text.append("\n")
    if score is None or score.G is None:
        text.append("the truth is undefined: no verified outcome" if over else "", "dim")
    elif over and side != "evaluator":
        for stage, truth in score.truths.items():
            text.append(f"{escape_controls(stage)} ")
            text.append(f"{truth.words}   ", "green" if truth.installed else "yellow")
        text.append(f"true return G {score.G:+.2f}", "bold yellow")
    return text


def _format_meter(p: float) -> str:
    full = round(10 * p)
    return "█" * full + "░" * (10 - full)


def _render_footer(replay: ReplayEpisode, state: ViewerState) -> Text:
    if state.message:
        return Text(state.message, "bold")
    seconds = replay.frames[state.frame].seconds
    mode = "▶" if state.playing else "⏸"
    return Text(f" {mode} {seconds:6.2f} s  ×{state.speed:g}   {state.keys}", "dim", no_wrap=True, overflow="ellipsis")


def render_ansi(renderable: RenderableType, width: int, height: int) -> str:
    """The renderable as text with ANSI escapes, at most `height` lines that end in CR LF, for a raw terminal."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, height=height, force_terminal=True, color_system="256", legacy_windows=False
    )
    console.print(renderable, height=height, end="")
    return out.getvalue().removesuffix("\n").replace("\n", "\r\n")


def frame_times(frames: Sequence[Frame], speed: float) -> list[float]:
    """Seconds from the start at which each frame is shown: in the original timing, with a pause before each turn.

    Args:
        speed: Above 0; 2 is twice as fast.
    """
    times, clock = [], 0.0
    for number, frame in enumerate(frames):
        if number:
            pause = frame.seconds - frames[number - 1].seconds
            fresh = frame.turn != frames[number - 1].turn
            clock += max(pause, _MIN_PAUSE if fresh else 0.0) / speed
        times.append(clock)
    return times


def print_episode(replay: ReplayEpisode, side: ReplaySide, console: Console) -> None:
    """Prints the whole episode at once, a table row a turn with the belief below it."""
    console.print(_render_heading(replay, side))
    for turn in dict.fromkeys(frame.turn for frame in replay.frames):
        frames = [frame for frame in replay.frames if frame.turn == turn]
        table = Table(expand=True, show_header=turn == -1, padding=(0, 1))
        cells = []
        if side in ("both", "evaluator"):
            table.add_column("what the evaluator saw", ratio=1, overflow="fold")
            cells.append(_render_side(frames, "seen"))
        if side in ("both", "truth"):
            table.add_column("what happened", ratio=1, overflow="fold")
            cells.append(_render_side(frames, "truth"))
        for cell in cells:
            cell.rstrip()
        table.add_row(*cells)
        console.print(table)
        end = max(place for place, frame in enumerate(replay.frames) if frame.turn == turn)
        belief = _render_belief(replay, end, side)
        belief.rstrip()
        console.print(belief)
