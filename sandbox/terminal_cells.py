"""Characters as the cells of a terminal: a string with one character for each cell, and back.

A cell may hold more than one code point (a letter with its accents), and a wide character takes two cells. Both are
stood for by characters of the private planes, so that a row of cells can be cut like any string.
"""

import re
import unicodedata

FILLER = "\ufdd0"
"""Second cell of a wide character."""
GAP = "\ufdd1"
"""Last cell of a row that a wide character had no room in: it reads as nothing."""
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point, for a class of a regular expression: what no font shows."""
UNREADABLE = "\ufdd0-\ufdef\ud800-\udfff\U000f0000-\U0010ffff"
"""Private planes, surrogates and noncharacters: nobody knows what they look like. They read as U+FFFD."""

_MARK = "\ufdd2"  # precedes each character that joins the one before it
_WIDE, _NARROW = 0xF0000, 0x100000
"""Where the characters begin that stand for wide cells, and for narrow ones with accents."""
_ROOM = 0xFFFF
"""Different wide characters, and different narrow ones with accents, that are told apart on one screen."""
_MAX_MARKS = 8
"""Accents kept of one cell."""
_IS_IGNORABLE = re.compile(f"[{IGNORABLE}]")
_IS_UNREADABLE = re.compile(f"[{UNREADABLE}]")
_MARKED = re.compile(f"([^{_MARK}]{FILLER}?)((?:{_MARK}.)+)", re.DOTALL)
_LEADING_MARKS = re.compile(f"(?:{_MARK}.)+", re.DOTALL)


class Cells(dict[int, int | str | None]):
    """The cells that characters take, by code point (a table for `str.translate`), as one screen meets them."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[str, bool], str] = {}
        self._originals: dict[int, str | None] = {ord(FILLER): None, ord(GAP): None}

    def __missing__(self, code: int) -> int | str | None:
        character = chr(code)
        cell: int | str | None = code
        if _IS_IGNORABLE.match(character):
            cell = None
        elif _IS_UNREADABLE.match(character):
            cell = "\ufffd"
        elif (category := unicodedata.category(character)) in ("Mn", "Me"):
            cell = _MARK + character
        elif category in ("Zl", "Zp"):
            cell = " "
        elif unicodedata.east_asian_width(character) in ("W", "F"):
            cell = self._cell(character, True) + FILLER
        self[code] = cell
        return cell

    def split(self, text: str) -> tuple[str, str]:
        """(accents that belong to the cell before the text, cells of the text). The text has no control characters."""
        if text.isascii():
            return "", text
        cells = text.translate(self)
        if _MARK not in cells:
            return "", cells
        lead = _LEADING_MARKS.match(cells)
        start = lead.end() if lead else 0
        return cells[:start].replace(_MARK, ""), _MARKED.sub(self._merge, cells[start:])

    def accent(self, cell: str, marks: str) -> str:
        """The cell with more accents."""
        text = self._originals.get(ord(cell)) or cell
        marks = marks[: max(0, _MAX_MARKS + 1 - len(text))]
        return self._cell(text + marks, is_wide(cell)) if marks else cell

    def join(self, cells: str) -> str:
        """The text that cells stand for."""
        return cells if cells.isascii() else cells.translate(self._originals)

    def _merge(self, match: re.Match[str]) -> str:
        return self.accent(match[1][0], match[2].replace(_MARK, "")) + match[1][1:]

    def _cell(self, text: str, wide: bool) -> str:
        """The private character that stands for a text."""
        if (text, wide) not in self._known:
            if len(self._known) >= _ROOM:
                return chr(_WIDE) if wide else text[0]
            code = (_WIDE if wide else _NARROW) + len(self._known)
            self._known[text, wide] = chr(code)
            self._originals[code] = text
        return self._known[text, wide]


def is_wide(cell: str) -> bool:
    """The cell is the first of a wide character; the empty string is not."""
    return "\U000f0000" <= cell < "\U00100000"


def before(row: str, x: int) -> str:
    """The cells of a row before column `x`, with a blank for half of a wide character."""
    part = row[:x]
    return part if part.isascii() or not is_wide(part[-1:]) else part[:-1] + " "


def after(row: str, x: int) -> str:
    """The cells of a row from column `x` on, with a blank for half of a wide character."""
    part = row[x:]
    return part if part[:1] != FILLER else " " + part[1:]
