"""What is found in one command, and where in it the code that is being read lies."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tree_sitter import Node

from devnull.eval.suppression.constructs import Construct, ConstructKind, Edit
from devnull.eval.suppression.derived_text import IN_C_STRING, DerivedText, Piece, join_words, unescape
from devnull.eval.suppression.heredocs import Heredoc
from devnull.eval.suppression.programs import MAY_HIDE
from devnull.eval.suppression.python_constructs import PythonConstruct, find_python_constructs
from devnull.eval.suppression.shell_syntax import (
    command_name,
    node_text,
    quoted_pieces,
    unquoted,
    walk_tree,
)

_DEEPEST = 24
"""Levels of code inside code that are read."""
_MOST = 1000
"""Constructs of one command that are told apart."""


class Place(NamedTuple):
    """Where code lies in a command, or in text made of it, in UTF-8 bytes, and how it is run."""

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
    mixed: bool = False
    """It is made of several words, not all in the same quotes: nothing can be written into it."""
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
    """Shell code as its shell sees it, and its here-documents."""

    place: Place
    text: bytes
    documents: dict[int, Heredoc]
    """By the offset of `<<`."""


class CodeReader:
    """Collects the constructs of one command."""

    def __init__(self, command: bytes, read_shell: Callable[["CodeReader", Place, bytes], None]) -> None:
        self.derived, self._read_shell = DerivedText(command), read_shell
        self.found: list[Construct] = []
        self.roots: list[Node] = []
        """Trees whose assignments have not been looked at."""
        self._values: dict[str, bool] = {}
        """Variable to whether all that the command assigns to it is plain."""

    @property
    def command(self) -> bytearray:
        """The command and, behind it, what is made of its words."""
        return self.derived.text

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
        if place.mixed and any(edit.after is not None for edit in edits):
            edits = (Edit(start=place.start + start, end=place.start + end),)
        text = self._text(place.start + start, place.start + end)
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

    def source(self, place: Place, node: Node) -> str:
        """Source of a node, as written: the tree holds no here-documents."""
        return self._text(place.start + node.start_byte, place.start + node.end_byte)

    def _text(self, start: int, end: int) -> str:
        return self.command[start:end].decode("utf-8", "replace")

    def add_unparsed(self, place: Place) -> None:
        """Code that is no shell to the grammar: what looks like a redirection there is not taken apart."""
        code = self.command[place.start : place.end]
        if match := re.search(rb"2>(?!&[12]\b)|&>|>&\s?(?![12]\b)|\|&", code):
            self.add_opaque(place, code[match.start() : match.start() + 80].decode("utf-8", "replace"))

    def derive(self, place: Place, pieces: Iterable[Piece], *, escaped: bool = False, mixed: bool = False) -> Place:
        """The place of code that is made of pieces of this one."""
        start, end = self.derived.append([*pieces])
        inner = place.inside(start - place.start, end - place.start, escaped=escaped)
        return inner._replace(mixed=place.mixed or mixed)

    def read(self, place: Place, language: str) -> None:
        """Reads code of a language: "shell", "python", "other"."""
        match language:
            case "shell":
                self.shell(place)
            case "python":
                self.python(place)
            case "other":
                self.other(place)

    def shell(self, place: Place) -> None:
        """Reads shell code."""
        if place.depth > _DEEPEST:
            self.add_opaque(place, "code nested too deep to be read")
            return
        known = len(self.found)
        self._read_shell(self, place, bytes(self.command[place.start : place.end]))
        for i, construct in enumerate(self.found[known:], known):
            edits = tuple(written for edit in construct.edits for written in self.derived.written(edit))
            self.found[i] = construct.model_copy(update={"edits": edits})

    def python(self, place: Place) -> None:
        """Reads Python code."""
        code = self._text(place.start, place.end)
        place = place._replace(lasting=place.lasting or "write" in code)
        for found in find_python_constructs(code):
            if found.kind == "code":
                self._python_string(place, found)
            elif found.kind == "opaque":
                self.add_opaque(place, found.text)
            else:
                new = found.replacement
                self.add(place, found.kind, found.start, found.end, new=new, weak=found.weak)

    def _python_string(self, place: Place, found: PythonConstruct) -> None:
        """Shell code in a string of Python code: within `$(...)` where Python takes its output."""
        start, end = place.start + found.start, place.start + found.end
        pieces = [*unescape(self.command, start, end, IN_C_STRING)]
        if found.captured:
            pieces = [Piece(b": $(", start, start), *pieces, Piece(b"\n)", end, end)]
        self.shell(self.derive(place, pieces))

    def other(self, place: Place) -> None:
        """Code of another language: opaque, unless it holds nothing that could hide."""
        code = self._text(place.start, place.end)
        if MAY_HIDE.search(code):
            self.add_opaque(place, code)

    def words(self, place: Place, words: Sequence[Node], language: str, pieces: Iterable[Piece] | None = None) -> None:
        """Reads the code that words of a command make, joined by blanks or as `pieces`; opaque where it is expanded
        into them."""
        if any(quoted_pieces(word) or b"\\" in (word.text or b"") for word in words) or len(words) > 1:
            made = join_words(self.command, place.start, words) if pieces is None else pieces
            double = words[0].type in ("string", "translated_string")
            mixed = len(words) > 1 or words[0].type in ("word", "concatenation")
            self.read(self.derive(place, made, escaped=double, mixed=mixed), language)
        for word in words:
            if self.expands(word):
                self.add_opaque(place, self.source(place, word))

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
