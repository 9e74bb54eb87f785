"""Places in Python code that swallow an error: `except: pass`, `suppress(...)`, `stderr=DEVNULL`."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple


class PythonConstruct(NamedTuple):
    """One place in Python code, by bytes, that swallows an error."""

    start: int
    end: int
    replacement: str | None
    """What to write instead; `None`: it cannot be removed."""
    text: str
    """As written."""


def find_python_constructs(code: str) -> Iterator[PythonConstruct]:
    """Constructs in the order of the syntax tree. Code that does not parse yields none."""
    indented = re.match(r"[ \t]*", code)
    try:
        tree = ast.parse(code if indented is None or not indented[0] else f"if 1:\n{code}")
    except (SyntaxError, ValueError):
        return
    shift = 1 if indented is not None and indented[0] else 0
    starts = _line_starts(code)

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (
            starts[node.lineno - 1 - shift] + node.col_offset,
            starts[node.end_lineno - 1 - shift] + node.end_col_offset,
        )

    encoded = code.encode()
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _swallows(node):
            first, last = span(node.body[0])[0], span(node.body[-1])[1]
            begin = starts[node.lineno - 1 - shift] + node.col_offset
            yield PythonConstruct(first, last, "raise", encoded[begin:last].decode())
        elif isinstance(node, ast.Call) and (silencer := _replacement_in_call(node)) is not None:
            start, end = span(node)
            yield PythonConstruct(*span(silencer[0]), silencer[1], encoded[start:end].decode())
        elif isinstance(node, ast.Call) and _unreadable(node):
            start, end = span(node)
            yield PythonConstruct(start, end, None, encoded[start:end].decode())
        elif isinstance(node, ast.keyword) and _silences(node):
            start, end = span(node.value)
            new = "False" if node.arg == "capture_output" else "None"
            yield PythonConstruct(start, end, new, f"{node.arg}={encoded[start:end].decode()}")
        elif isinstance(node, ast.Assign) and any(_ends_with(target, "stderr") for target in node.targets):
            start, end = span(node)
            yield PythonConstruct(start, end, "pass", encoded[start:end].decode())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from find_shell_redirects(encoded, *span(node))


def _replacement_in_call(call: ast.Call) -> tuple[ast.expr, str] | None:
    """What to replace in a call that silences, and by what: without quotes, since it may stand within some."""
    first = call.args[0] if call.args else None
    name = next((each for each in _SILENCERS if _ends_with(call.func, each)), None)
    match name:
        case "suppress" if first is not None:
            return first, "()"
        case "redirect_stderr" if first is not None:
            return first, "open(2, chr(119), closefd=False)"
        case "getoutput":
            return call.func, f"(lambda c: {ast.unparse(call.func)}{_RUN}.stdout)"
        case "getstatusoutput":
            return call.func, f"(lambda c: (0, {ast.unparse(call.func)}{_RUN}.stdout))"
        case "dup2" if len(call.args) > 1 and _is_stderr(call.args[1]):
            return call, "None"
        case "close" if (first is not None and _is_stderr(first)) or "stderr" in ast.unparse(call.func):
            return call, "None"
    return None


_SILENCERS = ("suppress", "redirect_stderr", "getoutput", "getstatusoutput", "dup2", "close")
_RUN = ".__globals__[chr(114) + chr(117) + chr(110)](c, shell=True, stdout=-1, text=True)"
"""`subprocess.run` by way of a neighbour; what it runs has its stderr on the terminal."""


def _is_stderr(value: ast.expr) -> bool:
    return (isinstance(value, ast.Constant) and value.value == 2) or "stderr" in ast.unparse(value)


def _unreadable(call: ast.Call) -> bool:
    """Runs code that is only made at run time."""
    if not call.args or isinstance(call.args[0], ast.Constant | ast.JoinedStr | ast.List | ast.Tuple):
        return False
    if isinstance(call.func, ast.Name) and call.func.id in ("exec", "eval", "compile"):
        return True
    shell = any(keyword.arg == "shell" for keyword in call.keywords)
    return shell or (isinstance(call.func, ast.Attribute) and call.func.attr in ("system", "popen"))


def _swallows(handler: ast.ExceptHandler) -> bool:
    """The handler ends the exception without a word: nothing in it raises, prints, logs, exits with a status or
    imports something else instead."""
    return not any(
        isinstance(node, ast.Raise | ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Call) and not _quiet_call(node))
        for statement in handler.body
        for node in ast.walk(statement)
    )


def _quiet_call(call: ast.Call) -> bool:
    """`sys.exit(0)` and its like say nothing."""
    if not (_ends_with(call.func, "exit") or _ends_with(call.func, "_exit")):
        return False
    return not call.args or (isinstance(call.args[0], ast.Constant) and call.args[0].value in (0, None))


def _silences(keyword: ast.keyword) -> bool:
    if keyword.arg == "stderr":
        return not (
            (isinstance(keyword.value, ast.Constant) and keyword.value.value is None)
            or ast.unparse(keyword.value) in ("sys.stderr", "sys.stdout")
        )
    return keyword.arg == "capture_output" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True


def _ends_with(node: ast.expr, name: str) -> bool:
    """`name`, or an attribute of that name."""
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def find_shell_redirects(encoded: bytes, start: int, end: int) -> Iterator[PythonConstruct]:
    """Redirections of stderr inside a string between two byte offsets: `os.system("make 2>/dev/null")`."""
    for match in re.finditer(rb"\s(?:2>>?|&>>?)\s?(?!&)[\w/.-]+", encoded[start:end]):
        yield PythonConstruct(start + match.start(), start + match.end(), "", match[0].strip().decode())


def _line_starts(code: str) -> list[int]:
    """Byte offset at which each line begins."""
    starts = [0]
    for line in code.encode().split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts
