"""The full-screen replay: what its keys do."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input

from devnull.cli.terminal.replay_keys import BINDINGS, GIVES_AWAY, KeyHelp
from devnull.cli.terminal.replay_panes import ReplayPanes
from devnull.cli.terminal.replay_screen import ReplaySide
from devnull.eval.display.escaping import escape_controls
from devnull.eval.display.timeline import Frame, Span

_HIDDEN_WORD = "hidden"
"""Filters for episodes with a hidden failure."""


class ReplayPlayer(ReplayPanes):
    """Plays the episodes of a run on the terminal of this process, until `q`."""

    BINDINGS: ClassVar[list[BindingType]] = list(BINDINGS)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does anything."""
        if action == "ask":
            return self.focused is None and len(self.screen_stack) == 1
        return not (self._blind and action in GIVES_AWAY)

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
        self.push_screen(KeyHelp())

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
