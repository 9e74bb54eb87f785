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
MOST_PIPES = 3000
"""In one piece of code: the parser takes time by the square of them."""
_PLAIN = bytes(range(0x80)) + b"x" * 0x80


def parse_shell(code: bytes) -> Node:
    """Root of the syntax tree; offsets count bytes of `code`. What stands behind the first `MOST_PIPES` is left out.

    Bytes beyond ASCII stand as `x`: the grammar's scanner hands code points to C's `isalnum`, which reads past its
    table and now and then crashes the process (tree-sitter-bash 0.25.1).
    """
    if code.count(b"|") > MOST_PIPES:
        code = b"|".join(code.split(b"|", MOST_PIPES)[:-1])
    return Parser(_LANGUAGE).parse(code.translate(_PLAIN)).root_node


def walk_tree(root: Node) -> Iterator[Node]:
    """A node and all below it, in the order in which they stand."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


def file_redirects(statement: Node) -> list[Node]:
    """File redirections of a statement, in order."""
    return [child for child in statement.children if child.type == "file_redirect"]


def redirect_parts(redirect: Node) -> tuple[str, str, str]:
    """Descriptor, operator and target of a redirection, as written; quotes removed."""
    descriptor = redirect.child_by_field_name("descriptor")
    target = redirect_target(redirect)
    return node_text(descriptor) if descriptor else "", _operator(redirect), unquoted(target) if target else "-"


def redirect_target(redirect: Node) -> Node | None:
    """The word that a redirection leads to or from; `None` where it closes."""
    return None if _operator(redirect).endswith("-") else next(_words_held(redirect), None)


def redirect_span(redirect: Node) -> tuple[int, int]:
    """Byte span of a redirection itself, without the words that stand behind it."""
    last = redirect_target(redirect) or next((c for c in redirect.children if c.type == _operator(redirect)), redirect)
    return redirect.start_byte, last.end_byte


def _operator(redirect: Node) -> str:
    return next((child.type for child in redirect.children if child.type.strip("0123456789")[:1] in "<>&"), ">")


def _words_held(redirect: Node) -> Iterator[Node]:
    """Its target, if it has one, and the command's words behind it: the grammar takes all of them for targets."""
    for child in redirect.children:
        if child.is_named and child.type != "file_descriptor":
            yield from child.children if child.type == "ERROR" else (child,)


def _words_behind(redirect: Node) -> list[Node]:
    words = list(_words_held(redirect))
    return words if redirect_target(redirect) is None else words[1:]


def named_descriptors(command: Node) -> set[int]:
    """Where each `{name}` ends that the grammar takes for a word of a command: where a redirection begins right there,
    it is the name of its descriptor, which the shell chooses."""
    words = _own_words(command) if command.type == "command" else []
    return {word.end_byte for word in words if _NAMED_DESCRIPTOR.fullmatch(word.text or b"")}


_NAMED_DESCRIPTOR = re.compile(rb"\{\w+\}")


def redirected_command(node: Node) -> Node:
    """The command whose output a redirection takes: the last of `a && b`, `a | b`, `! b`.

    The grammar hangs a redirection on the whole list, where the shell means its last command alone.
    """
    node = redirected_pipeline(node)
    while node.type == "pipeline" and node.named_children:
        node = redirected_pipeline(node.named_children[-1])
    return node


def redirected_pipeline(node: Node) -> Node:
    """The pipeline, or the command outside of one, whose output a redirection takes."""
    while node.type in ("list", "negated_command", "redirected_statement"):
        inner = node.child_by_field_name("body") if node.type == "redirected_statement" else None
        if node.type != "redirected_statement" and node.named_children:
            inner = node.named_children[-1]
        if inner is None:
            return node
        node = inner
    return node


def inner_command(node: Node) -> Node:
    """The command itself, under its redirections."""
    while node.type == "redirected_statement":
        body = node.child_by_field_name("body")
        if body is None:
            return node
        node = body
    return node


def argument_nodes(command: Node) -> list[Node]:
    """Arguments of a command; none of any other node."""
    return command_words(command)[1:]


def command_words(node: Node) -> list[Node]:
    """The program's name and its arguments; of a statement with redirections those of the command that they take, and
    the words behind them; none of any other node."""
    redirects: list[Node] = []
    command = node
    while command.type == "redirected_statement":
        redirects += file_redirects(command)
        body = command.child_by_field_name("body")
        if body is None:
            return []
        command = redirected_command(body)
    if command.type != "command":
        return []
    words = _own_words(command)
    if redirects := [*file_redirects(command), *redirects]:
        begins = {redirect.start_byte for redirect in redirects} & named_descriptors(command)
        words = [word for word in words if word.end_byte not in begins]
    return words + [word for redirect in redirects for word in _words_behind(redirect)]


def _own_words(command: Node) -> list[Node]:
    skipped = ("variable_assignment", "file_redirect", "herestring_redirect")
    words = [child for child in command.children if child.type not in skipped]
    return [child.children[0] if child.type == "command_name" and child.children else child for child in words]


def command_name(node: Node | None) -> str:
    """Base name of the program that a command runs, wrappers such as `sudo` left aside."""
    words = strip_wrappers(command_words(node)) if node is not None else []
    return program_name(words[0]) if words else ""


def strip_wrappers(words: list[Node]) -> list[Node]:
    """Words after `sudo`, `env A=1`, `timeout 5` and their like, with their options and those options' arguments."""
    while words and (name := program_name(words[0])) in WRAPPERS:
        rest = words[1:]
        while rest and re.match(r"-|\d+(?:\.\d+)?[smhd]?$|\w+=", node_text(rest[0])):
            option = re.fullmatch(r"-[A-Za-z]*([A-Za-z])", node_text(rest[0]))
            rest = rest[2 if option and option[1] in WRAPPERS[name] else 1 :]
        rest = rest[1:] if name in PLACE_WRAPPERS else rest
        if not rest:
            break
        words = rest
    return words


def program_name(word: Node) -> str:
    """Base name of the program that a word names."""
    return unquoted(word).rsplit("/", 1)[-1].lstrip("\\")


def unquoted(word: Node) -> str:
    """A word's text without its quotes."""
    return re.sub(r"""^\$?(['"])(.*)\1$""", r"\2", node_text(word), flags=re.S)


def quoted_pieces(word: Node) -> list[Node]:
    """The quoted strings of which a word is made."""
    if word.type == "concatenation":
        return [piece for child in word.children for piece in quoted_pieces(child)]
    return [word] if word.type in ("raw_string", "string", "ansi_c_string", "translated_string") else []


def unquoted_span(word: Node) -> tuple[int, int]:
    """Byte span of a word without its quotes."""
    head = {"raw_string": 1, "string": 1, "ansi_c_string": 2, "translated_string": 2}.get(word.type, 0)
    return word.start_byte + head, word.end_byte - (1 if head else 0)


def node_text(node: Node) -> str:
    """Source of a node, as written."""
    return (node.text or b"").decode("utf-8", "replace")
