"""Finds the possible hiding constructs of a shell command in its syntax tree.

A construct only *may* hide something; whether it did, the oracle finds out by a replay. Code inside code is
searched too: `bash -c`, `eval`, here-documents and strings written to scripts, functions, aliases, Python.
"""

import re
from functools import lru_cache
from itertools import islice, pairwise

from tree_sitter import Node

from devnull.eval.suppression.argument_code import read_code_in_command
from devnull.eval.suppression.code_reader import Code, CodeReader, Place
from devnull.eval.suppression.constructs import Construct, ConstructKind, Edit, Label
from devnull.eval.suppression.heredocs import split_heredocs
from devnull.eval.suppression.programs import FILTERS, PAGERS, PYTHONS
from devnull.eval.suppression.quiet_flags import find_quiet_flags, quiet_variable
from devnull.eval.suppression.redirections import find_redirections, joins_stderr
from devnull.eval.suppression.shell_syntax import (
    COMPOUND,
    MOST_PIPES,
    command_name,
    command_words,
    file_redirects,
    inner_command,
    node_text,
    parse_shell,
    program_name,
    redirect_parts,
    redirected_command,
    strip_wrappers,
    unquoted,
    walk_tree,
)
from devnull.eval.suppression.stdin_code import read_code_in_heredocs, read_piped_code


@lru_cache(maxsize=4096)
def find_constructs(command: str) -> tuple[Construct, ...]:
    """All possible hiding constructs, in the order in which they stand; those without an edit (`opaque`) first."""
    reader = CodeReader(command.encode("utf-8", "surrogatepass"), _read_shell)
    try:
        reader.shell(Place(start=0, end=len(reader.command)))
    except (RecursionError, MemoryError):
        return (Construct(kind="opaque", text="code nested too deep to be read", edits=()),)
    unique = {(construct.text, construct.edits): construct for construct in reader.found}
    return tuple(sorted(unique.values(), key=lambda construct: construct.edits[0].start if construct.edits else -1))


def label_command(command: str) -> Label:
    """What the command may do to messages, by its strongest construct.

    Example:
        >>> [label_command(c) for c in ("make 2>/dev/null", "bash -c $X", "make | tail -1", "make")]
        ['strong', 'opaque', 'weak', 'none']
    """
    labels = {construct.label for construct in find_constructs(command) if construct.acts_in(command)}
    return next((label for label in ("strong", "opaque", "weak") if label in labels), "none")


def _read_shell(reader: CodeReader, place: Place, code: bytes) -> None:
    plain, documents = split_heredocs(code)
    if plain.count(b"|") > MOST_PIPES:
        reader.add_opaque(place, "more pipes than are taken apart")
        return
    _TreeWalk(reader, Code(place, code, {each.operator: each for each in documents})).walk(parse_shell(plain))


class _TreeWalk:
    """One pass over one tree; offsets are of the whole command, however deep the code lies."""

    def __init__(self, reader: CodeReader, code: Code) -> None:
        self.reader, self.code, self.place = reader, code, code.place
        self.statements: dict[int, Node] = {}
        """Id of a command to the outermost statement whose redirections it takes."""

    def walk(self, root: Node) -> None:
        self.reader.roots.append(root)
        if root.has_error:
            self.reader.add_unparsed(self.place)
        waiting: list[tuple[Node, Node | None, bool, bool]] = [(root, None, False, self.place.lasting)]
        while waiting and not self.reader.full:
            node, parent, captured, lasting = waiting.pop()
            self.place = self.place._replace(lasting=lasting)
            self.code = self.code._replace(place=self.place)
            inner = self.visit(node, parent, captured)
            lasting = lasting or node.type == "function_definition"
            waiting += [(child, node, inner, lasting) for child in reversed(node.children)]

    def visit(self, node: Node, parent: Node | None, captured: bool) -> bool:
        """Finds what the node itself holds. Returns whether the stdout of what is below it goes into a variable, a
        file or another command."""
        match node.type:
            case "redirected_statement":
                if (body := node.child_by_field_name("body")) is not None:
                    self.statements.setdefault(redirected_command(body).id, node)
                captured = find_redirections(self.reader, self.place, node, captured) or captured
                read_code_in_heredocs(self.reader, self.code, node)
            case "function_definition":
                find_redirections(self.reader, self.place._replace(lasting=True), node, captured)
            case "pipeline":
                self.pipeline(node)
            case "list":
                self.status(node)
            case "command":
                self.command(node, parent, captured)
            case "variable_assignment":
                self.variable(node, parent)
            case "&" if parent is None or parent.type not in ("binary_expression", "ERROR"):
                self.add("background", node, new="& wait $!;", weak=True)
            case "command_substitution":
                return True
            case "process_substitution":
                return captured or node_text(node.children[0]) == "<("
        return captured

    def add(self, kind: ConstructKind, first: Node, last: Node | None = None, *, new: str = "", weak: bool) -> None:
        self.reader.add(self.place, kind, first.start_byte, (last or first).end_byte, new=new, weak=weak)

    def pipeline(self, node: Node) -> None:
        """Filters at the end of a pipe, and shells that read code from one."""
        merged = False
        bar: Node | None = None
        previous: Node | None = None
        for stage in node.children:
            if not stage.is_named:
                bar = stage
                continue
            if bar is not None:
                merged = merged or bar.type == "|&" or (previous is not None and _passes_stderr(previous))
                self.stage(bar, stage, merged)
                if previous is not None:
                    read_piped_code(self.reader, self.code, previous, stage)
            previous = stage

    def stage(self, bar: Node, stage: Node, merged: bool) -> None:
        """A program that reads a pipe. `merged`: stderr comes down the pipe too."""
        command = inner_command(stage)
        name = command_name(stage)
        drops = name == "cat" and any(redirect_parts(each)[2] == "/dev/null" for each in file_redirects(stage))
        reads_lines = PYTHONS.match(name) and any(unquoted(word) == "-c" for word in command_words(stage))
        if FILTERS.fullmatch(name) or name in PAGERS or command.type in COMPOUND or drops or reads_lines:
            self.add("pipe", bar, stage, weak=not merged or name in PAGERS)

    def status(self, node: Node) -> None:
        """`|| true` and its like."""
        for operator, right in pairwise(node.children):
            if operator.type == "||" and re.fullmatch(r"true|:|exit 0|return 0|/bin/true", node_text(right).strip()):
                self.add("status", operator, right, weak=True)

    def command(self, node: Node, parent: Node | None, captured: bool) -> None:
        """Flags that silence; code in arguments; what detaches."""
        if file_redirects(node):
            find_redirections(self.reader, self.place, node, captured)
            read_code_in_heredocs(self.reader, self.code, node)
        words = command_words(self.statements.get(node.id, node))
        for word in (word for word in words[:3] if program_name(word) in ("nohup", "coproc")):
            self.add("background", word, weak=True)
        read_code_in_command(self.reader, self.place, node, parent, words)
        words = strip_wrappers(words)
        if words and program_name(words[0]) == "start-stop-daemon":
            for option in (word for word in words if node_text(word) in ("-b", "--background")):
                self.add("background", option, weak=True)
        for flag in find_quiet_flags([unquoted(word) for word in words]):
            self.add("quiet", words[flag.first], words[flag.last], new=flag.new, weak=flag.weak)

    def variable(self, node: Node, parent: Node | None) -> None:
        """`PIP_QUIET=1`, alone, exported or before a command."""
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None or value is None or not quiet_variable(node_text(name), unquoted(value)):
            return
        lasting = self.place.lasting or parent is None or parent.type != "command"
        edit = Edit(start=self.place.start + value.start_byte, end=self.place.start + value.end_byte)
        self.reader.found.append(
            Construct(kind="quiet", text=node_text(node), edits=(edit,), weak=True, lasting=lasting)
        )


def _passes_stderr(stage: Node) -> bool:
    """The stderr of a stage, or of a command in it, goes down its pipe."""
    if stage.type == "redirected_statement" and joins_stderr(file_redirects(stage)):
        return True
    if inner_command(stage).type not in COMPOUND:
        return False
    return any(
        redirect_parts(node)[0] == "2" and redirect_parts(node)[2] == "1"
        for node in islice(walk_tree(stage), 2000)
        if node.type == "file_redirect"
    )
