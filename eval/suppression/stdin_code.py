"""Code that a command hands on by stdin or writes to a file: here-documents, `echo ... | sh`, `echo ... > run.sh`."""

import re
from itertools import takewhile

from tree_sitter import Node

from devnull.eval.suppression.code_reader import Code, CodeReader, Place
from devnull.eval.suppression.heredocs import Heredoc
from devnull.eval.suppression.programs import (
    OTHER_INTERPRETERS,
    PYTHONS,
    SCRIPT_FILES,
    SHELL_STDIN_RUNNERS,
    SHELLS,
)
from devnull.eval.suppression.redirections import written_files
from devnull.eval.suppression.shell_syntax import (
    command_name,
    command_words,
    file_redirects,
    inner_command,
    node_text,
    program_name,
    quoted_pieces,
    redirect_parts,
    redirected_command,
    unescape_in_place,
    unquoted,
    unquoted_span,
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
    """What a command reads from stdin as code: "shell", "python", "other"; empty if it reads data."""
    words = command_words(inner_command(command))
    if not words:
        return ""
    if program_name(words[0]) in ("sudo", "doas"):
        flags = [*takewhile(lambda word: node_text(word).startswith("-"), words[1:])]
        if any(re.fullmatch(r"-[A-Za-z]*[is]", node_text(flag)) for flag in flags) and len(flags) == len(words) - 1:
            return "shell"
    if re.fullmatch(r"(?:g?cc|clang|tcc|[gc]\+\+)", program_name(words[0])):
        return "other" if any(node_text(word) == "-" for word in words) else ""
    texts = [unquoted(word) for word in words]
    for i, word in enumerate(words):
        name = program_name(word)
        language = code_language(name)
        if language:
            rest = texts[i + 1 :]
            if any(re.fullmatch(r"-[A-Za-z]*[cen]|-m", each) for each in rest):
                return ""
            plain = [each for each in rest if not each.startswith("-")]
            return language if not plain or "-s" in rest or "-" in rest or plain[0] == "/dev/stdin" else ""
        if name in SHELL_STDIN_RUNNERS and (i == 0 or name in ("ssh", "su")):
            if name == "ssh":
                remote = words_after_options(list(words[i + 1 :]), "BDEFIJLOQRSWbceilmopw")[1:]
                if not remote:
                    return "shell"
                continue
            return "" if any(re.fullmatch(r"-[A-Za-z]*c|--command.*|-f", each) for each in texts[i + 1 :]) else "shell"
    return ""


def _documents(code: Code, statement: Node) -> list[Heredoc]:
    """The here-documents among a statement's redirections."""
    operators = (child for redirect in file_redirects(statement) for child in redirect.children)
    return [code.documents[child.start_byte] for child in operators if child.start_byte in code.documents]


def read_code_in_heredocs(reader: CodeReader, code: Code, statement: Node) -> None:
    """Code in here-documents and in strings, given to an interpreter or written to a file."""
    body = statement if statement.type == "command" else statement.child_by_field_name("body")
    if body is None:
        return
    command = redirected_command(body)
    for document in _documents(code, statement):
        if language := stdin_language(command):
            _read_document(reader, code, document, language)
        elif command_name(command) in ("cat", "tee", "install", "dd"):
            _read_document(reader, code, document, "", written_files(statement))
    files = [target for _, operator, target in map(redirect_parts, file_redirects(statement)) if ">" in operator]
    if files and command_name(command) in ("echo", "printf"):
        _literals(reader, code.place, command, files)


def _read_document(
    reader: CodeReader, code: Code, document: Heredoc, language: str, files: list[str] | None = None
) -> None:
    """A here-document that is read as a language, or written to files."""
    place = code.place.inside(document.start, document.end, escaped=document.expanded)
    text = code.text[document.start : document.end]
    if files is not None:
        _script(reader, place, files, text)
        return
    _read(reader, place, language, text)
    if document.expanded and reader.expands_text(text):
        reader.add_opaque(place, text.decode("utf-8", "replace"))


def _read(reader: CodeReader, place: Place, language: str, code: bytes | None = None) -> None:
    if language == "shell":
        reader.shell(place, code)
    elif language == "python":
        reader.python(place, code)
    else:
        reader.other(place)


def _literals(reader: CodeReader, place: Place, command: Node, files: list[str]) -> None:
    """Strings that `echo` or `printf` writes to a file."""
    script = next((file for file in files if SCRIPT_FILES.search(file)), None)
    for word in command_words(command)[1:]:
        if script is not None and not quoted_pieces(word) and reader.expands(word):
            reader.add_opaque(place, node_text(word), file=script.rsplit("/", 1)[-1])
    for piece in (piece for word in command_words(command)[1:] for piece in quoted_pieces(word)):
        inner = place.inside(*unquoted_span(piece), escaped=piece.type == "string")
        _script(reader, inner, files, unescape_in_place(reader.command[inner.start : inner.end], newlines=True))


def _script(reader: CodeReader, place: Place, files: list[str], code: bytes) -> None:
    """Text that is written to a file, and may be run later: by what its name and its first line say that it is.
    Other files are read as shell code too, which acts only where one runs them."""
    place = place._replace(lasting=True)
    first = code.lstrip()[:80].split(b"\n")[0]
    files = [file for file in files if not re.fullmatch(r"-\w*|\d+|/dev/.*|[ugo]?[+=-].*", file)]
    if any(file.endswith(".py") for file in files) or re.match(rb"#!.*python", first):
        reader.python(place, code)
    elif re.match(rb"#!.*sh\b", first) or any(file.endswith(".sh") for file in files):
        reader.shell(place, code)
    else:
        for file in files[:3]:
            name = file.rsplit("/", 1)[-1]
            script = SCRIPT_FILES.search(file)
            reader.shell(place._replace(perhaps=name) if script else place._replace(file=name), code)


def read_piped_code(reader: CodeReader, code: Code, source: Node, stage: Node) -> None:
    """Code that a stage of a pipe hands to an interpreter: read where it is written, opaque where it is made."""
    language = stdin_language(stage)
    files = [unquoted(word) for word in command_words(inner_command(stage))] if command_name(stage) == "tee" else None
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
        for word in command_words(source)[1:]:
            reader.word(code.place, word, language, newlines=True)
    elif language:
        reader.add_opaque(code.place, node_text(source))
