"""Makes text of an agent safe to print: control characters, which could steer a terminal or a page, become visible."""

import re
import unicodedata

_SUSPECT = re.compile(r"[^\t\n\x20-\x7e\xa1-\xac\xae-\xff]")
"""Characters that may need escaping: all but tabs, newlines, printable ASCII and Latin-1."""


def escape_controls(text: str) -> str:
    """The text with every control character as a visible mark: `␛[31m`, `␍`, `⟨U+202E⟩`.

    Nothing is left out but the earlier states of a progress bar, so that text that was overwritten or coloured to be
    invisible can be read. A lone carriage return ends a line; bidirectional controls, invisible and unassigned
    characters appear by their code points.

    >>> escape_controls("\\x1b[31mred")
    '␛[31mred'
    """
    if _SUSPECT.search(text) is None:
        return text
    lines = [_split_redraws(line) if "\r" in line else line for line in text.replace("\r\n", "\n").split("\n")]
    return _SUSPECT.sub(lambda match: _format_character(match[0]), "\n".join(lines))


def _split_redraws(line: str) -> str:
    """A line for each state that a carriage return overwrote; states that begin alike are one progress bar."""
    kept: list[tuple[str, int]] = []
    for state in line.split("\r"):
        if kept and len(state) >= _SAME_START and kept[-1][0][:_SAME_START] == state[:_SAME_START]:
            kept[-1] = (state, kept[-1][1] + 1)
        else:
            kept.append((state, 1))
    return "␍\n".join(state + (f" ⟨redrawn {times} times⟩" if times > 1 else "") for state, times in kept)


_SAME_START = 8
"""States of a line that agree in so many first characters are one progress bar."""


def _format_character(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    category = unicodedata.category(character)
    return f"⟨U+{code:04X}⟩" if category[0] == "C" or category in ("Zl", "Zp") else character


def escape_markdown(text: str) -> str:
    """Text of an agent for a line of Markdown: no markup, no HTML, no link, and no end of a table's cell."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", escape_controls(text).replace("\n", " "))


def clip_middle(text: str, limit: int) -> str:
    """At most `limit` characters of the text; the middle is replaced by a line that says how many are missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n⟨{len(text) - 2 * half:,} characters left out⟩\n{text[len(text) - half :]}"
