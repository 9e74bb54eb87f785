"""Code inside a command: what it hands to a shell or to Python as an argument, by stdin, or in a file it writes."""

import re
from collections.abc import Sequence
from itertools import takewhile

from tree_sitter import Node

from devnull.eval.suppression.code_reader import Code, CodeReader, Place
from devnull.eval.suppression.constructs import Edit
from devnull.eval.suppression.heredocs import Heredoc
from devnull.eval.suppression.programs import (
    AWKS,
    DETACHERS,
    OTHER_INTERPRETERS,
    PYTHONS,
    SCRIPT_FILES,
    SHELL_STDIN_RUNNERS,
    SHELL_STRING_RUNNERS,
    SHELLS,
    WRITERS,
)
from devnull.eval.suppression.python_constructs import find_shell_redirects
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
    strip_wrappers,
    unescape_in_place,
    unquoted,
    unquoted_span,
    walk_tree,
)


def read_code_in_command(reader: CodeReader, place: Place, command: Node, words: list[Node]) -> None:
    """`bash -c CODE`, `eval CODE`, `python3 -c CODE`, `ssh HOST CODE`, `find -exec sh -c CODE`, `bash <<< CODE`."""
    stripped = strip_wrappers(words)
    if not stripped:
        return
    name = program_name(stripped[0])
    if _expands_to_program(reader, stripped[0]):
        reader.add_opaque(place, node_text(stripped[0]))
    if name not in WRITERS:
        for i, word in enumerate(words):
            language = _language(program_name(word))
            if language and word.type in ("word", "string", "raw_string"):
                _inline(reader, place, words, i, language)
    runner = next((i for i, w in enumerate(words) if program_name(w) in _RUNNERS_ANYWHERE), None)
    if name in SHELL_STRING_RUNNERS or (runner is not None and name not in WRITERS):
        rest = words[runner + 1 :] if runner is not None else stripped[1:]
        _string_runner(reader, place, name if runner is None else program_name(words[runner]), rest)
    if name in DETACHERS:
        reader.add_opaque(place, node_text(command))
    if name in AWKS:
        _awk(reader, place, words[1:])
    if name in ("source", ".") and any(word.type == "process_substitution" for word in stripped[1:]):
        reader.add_opaque(place, node_text(command))
    for i, word in enumerate(words[:-1]):
        if program_name(words[0]) == "env" and re.fullmatch(r"-[a-z]*S|--split-string", node_text(word)):
            reader.word(place, words[i + 1], "shell")
    language = stdin_language(command)
    for herestring in (child for child in command.children if child.type == "herestring_redirect"):
        if language:
            for value in herestring.named_children:
                reader.word(place, value, language)
    redirects = [*file_redirects(command)]
    if command.parent is not None and command.parent.type == "redirected_statement":
        redirects += file_redirects(command.parent)
    if language and any(
        each.named_children[-1:]
        and each.named_children[-1].type == "process_substitution"
        and redirect_parts(each)[1] == "<"
        for each in redirects
    ):
        reader.add_opaque(place, node_text(command))


_RUNNERS_ANYWHERE = ("ssh", "su", "runuser", "flock", "script", "sg")
"""Programs that hand a string to a shell, known behind any other program."""


def _language(name: str) -> str:
    if name in SHELLS:
        return "shell"
    return "python" if PYTHONS.match(name) else "other" if OTHER_INTERPRETERS.match(name) else ""


def _expands_to_program(reader: CodeReader, word: Node) -> bool:
    """What is run is known only when it is run. `"$@"` is not meant: its words stand where the function is called."""
    for node in walk_tree(word):
        if node.type == "command_substitution":
            return program_name_of_substitution(node) not in ("which", "command", "realpath", "readlink", "dirname")
        if node.type in ("simple_expansion", "expansion"):
            name = re.match(r"\$\{?(\w+|[@*])", node_text(node))
            known = name is not None and (re.fullmatch(r"\d+|[@*]", name[1]) or reader.plain_variable(name[1]))
            path = word.type in ("concatenation", "string") and "/" in node_text(word)
            if not known and not path:
                return True
    return False


def program_name_of_substitution(node: Node) -> str:
    """Name of the one program in `$(...)`."""
    inner = node.named_children
    return command_name(inner[0]) if len(inner) == 1 else ""


def _inline(reader: CodeReader, place: Place, words: Sequence[Node], at: int, language: str) -> None:
    """The code after `-c` or `-e` of the interpreter that is word `at`."""
    rest = words[at + 1 :]
    if language == "shell" and any(word.type == "process_substitution" for word in rest[:4]):
        reader.add_opaque(place, node_text(words[at]))
    flag = {"shell": r"-[A-Za-z]*c", "python": r"-[A-Za-z]*c", "other": r"-[A-Za-z]*[er]|--eval|-c"}[language]
    for i, word in enumerate(rest):
        if not re.fullmatch(flag, unquoted(word)):
            continue
        if i + 1 == len(rest):
            if at:  # `xargs bash -c`: the code comes by stdin
                reader.add_opaque(place, node_text(words[at]))
            return
        code = rest[i + 1]
        reader.word(place, code, language)
        if at and language == "shell" and re.match(r"\s*\{\}", unquoted(code)):
            reader.add_opaque(place, node_text(code))
        return


def _string_runner(reader: CodeReader, place: Place, name: str, words: list[Node]) -> None:
    """Code in the arguments of a program that hands them to a shell; what only names a host or a file is none."""
    if name in ("script", "su", "runuser", "flock", "sg"):
        flags = [i for i, word in enumerate(words) if re.fullmatch(r"-[A-Za-z]*c|--command", unquoted(word))]
        code = words[flags[0] + 1 : flags[0] + 2] if flags else []
        code += [word for word in words if node_text(word).startswith("--command=")]
    elif name == "ssh":
        code = _after_options(words, "BDEFIJLOQRSWbceilmopw")[1:]
    elif name == "trap":
        code = words[:1]
    else:
        code = words
    for word in code:
        if name == "alias" and word.type in ("word", "concatenation") and "=" in node_text(word):
            place = place._replace(lasting=True)
        if word.type == "word" and name == "alias":
            continue
        reader.word(place, word, "shell")


def _after_options(words: list[Node], taking: str) -> list[Node]:
    rest = words
    while rest and node_text(rest[0]).startswith("-"):
        option = re.fullmatch(r"-[A-Za-z0-9]*([A-Za-z])", node_text(rest[0]))
        rest = rest[2 if option and option[1] in taking else 1 :]
    return rest


def _awk(reader: CodeReader, place: Place, words: list[Node]) -> None:
    """Redirections in the commands of an awk program; commands that it puts together itself."""
    for start, end in (unquoted_span(piece) for word in words for piece in quoted_pieces(word)):
        code = reader.command[place.start + start : place.start + end]
        for found in find_shell_redirects(code, 0, len(code)):
            edit = Edit(start=place.start + start + found.start, end=place.start + start + found.end)
            reader.add_edited(place, "stderr", start + found.start, start + found.end, (edit,))
        if re.search(rb"system\s{0,9}\(\s{0,9}[^\s\"]", code):
            reader.add_opaque(place, code.decode("utf-8", "replace"))


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
    for i, word in enumerate(words):
        name = program_name(word)
        language = _language(name)
        rest = [unquoted(each) for each in words[i + 1 :]]
        if language:
            if any(re.fullmatch(r"-[A-Za-z]*[cen]|-m", each) for each in rest):
                return ""
            plain = [each for each in rest if not each.startswith("-")]
            return language if not plain or "-s" in rest or "-" in rest or plain[0] == "/dev/stdin" else ""
        if name in SHELL_STDIN_RUNNERS and (i == 0 or name in ("ssh", "su")):
            if name == "ssh":
                remote = _after_options(list(words[i + 1 :]), "BDEFIJLOQRSWbceilmopw")[1:]
                if not remote:
                    return "shell"
                continue
            return "" if any(re.fullmatch(r"-[A-Za-z]*c|--command.*|-f", each) for each in rest) else "shell"
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
    elif re.match(rb"#!.*sh\b", first) or not files or any(SCRIPT_FILES.search(file) for file in files):
        reader.shell(place, code)
    else:
        for file in files[:3]:
            reader.shell(place._replace(file=file.rsplit("/", 1)[-1]), code)


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
