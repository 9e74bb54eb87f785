"""Records a replay as an asciicast, which asciinema plays."""

import io
import json
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.text import Text

from devnull.cli.terminal.replay_schedule import schedule_steps
from devnull.cli.terminal.replay_screen import (
    ReplayEpisode,
    ReplayPane,
    ReplaySide,
    render_badges,
    render_belief,
    render_heading,
    render_panes,
)
from devnull.eval.display.escaping import escape_controls

_WRAP_CONSOLE = Console(file=io.StringIO(), width=200)


def asciicast_lines(
    tracks: Sequence[ReplayEpisode], side: ReplaySide, speed: float, width: int = 120, height: int = 34
) -> Iterator[str]:
    """Lines of an asciicast v2 recording (docs.asciinema.org) of a replay: the screen redrawn at each step.

    Args:
        tracks: One episode, or two of one instance.
        speed: Above 0; 2 is twice as fast.
        width: Of the recorded terminal, in characters.
        height: In lines.
    """
    first = tracks[0]
    title = f"{escape_controls(first.episode.arm)} {escape_controls(first.episode.task)} {first.instance}"
    head = {"version": 2, "width": width, "height": height, "title": title, "env": {"TERM": "xterm-256color"}}
    yield json.dumps(head) + "\n"
    last = 0.0
    for step in schedule_steps([track.frames for track in tracks], speed):
        last = step.seconds
        content = _render_ansi(_render_screen(tracks, step.frames, side, width, height), width, height)
        yield json.dumps([round(last, 6), "o", f"\x1b[?25l\x1b[H\x1b[2J{content}"], ensure_ascii=False) + "\n"
    yield json.dumps([round(last + 2, 6), "o", "\x1b[?25h"]) + "\n"


def _render_screen(
    tracks: Sequence[ReplayEpisode], frames: Sequence[int], side: ReplaySide, width: int, height: int
) -> RenderableType:
    """The screen at one moment."""
    shown = [track.frames[: frame + 1] for track, frame in zip(tracks, frames, strict=True)]
    panes = render_panes(tracks, shown, side)
    belief_height = 2 * len(tracks) + 2
    inner_width, inner_height = max(10, width // len(panes) - 4), max(3, height - belief_height - 3)
    body, whole = Layout(), Layout()
    body.split_row(*(Layout(_render_panel(pane, inner_width, inner_height)) for pane in panes))
    heading = Text.assemble(render_heading(tracks), "  ", render_badges(tracks, side))
    heading.no_wrap = True
    belief = Panel(render_belief(tracks, frames, side), border_style="dim", title="belief", title_align="left")
    whole.split_column(Layout(heading, size=1), body, Layout(belief, size=belief_height))
    return whole


def _render_panel(pane: ReplayPane, width: int, height: int) -> Panel:
    """The last lines that fit."""
    lines = list(pane.text.wrap(_WRAP_CONSOLE, width, tab_size=8)) if pane.text.plain else []
    return Panel(
        Group(*lines[-height:]), title=Text(pane.title), title_align="left", border_style=pane.colour, padding=(0, 1)
    )


def _render_ansi(renderable: RenderableType, width: int, height: int) -> str:
    """The renderable as text with ANSI escapes, at most `height` lines that end in CR LF, for a raw terminal."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, height=height, force_terminal=True, color_system="256", legacy_windows=False
    )
    console.print(renderable, height=height, end="")
    return out.getvalue().removesuffix("\n").replace("\n", "\r\n")
