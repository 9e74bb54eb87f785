"""Which colours a terminal writes in, as far as they make text unreadable."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_RGB = tuple[int, int, int]
_LEVELS = (0, 95, 135, 175, 215, 255)
_BASE: tuple[_RGB, ...] = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255),
    (255, 255, 255),
)  # fmt: skip
"""The first 16 colours of xterm."""
_NEAR = 16
"""Two colours are one to the eye if no channel (0 to 255) differs by as much."""


class Colours(NamedTuple):
    """The state that SGR sequences set. `None` is the terminal's own colour, of which nothing is known."""

    hidden: bool = False
    foreground: _RGB | None = None
    background: _RGB | None = None

    @property
    def concealed(self) -> bool:
        """What is written cannot be read: it is hidden (SGR 8), or in the colour of its background."""
        if self.hidden:
            return True
        if self.foreground is None or self.background is None:
            return False
        return all(abs(a - b) < _NEAR for a, b in zip(self.foreground, self.background, strict=True))


PLAIN = Colours()


def select_colours(colours: Colours, parameters: str) -> Colours:
    """The colours after SGR with these parameters (`1;31`, `38;5;16`, `48:2::0:0:0`)."""
    return _select(colours, parameters) if len(parameters) < 100 else _select.__wrapped__(colours, parameters)


@lru_cache(maxsize=512)
def _select(colours: Colours, parameters: str) -> Colours:
    hidden, foreground, background = colours
    rest = iter(parameters.split(";"))
    for item in rest:
        parts = item.split(":")
        code = _byte(parts[0])
        if code == 0:
            hidden, foreground, background = PLAIN
        elif code in (8, 28):
            hidden = code == 8
        elif code in (38, 48):
            colour = _extended(iter(parts[1:]), True) if len(parts) > 1 else _extended(rest, False)
            foreground, background = (colour, background) if code == 38 else (foreground, colour)
        elif 30 <= code <= 39 or 90 <= code <= 97:
            foreground = None if code == 39 else _BASE[code - 30 if code < 40 else code - 82]
        elif 40 <= code <= 49 or 100 <= code <= 107:
            background = None if code == 49 else _BASE[code - 40 if code < 50 else code - 92]
    return Colours(hidden, foreground, background)


def _extended(rest: Iterator[str], colons: bool) -> _RGB | None:
    """The colour after 38 or 48: `5;INDEX` or `2;R;G;B` (with colons a colour space may stand before R)."""
    kind = next(rest, "")
    if kind == "5":
        return _indexed(_byte(next(rest, "")))
    if kind != "2":
        return None
    numbers = list(rest) if colons else [next(rest, "") for _ in range(3)]
    r, g, b = (_byte(number) for number in [*numbers[-3:], "", "", ""][:3])
    return r, g, b


def _indexed(index: int) -> _RGB:
    """A colour of the 256."""
    if index < 16:
        return _BASE[index]
    if index < 232:
        return _LEVELS[(index - 16) // 36], _LEVELS[(index - 16) // 6 % 6], _LEVELS[(index - 16) % 6]
    return (8 + 10 * (index - 232),) * 3


def _byte(text: str) -> int:
    return min(int(text), 255) if 0 < len(text) < 5 and text.isdecimal() else 255 if text else 0
