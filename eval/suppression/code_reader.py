"""What is found in one command, and where in it the code that is being read lies."""

import re
from collections.abc import Callable
from typing import NamedTuple

from tree_sitter import Node

from devnull.eval.suppression.constructs import Construct, ConstructKind, Edit
from devnull.eval.suppression.heredocs import Heredoc
from devnull.eval.suppression.programs import MAY_HIDE
from devnull.eval.suppression.python_constructs import find_python_constructs
from devnull.eval.suppression.shell_syntax import (
    command_name,
    node_text,
    quoted_pieces,
    unescape_in_place,
    unquoted,
    unquoted_span,
    walk_tree,
)

_DEEPEST = 24
"""Levels of code inside code that are read."""
_MOST = 1000
"""Constructs of one command that are told apart."""


class Place(NamedTuple):
    """Where code lies in a command, in UTF-8 bytes, and how it is run."""

    start: int
    end: int
    lasting: bool = False
    """It is kept for later commands."""
    file: str = ""
    """A data file that holds it."""
    perhaps: str = ""
    """A file that holds it and whose name does not tell: what cannot be read in it acts only where it is run."""
    escapes: int = 0
    """Double quotes around it: what is written into it needs that many rounds of backslashes."""
    depth: int = 0

    def inside(self, start: int, end: int, *, escaped: bool = False) -> "Place":
        """The place of code within this one, by offsets from its start."""
        begin = self.start + start
        return self._replace(start=begin, end=self.start + end, escapes=self.escapes + escaped, depth=self.depth + 1)

    @property
    def dollar(self) -> str:
        """A `$` that reaches the shell of this code."""
        return "\\" * ((1 << self.escapes) - 1) + "$"


class Code(NamedTuple):
    """Shell code as its shell sees it, byte for byte where it lies in the command, and its here-documents."""

    place: Place
    text: bytes
    documents: dict[int, Heredoc]
    """By the offset of `<<`."""


class CodeReader:
    """Collects the constructs of one command."""

    def __init__(self, command: bytes, read_shell: Callable[["CodeReader", Place, bytes], None]) -> None:
        self.command, self._read_shell = command, read_shell
        self.found: list[Construct] = []
        self.roots: list[Node] = []
        """Trees whose assignments have not been looked at."""
        self._values: dict[str, bool] = {}
        """Variable to whether all that the command assigns to it is plain."""

    @property
    def full(self) -> bool:
        """So many constructs were found that the rest is left unread, and said to be opaque."""
        if len(self.found) == _MOST:
            self.add_opaque(Place(0, 0, lasting=True), "more constructs than are told apart")
        return len(self.found) > _MOST

    def add(self, place: Place, kind: ConstructKind, start: int, end: int, *, new: str = "", weak: bool) -> None:
        """A construct that stands between two offsets of `place`."""
        edit = Edit(start=place.start + start, end=place.start + end, new=new)
        self.add_edited(place, kind, start, end, (edit,), weak=weak)

    def add_edited(
        self, place: Place, kind: ConstructKind, start: int, end: int, edits: tuple[Edit, ...], *, weak: bool = False
    ) -> None:
        """The same, with the edits that remove it."""
        text = self.command[place.start + start : place.start + end].decode("utf-8", "replace")
        self.found.append(
            Construct(kind=kind, text=text, edits=edits, weak=weak, lasting=place.lasting, file=place.file)
        )

    def add_opaque(self, place: Place, text: str, *, file: str = "") -> None:
        """Code that cannot be read."""
        lasting = place.lasting or bool(file)
        self.found.append(
            Construct(
                kind="opaque", text=text[:2000], edits=(), lasting=lasting, file=file or place.file or place.perhaps
            )
        )

    def add_unparsed(self, place: Place) -> None:
        """Code that is no shell to the grammar: what looks like a redirection there is not taken apart."""
        code = self.command[place.start : place.end]
        if match := re.search(rb"2>(?!&[12]\b)|&>|>&\s?(?![12]\b)|\|&", code):
            self.add_opaque(place, code[match.start() : match.start() + 80].decode("utf-8", "replace"))

    def shell(self, place: Place, code: bytes | None = None) -> None:
        """Reads shell code; `code` as its shell sees it, byte for byte, where quotes changed it."""
        if place.depth > _DEEPEST:
            self.add_opaque(place, "code nested too deep to be read")
            return
        self._read_shell(self, place, self.command[place.start : place.end] if code is None else code)

    def python(self, place: Place, code: bytes | None = None) -> None:
        """Reads Python code."""
        code = self.command[place.start : place.end] if code is None else code
        place = place._replace(lasting=place.lasting or b"write" in code)
        for found in find_python_constructs(code.decode("utf-8", "replace")):
            if found.kind == "code":
                self.shell(place.inside(found.start, found.end, escaped=False))
            elif found.kind == "opaque":
                self.add_opaque(place, found.text)
            else:
                new = found.replacement
                self.add(place, found.kind, found.start, found.end, new=new, weak=found.weak)

    def other(self, place: Place) -> None:
        """Code of another language: opaque, unless it holds nothing that could hide."""
        code = self.command[place.start : place.end].decode("utf-8", "replace")
        if MAY_HIDE.search(code):
            self.add_opaque(place, code)

    def word(self, place: Place, word: Node, language: str, *, newlines: bool = False) -> None:
        """Reads the code that a word of a command holds between its quotes; opaque where it is expanded into it."""
        for piece in quoted_pieces(word):
            start, end = unquoted_span(piece)
            double = piece.type in ("string", "translated_string")
            inner = place.inside(start, end, escaped=double)
            code = self.command[inner.start : inner.end]
            if double or newlines or piece.type == "ansi_c_string":
                code = unescape_in_place(code, newlines=newlines or piece.type == "ansi_c_string")
            if language == "shell":
                self.shell(inner, code)
            elif language == "python":
                self.python(inner, code)
            else:
                self.other(inner)
        if self.expands(word):
            self.add_opaque(place, node_text(word))

    def expands(self, word: Node) -> bool:
        """Whether something that is not known to be plain text is expanded into the word."""
        return any(not self._plain(node) for node in walk_tree(word) if node.type in _EXPANSIONS)

    def expands_text(self, text: bytes) -> bool:
        """The same of a here-document."""
        found = re.findall(rb"(?<!\\)(?:\$\{?#?(\w+|[?#$!])|(\$\(|`))", text)
        return any(code or not self.plain_variable(name.decode("ascii", "replace")) for name, code in found)

    def _plain(self, expansion: Node) -> bool:
        if expansion.type == "command_substitution":
            inner = [child for child in expansion.named_children if child.type != "comment"]
            return len(inner) == 1 and command_name(inner[0]) in _PLAIN_PROGRAMS
        name = re.match(r"\$\{?#?(\w+|[?#$!])", node_text(expansion))
        return name is not None and self.plain_variable(name[1])

    def plain_variable(self, name: str) -> bool:
        """All that this command assigns to the variable is plain text; else it is one that shells keep plain."""
        while self.roots:
            for node in walk_tree(self.roots.pop()):
                self._note_assignment(node)
        return self._values.get(name, name in _PLAIN_VARIABLES)

    def _note_assignment(self, node: Node) -> None:
        if node.type == "variable_assignment":
            name, values = node.child_by_field_name("name"), [node.child_by_field_name("value")]
        elif node.type == "for_statement":
            name, values = node.child_by_field_name("variable"), list(node.children_by_field_name("value"))
        else:
            return
        if name is not None:
            plain = all(value is None or self._plain_value(value) for value in values)
            key = node_text(name)
            self._values[key] = plain and self._values.get(key, True)

    def _plain_value(self, value: Node) -> bool:
        if value.type == "command_substitution":
            return self._plain(value)
        return re.fullmatch(r"[\w./:@%+=,~ *-]*", unquoted(value)) is not None


_EXPANSIONS = ("simple_expansion", "expansion", "command_substitution", "process_substitution")
_PLAIN_VARIABLES = {"HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "HOSTNAME", "UID", "EUID", "PPID", "RANDOM", "SECONDS"}
_PLAIN_VARIABLES |= {"LINENO", "PATH", "LD_LIBRARY_PATH", "CUDA_HOME", "VIRTUAL_ENV", "TMPDIR", "?", "#", "$", "!"}
_PLAIN_PROGRAMS = {"pwd", "nproc", "date", "whoami", "id", "hostname", "uname", "dirname", "basename", "mktemp", "seq"}
_PLAIN_PROGRAMS |= {"realpath", "readlink", "arch", "tty", "getconf", "which"}
