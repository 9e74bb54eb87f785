"""Whether a command prints some words whatever the commands before them come to."""

from collections.abc import Iterator

from tree_sitter import Node

from devnull.eval.suppression.shell_syntax import argument_nodes, command_name, node_text, parse_shell, unquoted

_PRINTERS = ("echo", "printf")
_NEVER_FAIL = (*_PRINTERS, "true", ":")
_SHELLS = ("bash", "sh", "dash", "eval")
_ENDINGS = ("exit", "return", "break", "continue", "exec")


def prints_unconditionally(command: str, words: str) -> bool:
    """No status of an earlier command decides whether the words, printed by `echo` or `printf`, are printed:
    `make; echo OK` and `make || true; echo OK`, but not `make && echo OK` nor `make || exit 1; echo OK`.

    prints_unconditionally("make 2>/dev/null; echo it works", "it works")  # True
    """
    printers = _read_printers(command)
    same = [guarded for text, guarded in printers if words in text]
    return False in (same or [guarded for _, guarded in printers])


def prints_literally(command: str, words: str) -> bool:
    """The words stand in the command as `echo` or `printf` prints them: nothing is expanded into them.

    prints_literally("make; echo step 1 of 2: $?", "step 1 of 2: 2")  # False
    """
    return any(words == text for text, _ in _read_printers(command))


def _read_printers(command: str) -> list[tuple[str, bool]]:
    """(words, whether a status decides) of each command that prints; none where code is nested too deep to be read."""
    try:
        return list(_printers(parse_shell(command.encode("utf-8", "surrogatepass")), False))
    except RecursionError:
        return []


def _printers(node: Node, guarded: bool) -> Iterator[tuple[str, bool]]:
    """(words, whether a status decides) of each command that prints."""
    name = command_name(node) if node.type == "command" else ""
    if name in _PRINTERS:
        yield " ".join(map(unquoted, argument_nodes(node))), guarded
    elif name in _SHELLS:
        for argument in argument_nodes(node):
            if argument.type in ("raw_string", "string"):
                yield from _printers(parse_shell(unquoted(argument).encode()), guarded)
    elif node.type == "list":
        left, operator, right = node.children[0], node.children[1], node.children[-1]
        yield from _printers(left, guarded)
        yield from _printers(right, guarded or operator.type != "&&" or _can_fail(left))
    elif node.type in ("if_statement", "while_statement"):
        guarded = guarded or any(map(_can_fail, node.children_by_field_name("condition")))
        for child in node.named_children:
            yield from _printers(child, guarded or child.type in ("elif_clause", "else_clause"))
    elif node.type != "command":
        for child in node.named_children:
            yield from _printers(child, guarded or node.type == "case_statement")
            guarded = guarded or _may_end(child)


def _can_fail(node: Node) -> bool:
    """A status other than 0 can come of it."""
    match node.type:
        case "command":
            return command_name(node) not in _NEVER_FAIL
        case "variable_assignment":
            return False
        case "list" if node.children[1].type == "||":
            return _can_fail(node.children[0]) and _can_fail(node.children[-1])
        case "list":
            return _can_fail(node.children[0]) or _can_fail(node.children[-1])
        case "redirected_statement":
            body = node.child_by_field_name("body")
            return body is not None and _can_fail(body)
        case "pipeline" | "compound_statement" | "subshell":
            return not node.named_children or _can_fail(node.named_children[-1])
    return True


def _may_end(node: Node) -> bool:
    """It may keep what follows from being run: `|| exit`, `set -e`."""
    if node.type == "command":
        name = command_name(node)
        errexit = any(node_text(each).startswith("-e") or node_text(each) == "errexit" for each in argument_nodes(node))
        return name in _ENDINGS or (name == "set" and errexit)
    return node.type != "function_definition" and any(map(_may_end, node.named_children))
