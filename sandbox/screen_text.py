"""The one reader of the terminal: what a person could have read of a command's output.

It is what stands on the screen and in its scroll-back once the command has ended, on a terminal as wide as that of a
box. So a failure that was painted over after a carriage return, erased, cleared or written in the colour of its
background was not shown; colours, titles, hyperlinks and the like say nothing.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from devnull.sandbox.terminal_cells import IGNORABLE, UNREADABLE
from devnull.sandbox.terminal_colours import PLAIN, Colours, select_colours
from devnull.sandbox.terminal_screen import TerminalScreen

COLUMNS, LINES = 200, 50
"""Size of a box's terminal (`native/terminal.c`)."""
_SCROLLBACK_PER_CHARACTER = 8
"""Scroll-back holds any output; only what control sequences multiply by more than this loses its oldest rows."""

_UNPLAIN = re.compile(f"[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029{IGNORABLE}{UNREADABLE}]")
_TOKEN = re.compile(
    r"((?:[^\x00-\x1f\x7f-\x9f]*+\r*+\n)++)"  # whole lines
    r"|((?:[^\x00-\x1f\x7f-\x9f]*+\r)++)"  # states of one line, each painted over by the next
    r"|([^\x00-\x1f\x7f-\x9f]++)"
    r"|(\x08++)"
    r"|(\t++)"
    r"|(?:\x1b\[|\x9b)([\x00-\x17\x19\x1c-\x3f\x7f]*+)([@-~]?)"  # CSI; control characters within act at once
    r"|((?:\x1b\]|\x9d)[^\x07\x18\x1a\x1b\x9c]*+[\x07\x18\x1a\x9c]?)"  # OSC
    r"|((?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x18\x1a\x1b\x9c]*+[\x18\x1a\x9c]?)"  # DCS, SOS, PM, APC
    r"|\x1b([ -/]*+)([0-~]?)"
    r"|[\x00-\x07\x10-\x1a\x1c-\x1f\x7f-\x83\x86\x87]++"  # these do nothing
    r"|([\x00-\x1f\x7f-\x9f])"
)
_CSI_BODY = re.compile(r"([<-?]*)([0-9:;]*)([ -/]*)")
_STRING_ENDS = re.compile(r"^(?:\x1b.|.)[0-9;]*|[\x07\x18\x1a\x9c]$|\r(?=\n)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_LINE_DRAWING = dict(
    zip(range(0x5F, 0x7F), " ◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·", strict=True)  # DEC Special Graphics
)
_CHARSETS: dict[str, dict[int, str]] = {"0": _LINE_DRAWING, "2": _LINE_DRAWING, "A": {0x23: "£"}}


@lru_cache(maxsize=64)
def screen_text(text: str) -> str:
    """What a person could have read of terminal output: the screen with all its scroll-back at the end.

    A line that the terminal wrapped is one line, and a bare line feed begins one. Blanks that were never written are
    left out at the ends of lines. Linear in the length of the text. Plain text comes back as it is.

    Args:
        text: What one command printed, decoded, on a screen that was empty before.

    Example:
        screen_text("50%\\r100%\\n\\x1b[31merror\\x1b[0m")  # '100%\\nerror'
        screen_text("error: no such file\\n\\x1b[A\\x1b[2Kok\\n")  # 'ok\\n'
    """
    text = text.replace("\r\n", "\n")
    return _play(text) if _UNPLAIN.search(text) else text


@lru_cache(maxsize=64)
def written_text(text: str) -> str:
    """All that was ever printed, whether or not it could still be read at the end: without control sequences and
    control characters; a carriage return ends a line."""
    text = text.replace("\r\n", "\n")
    if not _UNPLAIN.search(text):
        return text
    return "".join(map(_printed, _TOKEN.finditer(text)))


def swallowed_text(text: str) -> str:
    """What a terminal took for a title, a link or another string that it does not show, each on lines of its own."""
    if not _UNPLAIN.search(text):
        return ""
    strings = (token[0] for token in _TOKEN.finditer(text) if token.lastindex in (8, 9))
    return "\n".join(_STRING_ENDS.sub("", string) for string in strings)


def _printed(token: re.Match[str]) -> str:
    if token.lastindex in (1, 2):
        return re.sub(r"\r+\n?", "\n", token[0])
    return token[0] if token.lastindex in (3, 5) else "\n" if token[0] in "\v\f\x84\x85" else ""


def _play(text: str) -> str:
    terminal = Terminal(COLUMNS, LINES, len(text) * _SCROLLBACK_PER_CHARACTER + COLUMNS * LINES)
    terminal.feed(text)
    return terminal.screen.text()


class Terminal:
    """Reads characters and control sequences, and plays them on its `screen`; the sizes are the screen's."""

    def __init__(self, columns: int, lines: int, scrollback: int) -> None:
        self.screen = TerminalScreen(columns, lines, scrollback)
        self._reset()

    def _reset(self) -> None:
        self.screen.reset()
        self._saved: dict[bool, _Saved] = {}
        self._reset_modes()

    def _reset_modes(self) -> None:
        self.screen.reset_modes()
        self._colours = PLAIN
        self._charsets: tuple[str, ...] = ("B",) * 4
        self._shift, self._single = 0, 0

    def feed(self, text: str) -> None:
        """Plays output."""
        screen = self.screen
        for token in _TOKEN.finditer(text):
            match token.lastindex:
                case 1:
                    self._write_lines(token[0].replace("\r", "").split("\n")[:-1])
                case 2:
                    self._write_states(token[0].split("\r")[:-1])
                case 3:
                    self._write(token[0])
                case 4:
                    screen.settle()
                    screen.to_column(screen.x - len(token[0]))
                case 5:
                    screen.tab(len(token[0]))
                case 7:
                    self._csi(token[6], token[7])
                case 11:
                    self._escape(token[10], token[11])
                case 12:
                    self._control(token[0])

    def _write(self, text: str) -> None:
        if self._single:
            first, self._single = text[0].translate(_CHARSETS.get(self._charsets[self._single], {})), 0
            self.screen.write(first, self._colours.concealed)
            text = text[1:]
        if table := _CHARSETS.get(self._charsets[self._shift]):
            text = text.translate(table)
        self.screen.write(text, self._colours.concealed)

    def _write_lines(self, lines: list[str]) -> None:
        plain = not self._colours.concealed and self._charsets[self._shift] not in _CHARSETS
        for i, line in enumerate(lines):
            if i == 1 and plain and self.screen.write_lines(lines[1:]):
                return
            if line:
                self._write(line)
            self.screen.x = 0
            self.screen.line_feed()

    def _write_states(self, states: list[str]) -> None:
        """States of one line: of each is left what the later ones are too short to cover."""
        if self.screen.x and states[0]:
            self._write(states[0])
            states = states[1:]
        self.screen.x = 0
        if all(state.isascii() and len(state) <= self.screen.columns for state in states) and not self.screen.insert:
            line = ""
            for state in reversed(states):
                line += state[len(line) :]
            states = [line]
        for state in filter(None, states):
            self._write(state)
            self.screen.x = 0

    def _csi(self, body: str, final: str) -> None:
        if not body.isprintable():
            self.feed("".join(_CONTROLS.findall(body)))
            body = _CONTROLS.sub("", body)
        name, parameters, first, second = (_read_csi if len(body) < 40 else _read_csi.__wrapped__)(body, final)
        if name == "m":
            self._colours = select_colours(self._colours, parameters)
        elif act := _ACTIONS.get(name):
            act(self.screen, first, second)
        elif name in ("?h", "?l", "h", "l"):
            for parameter in parameters.split(";"):
                self._set_mode(name[:-1] + parameter, final == "h")
        elif name == "s":
            self._save()
        elif name == "u":
            self._restore()
        elif name == "!p":
            self._reset_modes()

    def _set_mode(self, mode: str, on: bool) -> None:
        screen = self.screen
        match mode:
            case "?7":
                screen.autowrap = on
            case "?6":
                screen.origin = on
                screen.x = 0
                screen.to_row(0)
            case "4":
                screen.insert = on
            case "?47" | "?1047":
                screen.show_alternate(on, clear=mode == "?1047" and not on)
            case "?1048" | "?1049":
                if on:
                    self._save()
                if mode == "?1049":
                    screen.show_alternate(on, clear=on)
                if not on:
                    self._restore()

    def _save(self) -> None:
        screen = self.screen
        self._saved[screen.alternate] = _Saved(
            screen.x, screen.y - screen.top, screen.origin, self._colours, self._charsets, self._shift
        )

    def _restore(self) -> None:
        screen = self.screen
        saved = self._saved.get(screen.alternate) or _Saved(0, 0, False, PLAIN, ("B",) * 4, 0)
        screen.x, screen.y, screen.origin = saved.x, screen.top + saved.row, saved.origin
        self._colours, self._charsets, self._shift = saved.colours, saved.charsets, saved.shift

    def _escape(self, intermediate: str, final: str) -> None:
        if intermediate == "#" and final == "8":
            self.screen.align()
        elif intermediate and intermediate in "()*+" and final:
            at = "()*+".index(intermediate)
            self._charsets = (*self._charsets[:at], final, *self._charsets[at + 1 :])
        elif intermediate or not final:
            return
        elif final in "DEHMNO":
            self._control(chr(ord(final) + 0x40))
        elif final in "no":
            self._shift = 2 + "no".index(final)
        elif final == "7":
            self._save()
        elif final == "8":
            self._restore()
        elif final == "c":
            self._reset()

    def _control(self, character: str) -> None:
        match character:
            case "\v" | "\f" | "\x84":
                self.screen.line_feed()
            case "\x85":
                self.screen.x = 0
                self.screen.line_feed()
            case "\x88":
                self.screen.set_tab()
            case "\x8d":
                self.screen.reverse_line_feed()
            case "\x8e" | "\x8f":
                self._single = 2 + "\x8e\x8f".index(character)
            case "\x0e" | "\x0f":
                self._shift = "\x0f\x0e".index(character)


class _Saved(NamedTuple):
    """What DECSC keeps."""

    x: int
    row: int
    origin: bool
    colours: Colours
    charsets: tuple[str, ...]
    shift: int


@lru_cache(maxsize=1024)
def _read_csi(body: str, final: str) -> tuple[str, str, int, int]:
    """(name, parameters, the first two as numbers) of a CSI sequence; the name is empty where it is malformed."""
    parts = _CSI_BODY.fullmatch(body)
    if not final or not parts:
        return "", "", 0, 0
    first, _, rest = parts[2].partition(";")
    return parts[1] + parts[3] + final, parts[2], _number(first), _number(rest.partition(";")[0])


def _number(parameter: str) -> int:
    """A parameter of a control sequence; no screen is larger than four digits say."""
    digits = parameter.partition(":")[0]
    return int(digits) if 0 < len(digits) < 5 else 9999 if digits else 0


def _to_position(screen: TerminalScreen, row: int, column: int) -> None:
    screen.to_row((row or 1) - 1)
    screen.to_column((column or 1) - 1)


def _to_next_row(screen: TerminalScreen, n: int) -> None:
    screen.move_rows(n)
    screen.x = 0


_ACTIONS: dict[str, Callable[[TerminalScreen, int, int], None]] = {
    "@": lambda screen, n, _: screen.insert_chars(n or 1),
    "A": lambda screen, n, _: screen.move_rows(-(n or 1)),
    "B": lambda screen, n, _: screen.move_rows(n or 1),
    "C": lambda screen, n, _: screen.to_column(min(screen.x, screen.columns - 1) + (n or 1)),
    "D": lambda screen, n, _: screen.to_column(min(screen.x, screen.columns - 1) - (n or 1)),
    "E": lambda screen, n, _: _to_next_row(screen, n or 1),
    "F": lambda screen, n, _: _to_next_row(screen, -(n or 1)),
    "G": lambda screen, n, _: screen.to_column((n or 1) - 1),
    "H": _to_position,
    "I": lambda screen, n, _: screen.tab(n or 1),
    "J": lambda screen, n, _: screen.erase_in_display(n),
    "?J": lambda screen, n, _: screen.erase_in_display(n),
    "K": lambda screen, n, _: screen.erase_in_line(n),
    "?K": lambda screen, n, _: screen.erase_in_line(n),
    "L": lambda screen, n, _: screen.insert_rows(n or 1),
    "M": lambda screen, n, _: screen.delete_rows(n or 1),
    "P": lambda screen, n, _: screen.delete_chars(n or 1),
    "S": lambda screen, n, _: screen.scroll_up(n or 1),
    "T": lambda screen, n, _: screen.scroll_down(n or 1),
    "X": lambda screen, n, _: screen.erase_chars(n or 1),
    "Z": lambda screen, n, _: screen.tab(-(n or 1)),
    "`": lambda screen, n, _: screen.to_column((n or 1) - 1),
    "a": lambda screen, n, _: screen.to_column(min(screen.x, screen.columns - 1) + (n or 1)),
    "b": lambda screen, n, _: screen.repeat(n or 1),
    "d": lambda screen, n, _: screen.to_row((n or 1) - 1),
    "e": lambda screen, n, _: screen.move_rows(n or 1),
    "f": _to_position,
    "g": lambda screen, n, _: screen.clear_tabs(n == 3) if n in (0, 3) else None,
    "r": lambda screen, first, final: screen.set_margins((first or 1) - 1, (final or screen.lines) - 1),
}
"""What moves, erases and edits, by the final character; `n` is 0 where no number was given."""
