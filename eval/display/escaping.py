"""Text of an agent made harmless and legible: what could steer a terminal or a page is drawn as a mark."""

import re
import unicodedata

_STEERING = re.compile(r"[^\t\n\x20-\x7e\xa1-\xac\xae-\xff]")
"""Everything worth a second look: all but tabs, newlines, printable ASCII and Latin-1."""


def visible(text: str) -> str:
    """The text with every control character drawn: `␛[31m`, `␍`, `⟨U+202E⟩`.

    Nothing is left out but the earlier states of a progress bar, so that text that was painted over or
    coloured away can be read. A lone carriage return ends a line; bidirectional controls, invisible and
    unassigned characters appear by their numbers.
    """
    lines = [_redrawn(line) if "\r" in line else line for line in text.replace("\r\n", "\n").split("\n")]
    return _STEERING.sub(lambda found: _mark(found[0]), "\n".join(lines))


def _redrawn(line: str) -> str:
    """A line that carriage returns took back to its beginning; states that begin alike are one progress bar."""
    kept: list[tuple[str, int]] = []
    for state in line.split("\r"):
        if kept and len(state) >= _ALIKE and kept[-1][0][:_ALIKE] == state[:_ALIKE]:
            kept[-1] = (state, kept[-1][1] + 1)
        else:
            kept.append((state, 1))
    return "␍\n".join(state + (f" ⟨redrawn {times} times⟩" if times > 1 else "") for state, times in kept)


_ALIKE = 8


def _mark(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    category = unicodedata.category(character)
    return f"⟨U+{code:04X}⟩" if category[0] == "C" or category in ("Zl", "Zp") else character


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters of text, the middle replaced by a line that says how much is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n⟨{len(text) - 2 * half:,} characters left out⟩\n{text[len(text) - half :]}"
