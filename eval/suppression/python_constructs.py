"""Places in Python code that swallow an error: `except: pass`, `suppress(...)`, `stderr=DEVNULL`."""

import ast
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from devnull.eval.suppression.derived_text import IN_C_STRING, unescape
from devnull.eval.suppression.programs import SHELLS
from devnull.eval.suppression.python_children import ends_with, find_captures, takes_output


class PythonConstruct(NamedTuple):
    """One place in Python code, by bytes, that swallows an error or hands code to a shell."""

    kind: Literal["except", "quiet", "stderr", "output", "opaque", "code"]
    """`code`: a string that a shell runs, which is to be read as such."""
    start: int
    end: int
    text: str
    """As written."""
    replacement: str = ""
    """What to write instead."""
    weak: bool = False
    """It keeps warnings or stdout away, not errors."""
    captured: bool = False
    """Python takes the output of the shell that runs it."""


def find_python_constructs(code: str) -> Iterator[PythonConstruct]:
    """Constructs in the order of the syntax tree. Code that does not parse is opaque if it may hide something."""
    indented = re.match(r"[ \t]*", code)
    try:
        tree = ast.parse(code if indented is None or not indented[0] else f"if 1:\n{code}")
    except (SyntaxError, ValueError):
        if _HINTS.search(code):
            yield PythonConstruct("opaque", 0, 0, code)
        return
    yield from _Finder(tree, code, 1 if indented is not None and indented[0] else 0).find()


_HINTS = re.compile(r"\bexcept\b|stderr|DEVNULL|devnull|capture_output|suppress|getoutput|/dev/null|\bdup2\b")
"""Words without which Python code can hide nothing."""


_REDIRECTS = re.compile(r"[>|]&|2>|&>")


class _Finder:
    """One pass over one tree."""

    def __init__(self, tree: ast.Module, code: str, shift: int) -> None:
        self.tree, self.shift = tree, shift
        self.encoded, self.starts = code.encode(), _line_starts(code)
        self.literals = _literal_names(tree)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (
            self.starts[node.lineno - 1 - self.shift] + node.col_offset,
            self.starts[node.end_lineno - 1 - self.shift] + node.end_col_offset,
        )

    def make(
        self,
        kind: Literal["except", "stderr", "quiet", "opaque"],
        node: ast.expr,
        text: ast.expr | ast.stmt,
        new: str = "",
    ) -> PythonConstruct:
        first, last = self.span(text)
        return PythonConstruct(kind, *self.span(node), self.encoded[first:last].decode(), new, kind == "quiet")

    def find(self) -> Iterator[PythonConstruct]:
        nodes = [*ast.walk(self.tree)]
        for kind, name, value, new in find_captures(nodes):
            start, end = self.span(value)
            text = self.encoded[start:end].decode()
            yield PythonConstruct(kind, start, end, f"{name}={text}" if name else text, new, weak=kind == "output")
        read: set[int] = set()
        for node in nodes:
            if isinstance(node, ast.ExceptHandler) and _swallows(node):
                first, last = self.span(node.body[0])[0], self.span(node.body[-1])[1]
                begin = self.starts[node.lineno - 1 - self.shift] + node.col_offset
                yield PythonConstruct("except", first, last, self.encoded[begin:last].decode(), "raise")
            elif isinstance(node, ast.Call):
                yield from self.call(node, read)
            elif isinstance(node, ast.Assign) and any(ends_with(target, "stderr") for target in node.targets):
                start, end = self.span(node)
                yield PythonConstruct("except", start, end, self.encoded[start:end].decode(), "pass")
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                read.add(id(node.value))  # a docstring
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in read:
                yield from find_shell_redirects(self.encoded, *self.span(node))

    def string_span(self, string: ast.Constant) -> tuple[int, int] | None:
        """Where the text of a string stands; none where that is written in a way that is not read."""
        start, end = self.span(string)
        quotes = re.match(rb"[uU]?(\"{3}|'{3}|\"|')", self.encoded[start:end])
        if quotes is None or not isinstance(string.value, str):
            return None
        first, last = start + quotes.end(), end - len(quotes[1])
        text = b"".join(piece.text for piece in unescape(self.encoded, first, last, IN_C_STRING))
        return (first, last) if text == string.value.encode("utf-8", "surrogatepass") else None

    def call(self, node: ast.Call, read: set[int]) -> Iterator[PythonConstruct]:
        """A call that silences, or that runs a string."""
        silencer = _replacement_in_call(node)
        if silencer is not None:
            child = ends_with(node.func, "getoutput") or ends_with(node.func, "getstatusoutput")
            yield self.make("stderr" if child else "except", silencer[0], node, silencer[1])
        elif _hushes_warnings(node):
            yield self.make("quiet", node, node, "None")
        elif (code := _code_argument(node)) is None:
            return
        elif isinstance(code, ast.Constant):
            if span := self.string_span(code):
                read.add(id(code))
                text = self.encoded[slice(*span)].decode()
                yield PythonConstruct("code", *span, text, captured=takes_output(node))
            elif _REDIRECTS.search(str(code.value)):
                yield self.make("opaque", node, node)
        elif not (isinstance(code, ast.Name) and code.id in self.literals):
            yield self.make("opaque", node, node)


def _literal_names(tree: ast.Module) -> set[str]:
    """Names that only ever stand for strings written in the code, or for lists of them."""
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.For):
            targets, value = [node.target], node.iter
        else:
            continue
        items = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
        literal = all(isinstance(item, ast.Constant | ast.List | ast.Tuple) for item in items)
        for target in targets:
            if isinstance(target, ast.Name):
                found[target.id] = literal and found.get(target.id, True)
    return {name for name, literal in found.items() if literal}


def _hushes_warnings(call: ast.Call) -> bool:
    named = ends_with(call.func, "filterwarnings") or ends_with(call.func, "simplefilter")
    first = call.args[0] if call.args else None
    return named and isinstance(first, ast.Constant) and first.value == "ignore"


def _code_argument(call: ast.Call) -> ast.expr | None:
    """The string that a call hands to a shell or to Python; `None`: it hands over none."""
    if not call.args:
        return None
    if isinstance(call.func, ast.Name) and call.func.id in ("exec", "eval", "compile"):
        return None if isinstance(call.args[0], ast.Constant) else call.args[0]
    shell = any(
        keyword.arg == "shell" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in call.keywords
    )
    attribute = isinstance(call.func, ast.Attribute) and call.func.attr in ("system", "popen", "getoutput")
    if isinstance(call.args[0], ast.List | ast.Tuple):
        return _code_in_list(call.args[0].elts)
    return call.args[0] if shell or attribute or ends_with(call.func, "getoutput") else None


def _code_in_list(words: list[ast.expr]) -> ast.expr | None:
    """CODE of `["bash", "-c", CODE]`."""
    texts = [word.value if isinstance(word, ast.Constant) else None for word in words]
    if not texts or str(texts[0]).rsplit("/", 1)[-1] not in SHELLS:
        return None
    flag = next((i for i, text in enumerate(texts) if re.fullmatch("-[a-z]*c[a-z]*", str(text))), len(texts))
    code = flag + 1
    while code < len(texts) and re.match("[-+]", str(texts[code])):
        code += 2 if re.fullmatch("[-+][oO]", str(texts[code])) else 1
    return words[code] if code < len(words) else None


def _replacement_in_call(call: ast.Call) -> tuple[ast.expr, str] | None:
    """What to replace in a call that silences, and by what: without quotes, since it may stand within some."""
    first = call.args[0] if call.args else None
    name = next((each for each in _SILENCERS if ends_with(call.func, each)), None)
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
    if not (ends_with(call.func, "exit") or ends_with(call.func, "_exit")):
        return False
    return not call.args or (isinstance(call.args[0], ast.Constant) and call.args[0].value in (0, None))


def find_shell_redirects(encoded: bytes, start: int, end: int) -> Iterator[PythonConstruct]:
    """Redirections of stderr inside a string between two byte offsets: `os.system("make 2>/dev/null")`."""
    for match in re.finditer(rb"\s(?:2>>?|&>>?)\s?(?!&)[\w/.-]+", encoded[start:end]):
        yield PythonConstruct("stderr", start + match.start(), start + match.end(), match[0].strip().decode())


def _line_starts(code: str) -> list[int]:
    """Byte offset at which each line begins."""
    starts = [0]
    for line in code.encode().split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts
