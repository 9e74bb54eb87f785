"""Plays episodes on a terminal: keys, timing, and moving between frames and episodes."""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from devnull.cli.terminal.replay_screen import (
    ReplayEpisode,
    ReplaySide,
    ViewerState,
    frame_times,
    render_ansi,
    render_screen,
)
from devnull.eval.display.escaping import escape_controls
from devnull.eval.display.timeline import Frame

_ReadKey = Callable[[float | None], str | None]
"""Waits at most so many seconds for a key, `None`: for ever; see `_keyboard`."""


@dataclass
class ReplayPlayer:
    """Plays the episodes of a run on the terminal of this process, which must be stdin and stdout, until `q`."""

    count: int
    """Number of episodes."""
    load_episode: Callable[[int], ReplayEpisode]
    """Loads an episode by its index, from 0."""
    side: ReplaySide
    speed: float
    """2 plays twice as fast."""
    start: int = 0
    """Index of the first episode to play."""
    state: ViewerState = field(default_factory=ViewerState)

    def play(self) -> None:
        """Returns when the viewer quits or the input ends; the terminal is then as it was."""
        self.load_episode = lru_cache(maxsize=64)(self.load_episode)
        self.state.speed = self.speed
        self.index = self.start
        with _keyboard() as read_key, _full_screen():
            self._draw()
            while True:
                pressed = read_key(self._next_frame_delay())
                if pressed is None:
                    self._show_frame(self.state.frame + 1)
                elif pressed == "q" or not self._handle_key(pressed, read_key):
                    return
                self._draw()

    @property
    def current(self) -> ReplayEpisode:
        return self.load_episode(self.index)

    def _next_frame_delay(self) -> float | None:
        """Seconds until the next frame is due; `None`: nothing moves."""
        if not self.state.playing or self.state.frame + 1 >= len(self.current.frames):
            return None
        times = frame_times(self.current.frames, self.state.speed)
        return max(0.0, times[self.state.frame + 1] - times[self.state.frame])

    def _show_frame(self, frame: int) -> None:
        self.state.frame = min(max(0, frame), len(self.current.frames) - 1)
        self.state.scroll = 0

    def _handle_key(self, pressed: str, read_key: _ReadKey) -> bool:
        """Handles any key but `q`; false at the end of the input."""
        state = self.state
        state.message = ""
        match pressed:
            case " ":
                state.playing = not state.playing
            case "l" | "right":
                state.playing = False
                self._show_frame(state.frame + 1)
            case "b" | "left":
                state.playing = False
                self._show_frame(state.frame - 1)
            case "k" | "up":
                state.scroll += 3
            case "j" | "down":
                state.scroll = max(0, state.scroll - 3)
            case "n" | "p":
                self._open_episode(self.index + (1 if pressed == "n" else -1))
            case "h":
                self._find_hidden_failure()
            case "/":
                self._search(read_key)
            case "+" | "=":
                state.speed *= 2
            case "-":
                state.speed /= 2
            case "":
                return False
        return True

    def _open_episode(self, index: int, frame: int = 0) -> None:
        if 0 <= index < self.count:
            self.index = index
            self._show_frame(frame)
        else:
            self.state.message = "there is no episode beyond this one"

    def _find_hidden_failure(self) -> None:
        """The next turn in which a failure was hidden, in this episode or a later one."""
        self._find_frame(lambda frame: frame.hidden, "no further hidden failure")

    def _search(self, read_key: _ReadKey) -> None:
        words = ""
        while True:
            self.state.message = f"/{escape_controls(words)}▏"
            self._draw()
            pressed = read_key(None)
            if pressed in (None, "", "escape"):
                self.state.message = ""
                return
            if pressed in ("\r", "\n"):
                break
            words = words[:-1] if pressed in ("\x7f", "\b") else words + pressed if len(pressed or "") == 1 else words
        if words:
            wanted = words.lower()
            self._find_frame(
                lambda frame: any(wanted in span.text.lower() for span in (*frame.seen, *frame.truth)),
                f"nothing further holds {escape_controls(words)!r}",
            )

    def _find_frame(self, matches: Callable[[Frame], bool], otherwise: str) -> None:
        first = self.state.frame + 1
        for index in range(self.index, self.count):
            for number, frame in enumerate(self.load_episode(index).frames):
                if number >= first and matches(frame):
                    self.state.playing = False
                    self._open_episode(index, number)
                    self.state.message = ""
                    return
            first = 0
        self.state.message = otherwise

    def _draw(self) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        width, height = max(40, size.columns), max(12, size.lines)
        content = render_ansi(render_screen(self.current, self.state, self.side, width, height), width, height)
        sys.stdout.write(f"\x1b[H{content}\x1b[J")
        sys.stdout.flush()


@contextlib.contextmanager
def _keyboard() -> Iterator[_ReadKey]:
    """Puts the terminal into cbreak mode and gives a function that reads a key by its name.

    It returns `None` when no key was pressed in time, "" at the end of the input, and `resize` when the terminal's size
    changed.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    waiting: list[str] = []
    resized, signalled = os.pipe()
    os.set_blocking(signalled, False)

    def read_key(timeout: float | None) -> str | None:
        if waiting:
            return waiting.pop(0)
        ready, _, _ = select.select([descriptor, resized], [], [], timeout)
        if not ready:
            return None
        if resized in ready:
            os.read(resized, 1024)
            return "resize"
        data = os.read(descriptor, 1024).decode("utf-8", "replace")
        if not data:
            return ""
        names = {"[A": "up", "[B": "down", "[C": "right", "[D": "left", "": "escape"}
        if data[0] == "\x1b" and data[1:].replace("O", "[") in names:
            return names[data[1:].replace("O", "[")]
        waiting.extend(character for character in data if character != "\x1b")
        return waiting.pop(0) if waiting else "escape"

    other = signal.signal(signal.SIGWINCH, lambda *_: None)
    awake = signal.set_wakeup_fd(signalled)
    try:
        tty.setcbreak(descriptor)
        yield read_key
    finally:
        signal.set_wakeup_fd(awake)
        signal.signal(signal.SIGWINCH, other)
        os.close(resized)
        os.close(signalled)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _full_screen() -> Iterator[None]:
    """Switches to the terminal's alternate screen, without a cursor, and back whatever happens."""
    sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
