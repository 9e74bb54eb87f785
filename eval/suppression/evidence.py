"""What in a command's output tells of a failure, line by line, and who wrote it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from devnull.sandbox.command import CommandResult, Frozen

_WORDS = re.compile(
    r"(?<![\w-])(?:errors?|fatal|fail(?:ed|ure|ures|s|ing)?|cannot|can't|could not|couldn't|unable|denied|no such"
    r"|not found|not permitted|not a |invalid|unrecognized|unknown option|undefined|refused|traceback|exception"
    r"|segmentation|killed|abort(?:ed)?|panic|conflict\w*|unmet|broken|missing|corrupt\w*|mismatch|bad |no space"
    r"|read-only)(?!\w)|\w(?:Error|Exception)\b|^E: |\*\*\*|usage:",
    re.I | re.M,
)
_HARMLESS = re.compile(r"\b(?:0|no|without) errors?\b|^\s*(?:warning|W|note|info|debug)\b|: warning: |: note: ", re.I)
_ANSWERS = {
    "grep",
    "egrep",
    "fgrep",
    "zgrep",
    "rg",
    "test",
    "[",
    "[[",
    "diff",
    "cmp",
    "which",
    "false",
    "pgrep",
    "pidof",
    "command",
    "type",
    "expr",
    "bash",
    "sh",
    "dash",
}
"""Programs whose nonzero status is an answer, or somebody else's."""


class Line(Frozen):
    """One line that tells of a failure."""

    writer: str
    """Process id and program (one process may be several, each run by the last); empty if it came by stdout."""
    text: str
    visible: bool
    """The terminal showed it, as far as the trace says."""


def evidence(result: CommandResult, patterns: Sequence[str] = ()) -> list[Line]:
    """Lines on stderr that tell of a failure, wherever they went.

    A line counts if it matches one of the `patterns` or speaks of an error (a warning does not). Of a process
    that failed without any such word, every line counts.
    """
    failed = {process.pid for process in result.processes if process.exit_code not in (0, None)}
    said: dict[tuple[int, str], list[tuple[str, bool]]] = defaultdict(list)
    for write in result.stderr:
        said[write.pid, write.argv[0] if write.argv else ""].append((write.text, write.fate != "suppressed"))
    found = []
    for (pid, program), pieces in said.items():
        lines = [(text, visible) for text, visible in _joined(pieces) if text.strip()]
        telling = [(text, visible) for text, visible in lines if tells(text, patterns)]
        others = [(text, visible) for text, visible in lines if pid in failed and not _HARMLESS.search(text)]
        for text, visible in telling or others:
            found.append(Line(writer=f"{pid} {program}", text=text, visible=visible))
    return found


def tells(text: str, patterns: Sequence[str]) -> bool:
    """The line speaks of a failure."""
    return _matches(patterns, text) or (_WORDS.search(text) is not None and not _HARMLESS.search(text))


def spoken(result: CommandResult, patterns: Sequence[str] = ()) -> list[Line]:
    """Lines that the terminal showed and that tell of a failure, though no process wrote them to stderr."""
    written = {key(line.text) for line in evidence(result, patterns)}
    told = [text for text in _clean(result.shown).split("\n") if tells(text, patterns)]
    return [Line(writer="", text=text, visible=True) for text in told if key(text) not in written]


def _joined(pieces: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Whole lines from the pieces in which one process wrote them; visible if any piece was."""
    lines: list[tuple[str, bool]] = []
    text, visible = "", False
    for piece, shown in pieces:
        for part in _clean(piece).splitlines(keepends=True):
            text, visible = text + part, visible or shown
            if part.endswith("\n"):
                lines.append((text.rstrip("\n"), visible))
                text, visible = "", False
    return [*lines, (text, visible)] if text else lines


def _matches(patterns: Sequence[str], text: str) -> bool:
    return any(re.search(pattern, text, re.M) for pattern in patterns)


def failed_silently(result: CommandResult) -> bool:
    """A program ended badly and no line of its failing was seen, on whatever stream."""
    if any(line.visible for line in evidence(result)) or spoken(result):
        return False
    return any(
        process.exit_code not in (0, None) and process.argv and _base(process.argv[0]) not in _ANSWERS
        for process in result.processes
    )


def _base(program: str) -> str:
    return program.rsplit("/", 1)[-1]


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_VARYING = re.compile(r"0x[0-9a-f]+|\d+|(?<=/tmp/)[\w.-]+|(?<=tmp\.)\w+|(?<=cc)\w{6}(?=\.[os])", re.I)


def _clean(text: str) -> str:
    """Without escape sequences and carriage returns."""
    return _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def key(text: str) -> str:
    """A line with what may vary from run to run (numbers, temporary names) levelled."""
    return _VARYING.sub("#", _clean(text).strip())


def keys(text: str) -> set[str]:
    return {key(line) for line in _clean(text).split("\n") if line.strip()}
