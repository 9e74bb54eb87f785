"""The keys of the full-screen replay, and the list of them that `?` shows."""

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

_STEP_KEYS = Binding.Group("step", compact=True)
_EPISODE_KEYS = Binding.Group("episode", compact=True)
_SPEED_KEYS = Binding.Group("speed", compact=True)
BINDINGS = (
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
"""Each names an action of `ReplayPlayer`."""
GIVES_AWAY = ("next_hidden", "view")
"""Actions that the evaluator's side has not."""


class KeyHelp(ModalScreen[None]):
    """All keys; any key closes it."""

    def compose(self) -> ComposeResult:
        text, blind = Text("keys\n\n", "bold"), not self.app.check_action("view", ())
        for binding in BINDINGS:
            action = binding.action.partition("(")[0]
            if action == "ask" or self.app.check_action(action, ()):
                text.append(f"  {binding.key_display or binding.key:<9}", "bold")
                words = binding.tooltip or binding.description
                text.append(f"{words.partition(';')[0] if blind else words}\n")
        yield Static(text.append("\nany key closes this", "dim"), id="help")

    def on_key(self) -> None:
        self.dismiss()
