"""The syntax tree of a shell command: its redirections, the words of its commands, the text inside quotes."""

import re
from collections.abc import Iterator

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from devnull.eval.suppression.programs import PLACE_WRAPPERS, WRAPPERS

_LANGUAGE = Language(tree_sitter_bash.language())
COMPOUND = {
    "compound_statement",
    "subshell",
    "while_statement",
    "for_statement",
    "c_style_for_statement",
    "if_statement",
    "case_statement",
}
"""Types of tree-sitter nodes that hold commands."""
_PLAIN = bytes(range(0x80)) + b"x" * 0x80


def parse_shell(code: bytes) -> Node:
    """Root of the syntax tree; offsets count bytes of `code`.

    Bytes beyond ASCII stand as `x`: the grammar's scanner hands code points to C's `isalnum`, which reads past its
    table and now and then crashes the process (tree-sitter-bash 0.25.1).
    """
    return Parser(_LANGUAGE).parse(code.translate(_PLAIN)).root_node


def file_redirects(statement: Node) -> list[Node]:
    """File redirections of a statement, those written after `<<END` included, in order."""
    found = []
    for child in statement.children:
        if child.type == "file_redirect":
            found.append(child)
        elif child.type == "heredoc_redirect":
            found += [inner for inner in child.children if inner.type == "file_redirect"]
    return sorted(found, key=lambda node: node.start_byte)


def redirect_parts(redirect: Node) -> tuple[str, str, str]:
    """Descriptor, operator and target of a redirection, as written; quotes removed."""
    descriptor = redirect.child_by_field_name("descriptor")
    target = redirect.child_by_field_name("destination")
    operator = next((child.type for child in redirect.children if child.type.strip("0123456789")[:1] in "<>&"), ">")
    return node_text(descriptor) if descriptor else "", operator, unquoted(target) if target else "-"


def inner_command(node: Node) -> Node:
    """The command itself, under its redirections."""
    while node.type == "redirected_statement":
        body = node.child_by_field_name("body")
        if body is None:
            return node
        node = body
    return node


def command_name(node: Node | None) -> str:
    """Base name of the program that a command runs, wrappers such as `sudo` left aside."""
    if node is None:
        return ""
    node = inner_command(node)
    if node.type != "command":
        return ""
    words = [child for child in node.children if child.type not in ("variable_assignment", "file_redirect")]
    while words and program_name(words[0]) in WRAPPERS and len(strip_wrapper(words)) > 0:
        words = strip_wrapper(words)
    return program_name(words[0]) if words else ""


def stdout_program(body: Node | None) -> str:
    """Name of the program whose stdout a redirection takes: the last of a pipeline."""
    return command_name(body.children[-1] if body is not None and body.type == "pipeline" else body)


def strip_wrapper(words: list[Node]) -> list[Node]:
    """Words after a wrapper, its options and their arguments."""
    name = program_name(words[0])
    rest = words[1:]
    while rest and re.match(r"-|\d+(?:\.\d+)?[smhd]?$|\w+=", node_text(rest[0])):
        option = re.fullmatch(r"-[A-Za-z]*([A-Za-z])", node_text(rest[0]))
        rest = rest[2 if option and option[1] in WRAPPERS[name] else 1 :]
    return rest[1:] if name in PLACE_WRAPPERS else rest


def argument_nodes(command: Node) -> list[Node]:
    """Arguments of a command; none of any other node."""
    return command.children_by_field_name("argument") if command.type == "command" else []


def program_name(word: Node) -> str:
    """Base name of the program that a word names."""
    return unquoted(word).rsplit("/", 1)[-1]


def unquoted(word: Node) -> str:
    """A word's text without its quotes."""
    return re.sub(r"""^\$?(['"])(.*)\1$""", r"\2", node_text(word), flags=re.S)


def quoted_spans(word: Node) -> Iterator[tuple[int, int]]:
    """Byte spans of the text inside quotes; each line of a `$'...'` or of a `\\n` in it apart."""
    if word.type == "concatenation":
        for child in word.children:
            if child.type != "word":
                yield from quoted_spans(child)
        return
    start, end = unquoted_span(word)
    inside = (word.text or b"")[start - word.start_byte : end - word.start_byte]
    at = 0
    for piece in re.split(rb"(\\n)", inside):
        if piece != rb"\n" and piece.strip():
            yield start + at, start + at + len(piece)
        at += len(piece)


def unquoted_span(word: Node) -> tuple[int, int]:
    """Byte span of a word without its quotes."""
    head = {"raw_string": 1, "string": 1, "ansi_c_string": 2}.get(word.type, 0)
    return word.start_byte + head, word.end_byte - (1 if head else 0)


def node_text(node: Node) -> str:
    """Source of a node, as written."""
    return (node.text or b"").decode("utf-8", "replace")
