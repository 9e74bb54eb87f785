"""The screen of the full-screen replay: panes, badges, and the clock that plays."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Footer, Input, Static

from devnull.cli.terminal.replay_schedule import ReplayStep, schedule_steps
from devnull.cli.terminal.replay_screen import (
    ReplayEpisode,
    ReplaySide,
    render_badges,
    render_belief,
    render_heading,
    render_panes,
)
from devnull.eval.display.escaping import escape_controls

ReplayTracks = tuple[ReplayEpisode, ...]
"""One episode, or two of one instance side by side."""


class ReplayPanes(App[None]):
    """Shows the episodes of a run, a step at a time; `ReplayPlayer` adds the keys that move."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    CSS = """
    #heading { height: auto; max-height: 2; }
    #badges { height: 1; }
    #panes { height: 1fr; }
    .pane { width: 1fr; padding: 0 1; scrollbar-size: 1 1; }
    #belief { height: auto; min-height: 3; max-height: 7; border-top: solid $panel; }
    #prompt { height: 1; border: none; padding: 0; display: none; }
    Footer.-compact FooterLabel { margin: 0 1 0 0; }
    Footer.-compact KeyGroup.-compact { padding-left: 0; }
    KeyHelp { align: center middle; }
    #help { width: auto; height: auto; max-height: 100%; padding: 0 2; background: $panel; }
    """

    def __init__(
        self,
        load: Callable[[int], ReplayTracks],
        words: Sequence[str],
        hides: Callable[[int], bool],
        *,
        side: ReplaySide = "both",
        speed: float = 1.0,
        start: int = 0,
    ) -> None:
        """Args:
        load: Loads an episode by its index, from 0, and the one beside it if there is one.
        words: Of each episode, what a filter finds it by.
        hides: Whether an episode hides a failure, by its index.
        side: `evaluator` gives nothing else away, whatever is pressed.
        speed: 2 plays twice as fast.
        start: Index of the first episode to play.
        """
        super().__init__()
        self._load, self._words, self._hides = lru_cache(maxsize=64)(load), words, lru_cache(maxsize=None)(hides)
        self._side, self._blind, self._speed = side, side == "evaluator", speed
        self._index, self._wanted = start, ""
        self._chosen: Sequence[int] = range(len(words))
        self._place = 0
        """Index of the step that is shown."""
        self._playing, self._asks = True, ""
        self._message, self._timer = "", None

    _timer: Timer | None

    def compose(self) -> ComposeResult:
        yield Static(id="heading")
        yield Static(id="badges")
        with Horizontal(id="panes"):
            for number in range(2):
                with VerticalScroll(classes="pane", can_focus=False):
                    yield Static(id=f"text-{number}")
        yield Static(id="belief")
        yield Input(id="prompt", compact=True)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Draws the first step."""
        self._show(0)

    @property
    def _tracks(self) -> ReplayTracks:
        return self._load(self._index)

    def _steps(self) -> list[ReplayStep]:
        return schedule_steps([track.frames for track in self._tracks], self._speed)

    def _show(self, place: int) -> None:
        """Draws a step, and waits for the next one if it plays."""
        steps = self._steps()
        self._place = min(max(0, place), len(steps) - 1)
        frames = steps[self._place].frames
        shown = [track.frames[: frame + 1] for track, frame in zip(self._tracks, frames, strict=True)]
        panes = render_panes(self._tracks, shown, self._side)
        for number, scroll in enumerate(self.query(".pane").results(VerticalScroll)):
            scroll.display = number < len(panes)
            if number < len(panes):
                scroll.styles.border = ("round", panes[number].colour)
                scroll.border_title = Content(panes[number].title)
                self.query_one(f"#text-{number}", Static).update(panes[number].text)
                scroll.scroll_end(animate=False)
        self.query_one("#heading", Static).update(render_heading(self._tracks))
        self.query_one("#belief", Static).update(render_belief(self._tracks, frames, self._side))
        if self._timer is not None:
            self._timer.stop()
        self._timer = None
        if self._playing and self._place + 1 < len(steps):
            delay = steps[self._place + 1].seconds - steps[self._place].seconds
            self._timer = self.set_timer(max(0.001, delay), self._play_on)
        self._show_badges(steps)

    def _play_on(self) -> None:
        if self.query("#heading"):  # else it is being closed, and nothing is left to draw on
            self._show(self._place + 1)

    def _show_badges(self, steps: Sequence[ReplayStep]) -> None:
        track, frame = self._tracks[0], steps[self._place].frames[0]
        over = self._place + 1 == len(steps)
        mode = "■ end" if over else "▶ playing" if self._playing else "‖ paused"
        turns = max(each.turn for each in track.frames) + 1
        text = Text(f" {mode} ×{self._speed:g}  turn {track.frames[frame].turn + 1} of {turns}  ", "dim")
        text.append_text(render_badges(self._tracks, self._side))
        if self._message:
            text.append(f" {self._message}", "bold")
        elif self._wanted:
            text.append(f" filter: {escape_controls(self._wanted)} ({len(self._chosen)})", "dim")
        self.query_one("#badges", Static).update(text)

    def _say(self, message: str) -> None:
        self._message = message
        self._show_badges(self._steps())
