"""Finds the possible hiding constructs of a shell command in its syntax tree.

A construct only *may* hide something; whether it did, the oracle finds out by a replay. Code inside code is
searched too: `bash -c`, `eval`, here-documents and strings written to scripts, functions, aliases, Python.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from tree_sitter import Node

from devnull.eval.suppression.constructs import Construct, ConstructKind, Edit
from devnull.eval.suppression.programs import (
    AWKS,
    DATA_FILES,
    DECODERS,
    DETACHERS,
    FILTERS,
    OPAQUE_INTERPRETERS,
    PYTHONS,
    SHELL_STRING_RUNNERS,
    SHELLS,
    VISIBLE_TARGETS,
    WRAPPERS,
    WRITERS,
)
from devnull.eval.suppression.python_constructs import find_python_constructs, find_shell_redirects
from devnull.eval.suppression.quiet_flags import find_silencing_flags
from devnull.eval.suppression.shell_syntax import (
    COMPOUND,
    argument_nodes,
    command_name,
    file_redirects,
    inner_command,
    node_text,
    parse_shell,
    program_name,
    quoted_spans,
    redirect_parts,
    stdout_program,
    strip_wrapper,
    unquoted,
    unquoted_span,
)


@lru_cache(maxsize=4096)
def find_constructs(command: str) -> tuple[Construct, ...]:
    """All possible hiding constructs, in the order in which they stand; those without an edit (`opaque`) first."""
    try:
        found = list(_CodeReader(command.encode("utf-8", "surrogatepass")).shell(0, None))
    except (RecursionError, MemoryError):
        return (Construct(kind="opaque", text="code nested too deep to be read", edits=()),)
    unique = {(construct.text, construct.edits): construct for construct in found}
    return tuple(sorted(unique.values(), key=lambda construct: construct.edits[0].start if construct.edits else -1))


class _CodeReader:
    """Finds constructs in one command; offsets are always of the whole command, however deep the code lies."""

    def __init__(self, command: bytes) -> None:
        self.command = command

    def shell(self, start: int, end: int | None, lasting: bool = False) -> Iterator[Construct]:
        """Constructs of shell code that stands between two offsets."""
        code = self.command[start:end]
        yield from _TreeWalk(self, start, lasting).node(parse_shell(code), False)

    def python(self, start: int, end: int | None, lasting: bool = False) -> Iterator[Construct]:
        """Constructs of Python code that stands between two offsets."""
        code = self.command[start:end]
        lasting = lasting or b"write" in code
        for edit_start, edit_end, new, text in find_python_constructs(code.decode("utf-8", "replace")):
            if new is None:
                yield Construct(kind="opaque", text=text, edits=(), lasting=lasting)
            else:
                edit = Edit(start=start + edit_start, end=start + edit_end, new=new)
                yield Construct(kind="except", text=text, edits=(edit,), lasting=lasting)


class _TreeWalk:
    """One pass over one tree."""

    def __init__(self, reader: _CodeReader, base: int, lasting: bool) -> None:
        self.reader, self.base, self.lasting = reader, base, lasting

    def node(self, node: Node, captured: bool) -> Iterator[Construct]:
        """Constructs in and below a node. `captured`: its stdout goes into a variable or another command."""
        match node.type:
            case "redirected_statement":
                yield from self.redirects(node, captured)
            case "pipeline":
                yield from self.pipeline(node)
            case "list":
                yield from self.status(node)
            case "command":
                yield from self.command(node)
            case "&" if node.parent is None or node.parent.type != "binary_expression":
                yield self.construct("background", node, new="& wait $!;")
            case "function_definition":
                inner = _TreeWalk(self.reader, self.base, True)
                yield from inner.redirects(node, captured)
                for child in node.children:
                    yield from inner.node(child, captured)
                return
        captured = (
            captured
            or node.type == "command_substitution"
            or node_text(node.children[0] if node.children else node) == "<("
        )
        for child in node.children:
            yield from self.node(child, captured)

    def construct(
        self, kind: ConstructKind, first: Node, last: Node | None = None, *, new: str = "", lasting: bool = False
    ) -> Construct:
        start, end = self.base + first.start_byte, self.base + (last or first).end_byte
        edit = Edit(start=start, end=end, new=new)
        return Construct(
            kind=kind,
            text=self.reader.command[start:end].decode("utf-8", "replace"),
            edits=(edit,),
            lasting=lasting or self.lasting,
        )

    def redirects(self, statement: Node, captured: bool) -> Iterator[Construct]:
        """`2>`, `&>`, `2>&-`, `>/dev/null 2>&1`, in the order in which the shell makes them."""
        body = statement if statement.type == "command" else statement.child_by_field_name("body")
        name = command_name(body) if body is not None else ""
        permanent = name == "exec" and body is not None and not body.children_by_field_name("argument")
        away = captured
        for redirect in file_redirects(statement):
            descriptor, operator, target = redirect_parts(redirect)
            if operator.startswith("<") and descriptor != "2":
                continue
            both = operator.startswith("&") or (
                operator == ">&" and not re.fullmatch(r"\d+|-|", target) and not descriptor
            )
            seen = target in VISIBLE_TARGETS
            if both and not seen:
                yield self.construct("stderr", redirect, lasting=permanent)
            elif descriptor == "2" and target == "1":
                if away:
                    yield self.construct("stderr", redirect, lasting=permanent)
            elif descriptor == "2" and not seen and target != "2":
                yield self.construct("stderr", redirect, lasting=permanent)
            elif descriptor in ("", "1") and not seen and target not in ("1", "2"):
                away = True
                file = target.rsplit("/", 1)[-1]
                if stdout_program(body) in DECODERS and target != "/dev/null" and not DATA_FILES.search(file):
                    text = node_text(redirect)
                    yield Construct(kind="opaque", text=text, edits=(), lasting=True, file=file)
                elif target == "/dev/null" or operator.endswith("-") or name not in WRITERS:
                    yield self.construct("output", redirect, lasting=permanent)
            elif descriptor in ("", "1") and target in ("2", "/dev/stderr", "/dev/tty"):
                away = False
        yield from self.written(statement, body, name)

    def written(self, statement: Node, body: Node | None, name: str) -> Iterator[Construct]:
        """Code in here-documents and in strings, given to an interpreter or written to a file."""
        if body is None:
            return
        targets = [target for _, operator, target in map(redirect_parts, file_redirects(statement)) if ">" in operator]
        for heredoc in (child for child in statement.children if child.type == "heredoc_redirect"):
            text = next((child for child in heredoc.children if child.type == "heredoc_body"), None)
            if text is None:
                continue
            piped = [n for n in heredoc.children if n.type in ("pipeline", "list")]
            names = [command_name(c) for n in piped for c in n.children if c.type == "command"]
            reads = [name, *names]
            start, end = self.base + text.start_byte, self.base + text.end_byte
            if any(PYTHONS.match(each) for each in reads):
                yield from self.reader.python(start, end, self.lasting)
            elif any(each in SHELLS for each in reads):
                yield from self.reader.shell(start, end, self.lasting)
            elif name in ("cat", "tee", "install", "dd"):
                files = targets + [unquoted(argument) for argument in argument_nodes(body)]
                code = self.reader.command[start:end]
                yield from self.script(start, end, files, code)
        if name in ("echo", "printf") and targets:
            for argument in argument_nodes(body):
                for start, end in quoted_spans(argument):
                    code = self.reader.command[self.base + start : self.base + end]
                    yield from self.script(self.base + start, self.base + end, targets, code)

    def script(self, start: int, end: int, files: list[str], code: bytes) -> Iterator[Construct]:
        """Code that is written to a file, to be run later."""
        if any(file.endswith(".py") for file in files) or re.match(rb"#!.*python", code):
            yield from self.reader.python(start, end, True)
        elif not any(DATA_FILES.search(file) for file in files):
            yield from self.reader.shell(start, end, True)

    def pipeline(self, node: Node) -> Iterator[Construct]:
        """Filters at the end of a pipe, and shells that read code from one."""
        stages = [child for child in node.children if child.is_named]
        bars = [child for child in node.children if child.type in ("|", "|&")]
        for i, stage in enumerate(stages):
            if i == 0 or i > len(bars):
                continue
            name = command_name(stage)
            takes_code = name in SHELLS and not argument_nodes(inner_command(stage))
            words = {unquoted(word) for word in argument_nodes(inner_command(stage))}
            takes_python = PYTHONS.match(name) and words <= {"-"}
            reads_lines = PYTHONS.match(name) and "-c" in words
            drops = name == "cat" and any(
                redirect_parts(redirect)[2] == "/dev/null" for redirect in file_redirects(stage)
            )
            if FILTERS.fullmatch(name) or inner_command(stage).type in COMPOUND or drops or reads_lines:
                yield self.construct("pipe", bars[i - 1], stage)
            elif takes_code or takes_python:
                yield from self.piped_code(stages[i - 1])

    def piped_code(self, source: Node) -> Iterator[Construct]:
        if command_name(source) in ("echo", "printf"):
            for argument in argument_nodes(inner_command(source)):
                for start, end in quoted_spans(argument):
                    yield from self.reader.shell(self.base + start, self.base + end, self.lasting)
        else:
            yield Construct(kind="opaque", text=node_text(source), edits=(), lasting=self.lasting)

    def status(self, node: Node) -> Iterator[Construct]:
        """`|| true` and its like."""
        children = node.children
        for operator, right in pairwise(children):
            if operator.type == "||" and re.fullmatch(r"true|:|exit 0|return 0|/bin/true", node_text(right).strip()):
                yield self.construct("status", operator, right)

    def command(self, node: Node) -> Iterator[Construct]:
        """Flags that silence errors; code in arguments; what detaches."""
        if file_redirects(node):
            yield from self.redirects(node, False)
        words = [child for child in node.children if child.type not in ("variable_assignment", "file_redirect")]
        words = [child.children[0] if child.type == "command_name" and child.children else child for child in words]
        if words and program_name(words[0]) in SHELL_STRING_RUNNERS:
            for word in words[1:]:
                if word.type in ("raw_string", "string", "concatenation"):
                    for start, end in quoted_spans(word):
                        yield from self.reader.shell(self.base + start, self.base + end, self.lasting)
        while words and program_name(words[0]) in WRAPPERS:
            if program_name(words[0]) == "nohup":
                yield self.construct("background", words[0])
            words = strip_wrapper(words)
        if not words:
            return
        name = program_name(words[0])
        values = [unquoted(word) for word in words]
        for position, new in find_silencing_flags(values):
            yield self.construct("quiet", words[position], new=new)
        if name in SHELLS or PYTHONS.match(name):
            yield from self.inline(name, words, values)
        elif name in ("eval", "alias", "trap"):
            for word in words[1:]:
                spans = quoted_spans(word)
                for start, end in spans:
                    begin = (
                        self.reader.command.find(b"=", self.base + start) + 1 - self.base
                        if name == "alias" and word.type == "word"
                        else start
                    )
                    yield from self.reader.shell(self.base + begin, self.base + end, self.lasting or name == "alias")
                if name == "eval" and re.search(r"[$`]", node_text(word)):
                    yield Construct(kind="opaque", text=node_text(node), edits=(), lasting=self.lasting)
        elif (
            name in OPAQUE_INTERPRETERS and (OPAQUE_INTERPRETERS[name] in values or not OPAQUE_INTERPRETERS[name])
        ) or name in DETACHERS:
            yield Construct(kind="opaque", text=node_text(node), edits=(), lasting=self.lasting)
        elif name in AWKS:
            yield from self.awk(words[1:])
        elif name == "find" and "-exec" in " ".join(values):
            for word in words[1:]:
                for start, end in quoted_spans(word):
                    yield from self.reader.shell(self.base + start, self.base + end, self.lasting)
        elif name in ("source", ".") and any(word.type == "process_substitution" for word in words[1:]):
            yield Construct(kind="opaque", text=node_text(node), edits=(), lasting=self.lasting)

    def awk(self, words: list[Node]) -> Iterator[Construct]:
        """Redirections in the commands of an awk program; commands that it puts together itself."""
        for start, end in (span for word in words for span in quoted_spans(word)):
            code = self.reader.command[self.base + start : self.base + end]
            for edit_start, edit_end, new, text in find_shell_redirects(code, 0, len(code)):
                edit = Edit(start=self.base + start + edit_start, end=self.base + start + edit_end, new=new or "")
                yield Construct(kind="stderr", text=text, edits=(edit,), lasting=self.lasting)
            if re.search(rb"system\s*\(\s*[^\s\"]", code):
                yield Construct(kind="opaque", text=code.decode("utf-8", "replace"), edits=(), lasting=self.lasting)

    def inline(self, name: str, words: list[Node], values: list[str]) -> Iterator[Construct]:
        """`bash -c CODE`, `python3 -c CODE`."""
        if name in SHELLS and any(word.type == "process_substitution" for word in words[1:]):
            yield Construct(kind="opaque", text=node_text(words[1]), edits=(), lasting=self.lasting)
        flag = next((i for i, value in enumerate(values) if i and re.fullmatch(r"-[a-z]*c", value)), None)
        if flag is None or flag + 1 >= len(words):
            return
        word = words[flag + 1]
        spans = list(quoted_spans(word)) if name in SHELLS else [unquoted_span(word)]
        if not spans or (
            word.type in ("string", "concatenation")
            and re.search(r"[$`]", node_text(word))
            and len(node_text(word)) < 12
        ):
            yield Construct(kind="opaque", text=node_text(word), edits=(), lasting=self.lasting)
        for start, end in spans:
            read = self.reader.shell if name in SHELLS else self.reader.python
            yield from read(self.base + start, self.base + end, self.lasting)
