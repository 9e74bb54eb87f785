"""Records the replay of an episode as an asciicast, which asciinema plays."""

import json
from collections.abc import Iterator

from devnull.cli.terminal.replay_screen import (
    ReplayEpisode,
    ReplaySide,
    ViewerState,
    frame_times,
    render_ansi,
    render_screen,
)
from devnull.eval.display.escaping import escape_controls


def asciicast_lines(
    replay: ReplayEpisode, side: ReplaySide, speed: float, width: int = 120, height: int = 34
) -> Iterator[str]:
    """Lines of an asciicast v2 recording (docs.asciinema.org) of an episode: the screen redrawn at each frame.

    Args:
        speed: Above 0; 2 is twice as fast.
        width: Of the recorded terminal, in characters.
        height: In lines.
    """
    title = f"{escape_controls(replay.episode.arm)} {escape_controls(replay.episode.task)} {replay.instance}"
    head = {"version": 2, "width": width, "height": height, "title": title, "env": {"TERM": "xterm-256color"}}
    yield json.dumps(head) + "\n"
    state = ViewerState(speed=speed, keys="")
    last = 0.0
    for number, last in enumerate(frame_times(replay.frames, speed)):
        state.frame = number
        content = render_ansi(render_screen(replay, state, side, width, height), width, height)
        yield json.dumps([round(last, 6), "o", f"\x1b[?25l\x1b[H\x1b[2J{content}"], ensure_ascii=False) + "\n"
    yield json.dumps([round(last + 2, 6), "o", "\x1b[?25h"]) + "\n"
