"""Text that a shell makes of a command's words, without their quotes and escapes, and where each piece was written."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tree_sitter import Node

from devnull.eval.suppression.constructs import Edit


class Piece(NamedTuple):
    """Some text, and the bytes that it was made of."""

    text: bytes
    start: int
    end: int


IN_DOUBLE_QUOTES = re.compile(rb'\\([$`"\\\n])')
IN_DOCUMENT = re.compile(rb"\\([$`\\\n])")
IN_C_STRING = re.compile(rb"\\(?:(x[0-9a-fA-F]{1,2}|[0-7]{1,4})|([abefnrtv\\'\"?]))")
"""Escapes that `$'...'`, `printf` and some `echo` know."""
_UNQUOTED = re.compile(rb"\\(.)", re.S)
_C_LETTERS = dict(zip(b"abefnrtv", b"\a\b\x1b\f\n\r\t\v", strict=True))


def unescape(text: bytes | bytearray, start: int, end: int, escapes: re.Pattern[bytes]) -> Iterator[Piece]:
    """What stands between two offsets, each escape as the character that it means."""
    at = start
    for match in escapes.finditer(bytes(text[start:end])):
        first, last = start + match.start(), start + match.end()
        yield Piece(bytes(text[at:first]), at, first)
        yield Piece(_escaped_character(match), first, last)
        at = last
    yield Piece(bytes(text[at:end]), at, end)


def _escaped_character(match: re.Match[bytes]) -> bytes:
    if match.re is not IN_C_STRING:
        return b"" if match[1] == b"\n" else match[1]
    if code := match[1]:
        return bytes([int(code[1:], 16) if code[:1] == b"x" else int(code, 8) & 255])
    return bytes([_C_LETTERS.get(match[2][0], match[2][0])])


def word_pieces(text: bytearray, base: int, word: Node) -> Iterator[Piece]:
    """A word without its quotes and escapes. `base`: offset in `text` of the code of the word's tree."""
    start, end = base + word.start_byte, base + word.end_byte
    match word.type:
        case "concatenation":
            for child in word.children:
                yield from word_pieces(text, base, child)
        case "raw_string":
            yield Piece(bytes(text[start + 1 : end - 1]), start + 1, end - 1)
        case "string":
            at = start + 1
            for child in word.named_children:
                if child.type != "string_content":
                    yield from unescape(text, at, base + child.start_byte, IN_DOUBLE_QUOTES)
                    yield from word_pieces(text, base, child)
                    at = base + child.end_byte
            yield from unescape(text, at, end - 1, IN_DOUBLE_QUOTES)
        case "translated_string":
            yield from unescape(text, start + 2, end - 1, IN_DOUBLE_QUOTES)
        case "ansi_c_string":
            yield from unescape(text, start + 2, end - 1, IN_C_STRING)
        case "word":
            yield from unescape(text, start, end, _UNQUOTED)
        case "command_substitution":  # no code of this text: it is read where it stands
            yield Piece(b"*", start, end)
        case _:
            yield Piece(bytes(text[start:end]), start, end)


def join_words(text: bytearray, base: int, words: Sequence[Node]) -> Iterator[Piece]:
    """Words with a blank between them, as `eval` and `echo` join them."""
    for i, word in enumerate(words):
        if i:
            yield Piece(b" ", base + words[i - 1].end_byte, base + word.start_byte)
        yield from word_pieces(text, base, word)


class DerivedText:
    """A command and, behind it, all text that was made of its pieces."""

    def __init__(self, command: bytes) -> None:
        self.text = bytearray(command)
        self._written = len(command)
        self._pieces: list[Piece] = []
        self._starts: list[int] = []

    def append(self, pieces: Iterable[Piece]) -> tuple[int, int]:
        """Offsets of the text that the pieces make: of the command itself, if that is how they stand there."""
        made = [piece for piece in pieces if piece.text]
        if made and all(_verbatim(piece) for piece in made) and all(a.end == b.start for a, b in pairwise(made)):
            return made[0].start, made[-1].end
        begin = len(self.text)
        for piece in made:
            self._starts.append(len(self.text))
            self._pieces.append(piece)
            self.text += piece.text
        return begin, len(self.text)

    def written(self, edit: Edit) -> tuple[Edit, ...]:
        """An edit of derived text as edits of the command. Quotes between the pieces stay."""
        if edit.start < self._written:
            return (edit,)
        spans = self._origins(edit.start, edit.end)
        if not spans:
            return ()
        if edit.after is not None:
            return (edit.model_copy(update={"start": spans[0][0], "end": spans[-1][1]}),)
        first, *others = spans
        return (
            edit.model_copy(update={"start": first[0], "end": first[1]}),
            *(Edit(start=s, end=e) for s, e in others),
        )

    def _origins(self, start: int, end: int) -> list[tuple[int, int]]:
        """Spans of the command of which a span of the text was made; those that touch are one."""
        if start < self._written:
            return [(start, end)]
        spans: list[tuple[int, int]] = []
        i = bisect_right(self._starts, start) - 1
        while i < len(self._starts) and self._starts[i] < end:
            piece, at = self._pieces[i], self._starts[i]
            first, last = piece.start, piece.end
            if _verbatim(piece):
                first, last = first + max(start - at, 0), first + min(end - at, len(piece.text))
            for span in self._origins(first, last) if first < last else ():
                if spans and spans[-1][1] == span[0]:
                    span = spans.pop()[0], span[1]
                spans.append(span)
            i += 1
        return spans


def _verbatim(piece: Piece) -> bool:
    return len(piece.text) == piece.end - piece.start
