"""What `echo` and `printf` print of their words."""

import re
from collections.abc import Sequence

from tree_sitter import Node

from devnull.eval.suppression.derived_text import IN_C_STRING, DerivedText, Piece, join_words, unescape, word_pieces
from devnull.eval.suppression.shell_syntax import node_text

_CONVERSION = re.compile(rb"%(?:%|[-+ #0]{0,5}[\d*]{0,9}(?:\.[\d*]{0,9})?[A-Za-z])")
_MOST_BYTES = 100_000
"""Of a format used over and over."""


def printed_words(name: str, arguments: Sequence[Node]) -> list[Node]:
    """The words that are printed: without the options `-n`, `-e` of `echo`, `--` of `printf`."""
    words = [*arguments]
    while words and re.fullmatch(r"-[neE]+" if name == "echo" else "--", node_text(words[0])):
        words = words[1:]
    return words


def printed_pieces(derived: DerivedText, base: int, name: str, words: Sequence[Node]) -> list[Piece]:
    """What `echo` or `printf` makes of the words. `base`: offset of the code of their tree."""
    text = derived.text
    if name == "echo":
        start, end = derived.append([*join_words(text, base, words)])
        return [*unescape(text, start, end, IN_C_STRING)]
    if not words:
        return []
    start, end = derived.append([*word_pieces(text, base, words[0])])
    return _format(text, start, end, [[*word_pieces(text, base, word)] for word in words[1:]])


def _format(text: bytearray, start: int, end: int, arguments: list[list[Piece]]) -> list[Piece]:
    """The format between two offsets, as often as it takes to use up the arguments."""
    conversions = [*_CONVERSION.finditer(bytes(text[start:end]))]
    made: list[Piece] = []
    waiting = [*reversed(arguments)]
    counted = size = 0
    while True:
        at, left = start, len(waiting)
        for match in conversions:
            made += unescape(text, at, start + match.start(), IN_C_STRING)
            at = start + match.end()
            if match[0] == b"%%":
                made.append(Piece(b"%", start + match.start(), at))
            elif waiting:
                made += waiting.pop()
        made += unescape(text, at, end, IN_C_STRING)
        size += sum(len(piece.text) for piece in made[counted:])
        counted = len(made)
        if not waiting or len(waiting) == left or size > _MOST_BYTES:
            for argument in reversed(waiting):
                made += [Piece(b"\n", end, end), *argument]
            return made
