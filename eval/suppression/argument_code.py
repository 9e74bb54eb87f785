"""Code in the arguments of a command: `bash -c CODE`, `eval CODE`, `python3 -c CODE`, `ssh HOST CODE`, awk."""

import re
from collections.abc import Sequence

from tree_sitter import Node

from devnull.eval.suppression.code_reader import CodeReader, Place
from devnull.eval.suppression.constructs import Edit
from devnull.eval.suppression.programs import (
    AWKS,
    DETACHERS,
    SHELL_STRING_RUNNERS,
    WRITERS,
)
from devnull.eval.suppression.python_constructs import find_shell_redirects
from devnull.eval.suppression.shell_syntax import (
    command_name,
    file_redirects,
    node_text,
    program_name,
    quoted_pieces,
    redirect_parts,
    strip_wrappers,
    unquoted,
    unquoted_span,
    walk_tree,
)
from devnull.eval.suppression.stdin_code import code_language, reads_descriptor, stdin_language, words_after_options


def read_code_in_command(
    reader: CodeReader, place: Place, command: Node, parent: Node | None, words: list[Node]
) -> None:
    """`bash -c CODE`, `eval CODE`, `python3 -c CODE`, `ssh HOST CODE`, `find -exec sh -c CODE`, `bash <<< CODE`."""
    stripped = strip_wrappers(words)
    if not stripped:
        return
    name = program_name(stripped[0])
    if _expands_to_program(reader, stripped[0]):
        reader.add_opaque(place, reader.source(place, stripped[0]))
    if name not in WRITERS:
        for i, word in enumerate(words):
            language = code_language(program_name(word))
            if language and word.type in ("word", "string", "raw_string"):
                _inline(reader, place, words, i, language)
    runner = next((i for i, w in enumerate(words) if program_name(w) in _RUNNERS_ANYWHERE), None)
    if name in SHELL_STRING_RUNNERS or (runner is not None and name not in WRITERS):
        rest = words[runner + 1 :] if runner is not None else stripped[1:]
        _string_runner(reader, place, name if runner is None else program_name(words[runner]), rest)
    if name in DETACHERS:
        reader.add_opaque(place, reader.source(place, command))
    if name in AWKS:
        _awk(reader, place, words[1:])
    if name in ("source", ".") and any(word.type == "process_substitution" for word in stripped[1:]):
        reader.add_opaque(place, reader.source(place, command))
    for i, word in enumerate(words[:-1]):
        if program_name(words[0]) == "env" and re.fullmatch(r"-[a-z]*S|--split-string", node_text(word)):
            reader.words(place, [words[i + 1]], "shell")
    language = stdin_language(command)
    redirects = [*file_redirects(command)]
    if parent is not None and parent.type == "redirected_statement":
        redirects += file_redirects(parent)
    if reads_descriptor(command) and not any(redirect_parts(each)[1].startswith("<") for each in redirects):
        reader.add_opaque(place, reader.source(place, command))
    for herestring in (child for child in command.children if child.type == "herestring_redirect"):
        if language:
            for value in herestring.named_children:
                reader.words(place, [value], language)
    if language and any(
        each.named_children[-1:]
        and each.named_children[-1].type == "process_substitution"
        and redirect_parts(each)[1] == "<"
        for each in redirects
    ):
        reader.add_opaque(place, reader.source(place, command))


_RUNNERS_ANYWHERE = ("ssh", "su", "runuser", "flock", "script", "sg")
"""Programs that hand a string to a shell, known behind any other program."""


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
        reader.add_opaque(place, reader.source(place, words[at]))
    flag = {"shell": r"-[A-Za-z]*c[A-Za-z]*", "python": r"-[A-Za-z]*c", "other": r"-[A-Za-z]*[er]|--eval|-c"}[language]
    for i, word in enumerate(rest):
        if language != "shell" and word.type == "concatenation" and re.fullmatch(flag, node_text(word.children[0])):
            reader.words(place, [word.children[1]], language)
            return
        if not re.fullmatch(flag, unquoted(word)):
            continue
        code = rest[i + 1 :] if language != "shell" else _after_options(rest[i:])
        if code:
            reader.words(place, code[:1], language)
        if at and language == "shell" and (not code or re.match(r"\s*\{\}", unquoted(code[0]))):
            reader.add_opaque(place, reader.source(place, code[0] if code else words[at]))  # `xargs bash -c`
        return


def _after_options(words: Sequence[Node]) -> Sequence[Node]:
    """A shell's words from the first that is no option: its code, if `-c` is among the options."""
    rest = words
    while rest and re.match(r"[-+]", option := unquoted(rest[0])):
        if option in ("-", "--"):
            return rest[1:]
        rest = rest[1 + len(re.findall("[oO]", option)) if re.match(r"[-+]\w", option) else 1 :]
    return rest


def _string_runner(reader: CodeReader, place: Place, name: str, words: list[Node]) -> None:
    """Code in the arguments of a program that hands them to a shell; what only names a host or a file is none."""
    if name in ("script", "su", "runuser", "flock", "sg"):
        flags = [i for i, word in enumerate(words) if re.fullmatch(r"-[A-Za-z]*c|--command", unquoted(word))]
        code = words[flags[0] + 1 : flags[0] + 2] if flags else []
        code += [word for word in words if node_text(word).startswith("--command=")]
    elif name in ("ssh", "eval"):
        joined = words_after_options(words, "BDEFIJLOQRSWbceilmopw")[1:] if name == "ssh" else words
        if joined and node_text(joined[0]) == "--":
            joined = joined[1:]
        if joined:
            reader.words(place, joined, "shell")
        return
    elif name == "trap":
        code = words[:1]
    else:
        code = words
    for word in code:
        if name == "alias" and word.type in ("word", "concatenation") and "=" in node_text(word):
            place = place._replace(lasting=True)
        reader.words(place, word.children[1:] if name == "alias" and word.children else [word], "shell")


def _awk(reader: CodeReader, place: Place, words: list[Node]) -> None:
    """Redirections in the commands of an awk program; commands that it puts together itself."""
    for start, end in (unquoted_span(piece) for word in words for piece in quoted_pieces(word)):
        code = bytes(reader.command[place.start + start : place.start + end])
        for found in find_shell_redirects(code, 0, len(code)):
            edit = Edit(start=place.start + start + found.start, end=place.start + start + found.end)
            reader.add_edited(place, "stderr", start + found.start, start + found.end, (edit,))
        if re.search(rb"system\s{0,9}\(\s{0,9}[^\s\"]", code):
            reader.add_opaque(place, code.decode("utf-8", "replace"))
