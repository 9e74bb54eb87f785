"""The full-screen replay: panes, badges, keys, and moving between moments and episodes."""

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, Literal

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
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
from devnull.eval.display.timeline import Frame, Span

_STEP_KEYS = Binding.Group("step", compact=True)
_EPISODE_KEYS = Binding.Group("episode", compact=True)
_SPEED_KEYS = Binding.Group("speed", compact=True)
_BINDINGS = (
    Binding("space", "play_or_pause", "play", tooltip="play, pause", key_display="spc"),
    Binding("left,b", "step(-1)", "step back", group=_STEP_KEYS, key_display="←"),
    Binding("right,l", "step(1)", "step forward", group=_STEP_KEYS, key_display="→"),
    Binding("n", "episode(1)", "next episode", group=_EPISODE_KEYS),
    Binding("p", "episode(-1)", "previous episode", group=_EPISODE_KEYS),
    Binding("h", "next_hidden", "hidden", tooltip="next turn that hides a failure, here or in a later episode"),
    Binding(
        "f",
        "ask('filter')",
        "filter",
        tooltip="only episodes with these words; `hidden`: with a hidden failure",
        priority=True,
    ),
    Binding(
        "slash",
        "ask('search')",
        "find",
        tooltip="find text, here or in a later episode",
        key_display="/",
        priority=True,  # so that what is typed right after it is already the prompt's
    ),
    Binding("plus,equals_sign", "speed(2.0)", "twice as fast", group=_SPEED_KEYS, key_display="+"),
    Binding("minus", "speed(0.5)", "half as fast", group=_SPEED_KEYS, key_display="-"),
    Binding("question_mark", "help", "help", tooltip="all keys", key_display="?"),
    Binding("q,ctrl+c", "quit", "quit", key_display="q"),
    Binding("g,home", "ends(False)", "first moment of the episode", show=False, key_display="g"),
    Binding("G,end", "ends(True)", "last moment of the episode", show=False, key_display="G"),
    Binding("v", "view", "both views, the evaluator's, the truth", show=False),
    Binding("up,k", "scroll_panes(-3)", "scroll up", show=False, key_display="↑ k"),
    Binding("down,j", "scroll_panes(3)", "scroll down", show=False, key_display="↓ j"),
    Binding("pageup", "scroll_panes(-15)", "scroll up a page", show=False),
    Binding("pagedown", "scroll_panes(15)", "scroll down a page", show=False),
    Binding("escape", "cancel", "stop searching, leave a prompt", show=False, key_display="esc"),
)
_GIVES_AWAY = ("next_hidden", "view")
"""Actions that the evaluator's side has not."""
_HIDDEN_WORD = "hidden"
"""Filters for episodes with a hidden failure."""

ReplayTracks = tuple[ReplayEpisode, ...]
"""One episode, or two of one instance side by side."""


class _Help(ModalScreen[None]):
    """All keys; any key closes it."""

    def compose(self) -> ComposeResult:
        text, blind = Text("keys\n\n", "bold"), not self.app.check_action("view", ())
        for binding in _BINDINGS:
            action = binding.action.partition("(")[0]
            if action == "ask" or self.app.check_action(action, ()):
                text.append(f"  {binding.key_display or binding.key:<9}", "bold")
                words = binding.tooltip or binding.description
                text.append(f"{words.partition(';')[0] if blind else words}\n")
        yield Static(text.append("\nany key closes this", "dim"), id="help")

    def on_key(self) -> None:
        self.dismiss()


class ReplayPlayer(App[None]):
    """Plays the episodes of a run on the terminal of this process, until `q`."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = list(_BINDINGS)
    CSS = """
    #heading { height: auto; max-height: 2; }
    #badges { height: 1; }
    #panes { height: 1fr; }
    .pane { width: 1fr; padding: 0 1; scrollbar-size: 1 1; }
    #belief { height: auto; min-height: 3; max-height: 7; border-top: solid $panel; }
    #prompt { height: 1; border: none; padding: 0; display: none; }
    Footer.-compact FooterLabel { margin: 0 1 0 0; }
    Footer.-compact KeyGroup.-compact { padding-left: 0; }
    _Help { align: center middle; }
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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does anything."""
        if action == "ask":
            return self.focused is None and len(self.screen_stack) == 1
        return not (self._blind and action in _GIVES_AWAY)

    @property
    def _tracks(self) -> ReplayTracks:
        return self._load(self._index)

    def _steps(self) -> list[ReplayStep]:
        return schedule_steps([track.frames for track in self._tracks], self._speed)

    # What is on the screen

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

    # Keys

    def action_play_or_pause(self) -> None:
        """Plays or pauses; at the end it begins anew."""
        over = self._place + 1 >= len(self._steps())
        self._playing = over or not self._playing
        self._go(0 if over else self._place)

    def action_step(self, steps: int) -> None:
        """Steps forward or back, and pauses."""
        self._playing = False
        self._go(self._place + steps)

    def action_ends(self, last: bool) -> None:
        """Goes to the first or the last step, and pauses."""
        self._playing = False
        self._go(len(self._steps()) - 1 if last else 0)

    def action_episode(self, step: int) -> None:
        """Opens the next or the previous episode of those that the filter lets through."""
        later = [each for each in self._chosen if (each > self._index if step > 0 else each < self._index)]
        if later:
            self._open(later[0] if step > 0 else later[-1])
        else:
            self._say("there is no episode beyond this one")

    def action_speed(self, factor: float) -> None:
        """Plays faster or slower."""
        self._speed = min(64.0, max(1 / 64, self._speed * factor))
        self._go(self._place)

    def action_view(self) -> None:
        """Shows the other view."""
        views: list[ReplaySide] = ["truth", "evaluator"] if len(self._tracks) > 1 else ["both", "evaluator", "truth"]
        place = views.index(self._side) if self._side in views else 0
        self._side = views[(place + 1) % len(views)]
        self._go(self._place)

    def action_scroll_panes(self, lines: int) -> None:
        """Scrolls all panes."""
        for scroll in self.query(".pane").results(VerticalScroll):
            scroll.scroll_relative(y=lines, animate=False)

    def action_help(self) -> None:
        """Shows all keys."""
        self.push_screen(_Help())

    def action_cancel(self) -> None:
        """Ends a search that is under way; closes the prompt."""
        self.workers.cancel_all()
        self._close_prompt()
        self._say("")

    def action_next_hidden(self) -> None:
        """The next turn in which a failure was hidden, in this episode or a later one."""
        self._find(lambda frame: frame.hidden, "no further hidden failure")

    def action_ask(self, what: Literal["search", "filter"]) -> None:
        """Opens the prompt."""
        self._asks = what
        prompt = self.query_one("#prompt", Input)
        hints = {"search": "find: text, then enter", "filter": "filter: arm, task, family, seed; empty shows all"}
        hint = hints[what] if self._blind or what == "search" else hints[what].replace("seed", "seed, hidden")
        prompt.placeholder, prompt.value, prompt.display = hint, "", True
        self.set_focus(prompt)  # at once: the next key is already its own

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Searches or filters by what was typed."""
        self._close_prompt()
        if self._asks == "filter":
            self._apply_filter(event.value)
        elif event.value:
            wanted = event.value.lower()
            self._find(
                lambda frame: any(wanted in span.text.lower() for span in self._visible(frame)),
                f"nothing further holds {escape_controls(event.value)!r}",
            )

    def _close_prompt(self) -> None:
        self.query_one("#prompt", Input).display = False
        self.set_focus(None)

    def _visible(self, frame: Frame) -> Sequence[Span]:
        return frame.seen if self._side == "evaluator" else (*frame.seen, *frame.truth)

    def _go(self, place: int) -> None:
        self.workers.cancel_all()
        self._message = ""
        self._show(place)

    def _open(self, index: int, place: int = 0) -> None:
        self._index = index
        self._go(place)

    def _apply_filter(self, wanted: str) -> None:
        words = wanted.lower().split()
        hidden = _HIDDEN_WORD in words and not self._blind
        plain = [word for word in words if not (hidden and word == _HIDDEN_WORD)]
        chosen = [index for index, text in enumerate(self._words) if all(word in text for word in plain)]
        if hidden:
            chosen = [index for index in chosen if self._hides(index)]
        if not chosen:
            self._say(f"no episode matches {escape_controls(wanted)!r}")
            return
        self._wanted, self._chosen = " ".join(words), chosen
        if self._index in chosen:
            self._say("")
        else:
            self._open(next((index for index in chosen if index > self._index), chosen[0]))

    def _find(self, matches: Callable[[Frame], bool], otherwise: str) -> None:
        self._playing = False
        self.run_worker(self._find_step(matches, otherwise), exclusive=True)

    async def _find_step(self, matches: Callable[[Frame], bool], otherwise: str) -> None:
        """Looks beyond the step that is shown, in this episode and in later ones that the filter lets through."""
        first = self._steps()[self._place].frames[0] + 1
        for index in (each for each in self._chosen if each >= self._index):
            frames = self._load(index)[0].frames
            found = next((n for n, frame in enumerate(frames) if n >= first and matches(frame)), None)
            if found is not None:
                self._index = index
                self._message = ""
                self._show(next(n for n, step in enumerate(self._steps()) if step.frames[0] == found))
                return
            first = 0
            self._say(f"searching episode {index + 1}; esc stops")
            await asyncio.sleep(0)
        self._say(otherwise)
