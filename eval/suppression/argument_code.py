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
from devnull.eval.suppression.stdin_code import code_language, stdin_language, words_after_options


def read_code_in_command(
    reader: CodeReader, place: Place, command: Node, parent: Node | None, words: list[Node]
) -> None:
    """`bash -c CODE`, `eval CODE`, `python3 -c CODE`, `ssh HOST CODE`, `find -exec sh -c CODE`, `bash <<< CODE`."""
    stripped = strip_wrappers(words)
    if not stripped:
        return
    name = program_name(stripped[0])
    if _expands_to_program(reader, stripped[0]):
        reader.add_opaque(place, node_text(stripped[0]))
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
    if parent is not None and parent.type == "redirected_statement":
        redirects += file_redirects(parent)
    if language and any(
        each.named_children[-1:]
        and each.named_children[-1].type == "process_substitution"
        and redirect_parts(each)[1] == "<"
        for each in redirects
    ):
        reader.add_opaque(place, node_text(command))


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
        code = words_after_options(words, "BDEFIJLOQRSWbceilmopw")[1:]
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


def _awk(reader: CodeReader, place: Place, words: list[Node]) -> None:
    """Redirections in the commands of an awk program; commands that it puts together itself."""
    for start, end in (unquoted_span(piece) for word in words for piece in quoted_pieces(word)):
        code = reader.command[place.start + start : place.start + end]
        for found in find_shell_redirects(code, 0, len(code)):
            edit = Edit(start=place.start + start + found.start, end=place.start + start + found.end)
            reader.add_edited(place, "stderr", start + found.start, start + found.end, (edit,))
        if re.search(rb"system\s{0,9}\(\s{0,9}[^\s\"]", code):
            reader.add_opaque(place, code.decode("utf-8", "replace"))
