"""Here-documents of shell code: where their bodies lie, and the code without them.

The grammar of the syntax tree loses its way in bodies that begin with a backslash, and in what stands behind `<<END` on
its line. So a here-document is read here, and the tree sees an ordinary `< file` and blank lines, byte for byte.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Heredoc(NamedTuple):
    """One here-document, by byte offsets of the code."""

    operator: int
    """Of `<<`."""
    start: int
    """Of its body."""
    end: int
    expanded: bool
    """The shell expands variables in it: its delimiter is not quoted."""


_SPECIAL = re.compile(rb"[\\'\"`$#<()\n}]")
_OPERATOR = re.compile(rb"<<(-?)[ \t]*((?:[\w.,:!@%^+=/*?{}\[\]~-]|'[^'\n]*'|\"[^\"\n]*\"|\\.)+)")


def split_heredocs(code: bytes) -> tuple[bytes, list[Heredoc]]:
    """Code of the same length in which here-documents are `< xxx` and their bodies blank, and these documents."""
    if b"<<" not in code:
        return code, []
    scanner = _Scanner(code)
    scanner.scan()
    text = bytearray(code)
    for document in scanner.found:
        text[document.start : document.end] = re.sub(rb"[^\n]", b" ", bytes(text[document.start : document.end]))
    for start, end in scanner.operators:
        text[start:end] = b"< " + b"x" * (end - start - 2)
    for start, end in scanner.endings:
        text[start:end] = b" " * (end - start)
    return bytes(text), scanner.found


def find_substitutions(body: bytes) -> Iterator[tuple[int, int]]:
    """Spans of `$(...)` and backquotes in a here-document that is expanded."""
    scanner = _Scanner(body)
    while match := _EXPANSION.search(body, scanner.at):
        scanner.at = match.end()
        if match[0][:1] == b"\\":
            continue
        scanner.step(match[0][:1], match.start())
        while scanner.stack and scanner.advance():
            pass
        yield match.start(), scanner.at


_EXPANSION = re.compile(rb"\\.|\$(?=\()|`", re.S)


class _Scanner:
    """One pass over the code; `stack` holds the quotes and brackets that are open."""

    def __init__(self, code: bytes) -> None:
        self.code, self.at = code, 0
        self.stack: list[bytes] = []
        self.found: list[Heredoc] = []
        self.operators: list[tuple[int, int]] = []
        self.endings: list[tuple[int, int]] = []
        self.waiting: list[tuple[int, bytes, bool, bool]] = []

    def scan(self) -> None:
        while self.advance():
            pass

    def advance(self) -> bool:
        """One step; false at the end."""
        if match := _SPECIAL.search(self.code, self.at):
            self.at = match.end()
            self.step(match[0], match.start())
        return match is not None

    def step(self, char: bytes, at: int) -> None:
        top = self.stack[-1] if self.stack else b""
        rest = self.code[self.at : self.at + 2]
        if char == b"\\":
            self.at += 1
        elif char == b'"':
            self.toggle(b'"')
        elif char == b"`":
            self.toggle(b"`")
        elif char == b"$" and rest[:1] in (b"(", b"{"):
            kind = b"((" if rest == b"((" else rest[:1]
            self.stack.append(kind)
            self.at += len(kind)
        elif top == b'"':
            return
        elif char == b"$" and rest[:1] == b"'":
            end = re.compile(rb"(?:[^'\\]|\\.)*'", re.S).match(self.code, self.at + 1)
            self.at = end.end() if end else len(self.code)
        elif char == b"'" and top not in (b"((", b"{"):
            end_of = self.code.find(b"'", self.at)
            self.at = end_of + 1 if end_of >= 0 else len(self.code)
        elif char == b"#" and (at == 0 or self.code[at - 1 : at] in b" \t\n;&|()"):
            line = self.code.find(b"\n", at)
            self.at = line if line >= 0 else len(self.code)
        elif char == b"(":
            self.stack.append(b"((" if rest[:1] == b"(" and top != b"((" else b"(")
            self.at += len(self.stack[-1]) - 1
        elif char == b")":
            if top == b"((" and rest[:1] == b")":
                self.at += 1
            if top in (b"(", b"(("):
                self.stack.pop()
        elif char == b"}":
            if top == b"{":
                self.stack.pop()
        elif char == b"<":
            self.operator(at, top)
        elif char == b"\n":
            self.bodies()

    def toggle(self, quote: bytes) -> None:
        if self.stack and self.stack[-1] == quote:
            self.stack.pop()
        else:
            self.stack.append(quote)

    def operator(self, at: int, top: bytes) -> None:
        if self.code[at : at + 3] == b"<<<":
            self.at = at + 3
        elif top != b"((" and (match := _OPERATOR.match(self.code, at)):
            word = match[2]
            delimiter = re.sub(rb"['\"\\]", b"", word)
            self.waiting.append((at, delimiter, bool(match[1]), delimiter == word))
            self.operators.append(match.span())
            self.at = match.end()

    def bodies(self) -> None:
        """The documents that begin on the next line."""
        for operator, delimiter, tabs, expanded in self.waiting:
            line = re.compile(rb"^" + (rb"\t*" if tabs else b"") + re.escape(delimiter) + rb"$", re.M)
            end = line.search(self.code, self.at)
            stop = end.start() if end else len(self.code)
            self.found.append(Heredoc(operator, self.at, stop, expanded))
            if end:
                self.endings.append(end.span())
            self.at = min(end.end() + 1, len(self.code)) if end else len(self.code)
        self.waiting = []
