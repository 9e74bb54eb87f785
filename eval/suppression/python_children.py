"""What Python code does with the output of the programs that it runs: `stderr=DEVNULL`, `check_output(...)`."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple


class Capture(NamedTuple):
    """An expression that takes a program's output off the terminal, and what to write instead."""

    kind: Literal["stderr", "output"]
    name: str
    """The argument's name; empty if it has none."""
    value: ast.expr
    replacement: str


def find_captures(nodes: Sequence[ast.AST]) -> Iterator[Capture]:
    """Arguments of calls, and of dictionaries that may be handed to one, among all nodes of a tree, outermost first.
    Stdout counts where nobody reads it."""
    uses = _Uses(nodes)
    unpacked: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, ast.Call):
            unpacked.update(keyword.value for keyword in node.keywords if keyword.arg is None)
            for name, value in _arguments(node):
                yield from _capture(name, value, node, uses)
            if ends_with(node.func, "check_output") and uses.dropped(node):
                yield Capture("output", "", node.func, ast.unparse(node.func)[: -len("check_output")] + "check_call")
        elif isinstance(node, ast.Dict) and node not in unpacked:
            for key, value in zip(node.keys, node.values, strict=True):
                yield from _item(key, value, uses)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript):
                    yield from _item(target.slice, node.value, uses)


def _item(key: ast.expr | None, value: ast.expr, uses: "_Uses") -> Iterator[Capture]:
    """An item of a dictionary."""
    if isinstance(key, ast.Constant) and key.value in _NAMES and _CONSTANTS.search(ast.unparse(value)):
        yield from _capture(str(key.value), value, None, uses)


def takes_output(call: ast.Call) -> bool:
    """The stdout of what the call runs goes to Python, or nowhere."""
    if any(ends_with(call.func, name) for name in ("popen", "getoutput", "getstatusoutput", "check_output")):
        return True
    return any(
        name in ("stdout", "capture_output") and ast.unparse(value) not in ("None", "False", "sys.stdout")
        for name, value in _arguments(call)
    )


def ends_with(node: ast.expr, name: str) -> bool:
    """`name`, or an attribute of that name."""
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


_CONSTANTS = re.compile(r"\b(?:DEVNULL|PIPE|STDOUT|devnull|/dev/null)\b|^-[123]$|^True$")
"""Values by which an item of a dictionary is an argument of `subprocess`."""
_POSITIONS = ("args", "bufsize", "executable", "stdin", "stdout", "stderr")
"""Of `subprocess.Popen`, and of what hands its arguments on to it."""


def _arguments(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Arguments by name; those of `**{...}` too."""
    if any(ends_with(call.func, name) for name in ("Popen", "run", "call", "check_call", "check_output")):
        yield from zip(_POSITIONS, call.args, strict=False)
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value
        elif isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value), value


def _capture(name: str, value: ast.expr, call: ast.Call | None, uses: "_Uses") -> Iterator[Capture]:
    if name not in _NAMES:
        return
    text = ast.unparse(value)
    if name == "stderr" and text not in ("None", "sys.stderr", "sys.stdout"):
        yield Capture("stderr", name, value, "None")
    elif name == "capture_output" and text == "True":
        yield Capture("stderr", name, value, "False")
    elif name == "stdout" and (
        _NOWHERE.search(text) or (call is not None and _TO_PYTHON.search(text) and uses.dropped(call))
    ):
        yield Capture("output", name, value, "None")


_NAMES = ("stdout", "stderr", "capture_output")
_NOWHERE = re.compile(r"\b(?:DEVNULL|devnull|/dev/null)\b|^-3$")
_TO_PYTHON = re.compile(r"\bPIPE$|^-1$")
_STATUS = {"returncode", "check_returncode", "poll", "wait", "pid", "kill", "terminate", "send_signal", "args"}
"""What a process has beside its output."""


class _Uses:
    """Where the values of expressions go."""

    def __init__(self, nodes: Sequence[ast.AST]) -> None:
        self.nodes = nodes

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """Each node to the one that holds it."""
        return {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    @cached_property
    def loads(self) -> dict[str, list[ast.Name]]:
        """Where each name is read."""
        found: dict[str, list[ast.Name]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.setdefault(node.id, []).append(node)
        return found

    def dropped(self, value: ast.expr) -> bool:
        """Nobody looks at the output that a value holds."""
        waiting: list[ast.expr] = [value]
        known: set[str] = set()
        while waiting:
            node = waiting.pop()
            parent = self.parents.get(node)
            match parent:
                case ast.Expr():
                    pass
                case ast.Attribute(attr=name):
                    waiting += [] if name in _STATUS else [parent]
                case ast.Call() if parent.func is node:
                    waiting.append(parent)
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.withitem(optional_vars=ast.Name(id=name)):
                    waiting += [] if name in known else self.loads.get(name, [])
                    known.add(name)
                case ast.withitem(optional_vars=None):
                    pass
                case _:
                    return False
        return True
