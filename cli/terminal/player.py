"""The replay in a terminal: keys, the clock, and where the viewer is."""

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

from devnull.cli.terminal.screen import Position, Reel, Side, drawn, moments, screen
from devnull.eval.display.escaping import visible
from devnull.eval.display.timeline import Frame


@dataclass
class Player:
    """Plays reels on a terminal until the viewer has had enough."""

    count: int
    reel: Callable[[int], Reel]
    """The reel of an episode by its place, from 0."""
    side: Side
    speed: float
    start: int = 0
    at: Position = field(default_factory=Position)

    def play(self) -> None:
        self.reel = lru_cache(maxsize=64)(self.reel)
        self.at.speed = self.speed
        self.place = self.start
        self.due: float | None = None
        with _keyboard() as key, _full_screen():
            self.draw()
            while True:
                pressed = key(self.patience())
                if pressed is None:
                    self.advance()
                elif pressed == "q" or not self.obey(pressed, key):
                    return
                self.draw()

    @property
    def now(self) -> Reel:
        return self.reel(self.place)

    def patience(self) -> float | None:
        """Seconds until the next frame is due; `None`: nothing moves."""
        if not self.at.playing or self.at.frame + 1 >= len(self.now.frames):
            return None
        times = moments(self.now.frames, self.at.speed)
        return max(0.0, times[self.at.frame + 1] - times[self.at.frame])

    def advance(self) -> None:
        self.go(self.at.frame + 1)

    def go(self, frame: int) -> None:
        self.at.frame = min(max(0, frame), len(self.now.frames) - 1)
        self.at.scroll = 0

    def obey(self, pressed: str, key: Callable[[float | None], str | None]) -> bool:
        """Does what a key asks for; false at the end of the input."""
        at = self.at
        at.message = ""
        match pressed:
            case " ":
                at.playing = not at.playing
            case "l" | "right":
                at.playing = False
                self.go(at.frame + 1)
            case "b" | "left":
                at.playing = False
                self.go(at.frame - 1)
            case "k" | "up":
                at.scroll += 3
            case "j" | "down":
                at.scroll = max(0, at.scroll - 3)
            case "n" | "p":
                self.turn_to(self.place + (1 if pressed == "n" else -1))
            case "h":
                self.next_hidden()
            case "/":
                self.search(key)
            case "+" | "=":
                at.speed *= 2
            case "-":
                at.speed /= 2
            case "":
                return False
        return True

    def turn_to(self, place: int, frame: int = 0) -> None:
        if 0 <= place < self.count:
            self.place = place
            self.go(frame)
        else:
            self.at.message = "there is no episode beyond this one"

    def next_hidden(self) -> None:
        """The next turn in which a failure was hidden, in this episode or a later one."""
        self.seek(lambda frame: frame.hidden, "no further hidden failure")

    def search(self, key: Callable[[float | None], str | None]) -> None:
        words = ""
        while True:
            self.at.message = f"/{visible(words)}▏"
            self.draw()
            pressed = key(None)
            if pressed in (None, "", "escape"):
                self.at.message = ""
                return
            if pressed in ("\r", "\n"):
                break
            words = words[:-1] if pressed in ("\x7f", "\b") else words + pressed if len(pressed or "") == 1 else words
        if words:
            wanted = words.lower()
            self.seek(
                lambda frame: any(wanted in span.text.lower() for span in (*frame.seen, *frame.truth)),
                f"nothing further holds {visible(words)!r}",
            )

    def seek(self, found: Callable[[Frame], bool], otherwise: str) -> None:
        first = self.at.frame + 1
        for place in range(self.place, self.count):
            for number, frame in enumerate(self.reel(place).frames):
                if number >= first and found(frame):
                    self.at.playing = False
                    self.turn_to(place, number)
                    self.at.message = ""
                    return
            first = 0
        self.at.message = otherwise

    def draw(self) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        width, height = max(40, size.columns), max(12, size.lines)
        shot = drawn(screen(self.now, self.at, self.side, width, height), width, height)
        sys.stdout.write(f"\x1b[H{shot}\x1b[J")
        sys.stdout.flush()


@contextlib.contextmanager
def _keyboard() -> Iterator[Callable[[float | None], str | None]]:
    """Keys one by one: their names, `None` when none was pressed in time, empty at the end of the input, and `resize`
    when the terminal has another size now."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    waiting: list[str] = []
    resized, signalled = os.pipe()
    os.set_blocking(signalled, False)

    def key(timeout: float | None) -> str | None:
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
        yield key
    finally:
        signal.set_wakeup_fd(awake)
        signal.signal(signal.SIGWINCH, other)
        os.close(resized)
        os.close(signalled)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _full_screen() -> Iterator[None]:
    """The terminal's other screen, without its cursor; the old one comes back whatever happens."""
    sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
