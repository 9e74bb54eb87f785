"""Code that a command hands on by stdin or writes to a file: here-documents, `echo ... | sh`, `echo ... > run.sh`."""

import re
from collections.abc import Iterator
from itertools import islice, takewhile

from tree_sitter import Node

from devnull.eval.suppression.code_reader import Code, CodeReader, Place
from devnull.eval.suppression.derived_text import IN_DOCUMENT, Piece, unescape
from devnull.eval.suppression.heredocs import Heredoc, find_substitutions
from devnull.eval.suppression.printed_text import printed_pieces, printed_words
from devnull.eval.suppression.programs import (
    OTHER_INTERPRETERS,
    PYTHONS,
    SCRIPT_FILES,
    SHELL_STDIN_RUNNERS,
    SHELLS,
)
from devnull.eval.suppression.redirections import written_files
from devnull.eval.suppression.shell_syntax import (
    COMPOUND,
    command_name,
    command_words,
    file_redirects,
    inner_command,
    node_text,
    program_name,
    quoted_pieces,
    redirect_parts,
    redirected_command,
    strip_wrappers,
    unquoted,
    walk_tree,
)


def code_language(name: str) -> str:
    """What language a program reads: "shell", "python", "other"; empty if it is no interpreter."""
    if name in SHELLS:
        return "shell"
    return "python" if PYTHONS.match(name) else "other" if OTHER_INTERPRETERS.match(name) else ""


def words_after_options(words: list[Node], taking: str) -> list[Node]:
    """Words from the first that is no option; `taking`: letters of options that take an argument."""
    rest = words
    while rest and node_text(rest[0]).startswith("-"):
        option = re.fullmatch(r"-[A-Za-z0-9]*([A-Za-z])", node_text(rest[0]))
        rest = rest[2 if option and option[1] in taking else 1 :]
    return rest


def stdin_language(command: Node) -> str:
    """What a command, or one within it, reads as code from stdin, or from a descriptor that it is given: "shell",
    "python", "other"; empty if it reads data."""
    inner = inner_command(command)
    if inner.type in COMPOUND:
        return next((language for node in _unfed_commands(inner) if (language := stdin_language(node))), "")
    words = command_words(command)
    if not words:
        return ""
    if program_name(words[0]) in ("sudo", "doas"):
        flags = [*takewhile(lambda word: node_text(word).startswith("-"), words[1:])]
        if any(re.fullmatch(r"-[A-Za-z]*[is]", node_text(flag)) for flag in flags) and len(flags) == len(words) - 1:
            return "shell"
    if re.fullmatch(r"(?:g?cc|clang|tcc|[gc]\+\+)", program_name(words[0])):
        return "other" if any(node_text(word) == "-" for word in words) else ""
    if _sourced_descriptor(words) or (unquoted(words[0]) == "exec" and len(words) == 1):
        return "shell"
    texts = [unquoted(word) for word in words]
    for i, word in enumerate(words):
        name = program_name(word)
        language = code_language(name)
        if language:
            rest = texts[i + 1 :]
            flags_with_code = r"-[A-Za-z]*[cn][A-Za-z]*" if language == "shell" else r"-[A-Za-z]*[cen]|-m"
            if any(re.fullmatch(flags_with_code, each) for each in rest):
                return ""
            file = next(iter(words_after_options([*words[i + 1 :]], _TAKE_ARGUMENTS.get(language, ""))), None)
            on_stdin = file is None or "-s" in rest or "-" in rest or _DESCRIPTOR.fullmatch(unquoted(file))
            return language if on_stdin else ""
        if name in SHELL_STDIN_RUNNERS and (i == 0 or name in ("ssh", "su")):
            if name == "ssh":
                remote = words_after_options(list(words[i + 1 :]), "BDEFIJLOQRSWbceilmopw")[1:]
                if not remote:
                    return "shell"
                continue
            return "" if any(re.fullmatch(r"-[A-Za-z]*c|--command.*|-f", each) for each in texts[i + 1 :]) else "shell"
    return ""


_DESCRIPTOR = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/\d+")
_TAKE_ARGUMENTS = {"shell": "oO", "python": "WX"}
"""Letters of an interpreter's options that take an argument."""


def _unfed_commands(compound: Node) -> Iterator[Node]:
    """The commands in it that have no input of their own."""
    fed: set[int] = set()
    for node in walk_tree(compound):
        if node.type == "command" and node.id not in fed:
            yield node
        body = node.child_by_field_name("body") if node.type == "redirected_statement" else None
        if body is not None and any(redirect_parts(each)[1].startswith("<") for each in file_redirects(node)):
            fed.add(redirected_command(body).id)


def _sourced_descriptor(words: list[Node]) -> bool:
    """`. /dev/stdin`."""
    rest = strip_wrappers(words)
    return program_name(rest[0]) in ("source", ".") and any(_DESCRIPTOR.fullmatch(unquoted(each)) for each in rest[1:2])


def reads_descriptor(command: Node) -> bool:
    """It runs what is read from a descriptor that was opened before: `. /dev/fd/3`."""
    opened = (unquoted(word) for word in command_words(command) if re.search(r"/fd/[3-9]", node_text(word)))
    return stdin_language(command) != "" and any(_DESCRIPTOR.fullmatch(each) for each in opened)


def _documents(code: Code, statement: Node) -> list[Heredoc]:
    """The here-documents among a statement's redirections."""
    operators = (child for redirect in file_redirects(statement) for child in redirect.children)
    return [code.documents[child.start_byte] for child in operators if child.start_byte in code.documents]


def read_code_in_heredocs(reader: CodeReader, code: Code, statement: Node) -> None:
    """Code in here-documents and in strings, given to an interpreter or written to a file; what is run to make them."""
    body = statement if statement.type == "command" else statement.child_by_field_name("body")
    if body is None:
        return
    command = redirected_command(body)
    name = command_name(statement)
    for document in _documents(code, statement):
        if language := stdin_language(statement if command.type == "command" else command):
            lasting = name in ("source", ".", "exec")
            _read_document(reader, code._replace(place=code.place._replace(lasting=lasting)), document, language)
        elif name in ("cat", "tee", "install", "dd"):
            _read_document(reader, code, document, "", written_files(statement))
        if document.expanded:
            _read_substitutions(reader, code, document)
    files = [target for _, operator, target in map(redirect_parts, file_redirects(statement)) if ">" in operator]
    if files and name in ("echo", "printf"):
        _literals(reader, code.place, statement, files)


def _read_document(
    reader: CodeReader, code: Code, document: Heredoc, language: str, files: list[str] | None = None
) -> None:
    """A here-document that is read as a language, or written to files."""
    text = code.text[document.start : document.end]
    start, end = code.place.start + document.start, code.place.start + document.end
    made = unescape(reader.command, start, end, IN_DOCUMENT) if document.expanded else [Piece(text, start, end)]
    place = reader.derive(code.place, made, escaped=document.expanded)
    if files is not None:
        _script(reader, place, files)
        return
    reader.read(place, language)
    if document.expanded and reader.expands_text(text):
        reader.add_opaque(place, text.decode("utf-8", "replace"))


def _read_substitutions(reader: CodeReader, code: Code, document: Heredoc) -> None:
    """Code that is run to make a here-document, whatever reads that."""
    pieces: list[Piece] = []
    found = find_substitutions(code.text[document.start : document.end])
    for first, last in islice(found, _MOST_SUBSTITUTIONS):
        start, end = (code.place.start + document.start + offset for offset in (first, last))
        pieces += Piece(b"\n: ", start, start), Piece(bytes(reader.command[start:end]), start, end)
    if pieces:
        reader.shell(reader.derive(code.place, pieces))
    if next(found, None):
        reader.add_opaque(code.place, "more substitutions than are taken apart")


_MOST_SUBSTITUTIONS = 1000
"""In one here-document."""


def _literals(reader: CodeReader, place: Place, command: Node, files: list[str]) -> None:
    """What `echo` or `printf` writes to a file."""
    name = command_name(command)
    words = printed_words(name, strip_wrappers(command_words(command))[1:])
    script = next((file for file in files if SCRIPT_FILES.search(file) and not _NO_FILE.fullmatch(file)), None)
    for word in words:
        if script is not None and reader.expands(word):
            reader.add_opaque(place, reader.source(place, word), file=script.rsplit("/", 1)[-1])
    double = any(piece.type == "string" for word in words for piece in quoted_pieces(word))
    pieces = printed_pieces(reader.derived, place.start, name, words)
    _script(reader, reader.derive(place, pieces, escaped=double, mixed=len(words) > 1), files)


def _script(reader: CodeReader, place: Place, files: list[str]) -> None:
    """Text that is written to a file, and may be run later: by what its name and its first line say that it is.
    Other files are read as shell code too, which acts only where one runs them."""
    place = place._replace(lasting=True)
    first = bytes(reader.command[place.start : place.end]).lstrip()[:80].split(b"\n")[0]
    files = [file for file in files if not _NO_FILE.fullmatch(file)]
    if any(file.endswith(".py") for file in files) or re.match(rb"#!.*python", first):
        reader.python(place)
    elif re.match(rb"#!.*sh\b", first) or any(file.endswith(".sh") for file in files):
        reader.shell(place)
    else:
        for file in files[:3]:
            name = file.rsplit("/", 1)[-1]
            script = SCRIPT_FILES.search(file)
            reader.shell(place._replace(perhaps=name) if script else place._replace(file=name))


_NO_FILE = re.compile(r"-\w*|\d+|/dev/.*|[ugo]?[+=-].*")
"""Targets and words that name no file: descriptors, devices, modes, options."""


def read_piped_code(reader: CodeReader, code: Code, source: Node, stage: Node) -> None:
    """Code that a stage of a pipe hands to an interpreter: read where it is written, opaque where it is made."""
    language = stdin_language(stage)
    files = [unquoted(word) for word in command_words(stage)] if command_name(stage) == "tee" else None
    if not language and files is None:
        return
    documents = _documents(code, source) if command_name(source) == "cat" else []
    for document in documents:
        _read_document(reader, code, document, language, files)
    if documents:
        return
    if command_name(source) in ("echo", "printf") and source.type == "command":
        if files is not None:
            _literals(reader, code.place, source, files)
            return
        name = command_name(source)
        words = printed_words(name, strip_wrappers(command_words(source))[1:])
        pieces = printed_pieces(reader.derived, code.place.start, name, words)
        reader.words(code.place, words, language, pieces)
    elif language:
        reader.add_opaque(code.place, reader.source(code.place, source))
