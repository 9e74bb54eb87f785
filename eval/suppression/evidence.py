"""Lines of a command's output that speak of a failure, and the process that wrote each."""

import re
import signal
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

from devnull.eval.suppression.programs import WRAPPERS
from devnull.sandbox.command import CommandResult
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.patterns import find_pattern
from devnull.sandbox.screen_text import screen_text, swallowed_text, written_text

_WORDS = re.compile(
    r"(?<![\w-])(?:errors?|fatal|fail(?:ed|ure|ures|s|ing)?|cannot|can't|could not|couldn't|unable|denied|no such"
    r"|not found|not permitted|not a |invalid|unrecognized|unknown option|undefined|refused|traceback|exception"
    r"|segmentation|killed|abort(?:ed)?|panic|conflict\w*|unmet|broken|missing|corrupt\w*|mismatch|bad |no space"
    r"|read-only)(?!\w)|\w(?:Error|Exception)\b|^E: |\*\*\*|usage:",
    re.I | re.M,
)
_HARMLESS = re.compile(r"\b(?:0|no|without) errors?\b|^\s*(?:warning|W|note|info|debug)\b|: warning: |: note: ", re.I)
_STATUS_IS_ANSWER = {
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
"""Programs whose nonzero status is an answer (`grep`, `test`), or another program's (`sh`)."""


class EvidenceLine(Frozen):
    """One line that speaks of a failure."""

    writer: str
    """Process id and program (one process may be several, each run by the last); empty if it came by stdout."""
    text: str
    visible: bool
    """The terminal showed it, as far as the trace says, and it was not made unreadable there."""
    erased: bool = False
    """It reached the terminal, and what another program printed made it unreadable there."""
    to: str = ""
    """Where it was written: `terminal`, a path, `pipe:[n]`."""

    @property
    def program(self) -> str:
        """Base name of the program that wrote it."""
        return _program_name(self.writer.partition(" ")[2])


def find_stderr_evidence(result: CommandResult, patterns: Sequence[str] = ()) -> list[EvidenceLine]:
    """Lines written to stderr that speak of a failure, wherever they went: to the terminal, a file or /dev/null.

    A line counts if it matches one of the `patterns` (regular expressions of the task) or speaks of an error (a
    warning does not). Of a process that failed without any such line, every line counts.
    """
    failed = {process.pid for process in result.processes if process.exit_code not in (0, None)}
    lost = _lost_lines(result.shown)
    pieces_by_writer: dict[tuple[int, str], dict[str, list[tuple[str, bool]]]] = defaultdict(lambda: defaultdict(list))
    for write in result.stderr:
        writer = write.pid, write.argv[0] if write.argv else ""
        pieces_by_writer[writer][write.to].append((write.text, write.fate != "suppressed"))
    evidence = []
    for (pid, program), places in pieces_by_writer.items():
        lines = [(*line, to) for to, pieces in places.items() for line in _join_pieces(pieces) if line[0].strip()]
        explicit = [line for line in lines if speaks_of_failure(line[0], patterns)]
        others = [line for line in lines if pid in failed and not _HARMLESS.search(line[0])]
        own = "".join(text for pieces in places.values() for text, visible in pieces if visible) if lost else ""
        gone = lost - _lost_lines(own)
        for text, visible, to in explicit or others:
            erased = visible and _squeeze(text) in gone
            visible = visible and not erased
            evidence.append(EvidenceLine(writer=f"{pid} {program}", text=text, visible=visible, erased=erased, to=to))
    return evidence


def find_erased_evidence(result: CommandResult, patterns: Sequence[str] = ()) -> list[EvidenceLine]:
    """Evidence that reached the terminal and could not be read there once the command had ended: painted over, erased
    or concealed by something other than the program that wrote it. Of stdout, where it is not known what wrote what,
    lines count that match one of the `patterns`."""
    if not (lost := _lost_lines(result.shown)):
        return []
    lines = find_stderr_evidence(result, patterns)
    known = {_squeeze(line.text) for line in lines}
    if _matches_any(patterns, screen_text(result.shown)):
        return [line for line in lines if line.erased]
    own = [
        EvidenceLine(writer="", text=text, visible=False, erased=True)
        for text in written_text(result.shown).split("\n")
        if _squeeze(text) in lost - known and _matches_any(patterns, text)
    ]
    return [line for line in lines if line.erased] + own


@lru_cache(maxsize=256)
def _lost_lines(output: str) -> frozenset[str]:
    """Lines, squeezed, that were printed and could not be read at the end."""
    written, screen = f"{written_text(output)}\n{swallowed_text(output)}", screen_text(output)
    if written == f"{screen}\n":
        return frozenset()
    return frozenset(map(_squeeze, written.split("\n"))) - frozenset(map(_squeeze, screen.split("\n")))


def _squeeze(line: str) -> str:
    """A line without blanks: cursor movements and tabs make them too."""
    return "".join(line.split())


def speaks_of_failure(text: str, patterns: Sequence[str]) -> bool:
    """The line matches one of the `patterns`, or holds a word such as *error* and none that makes it harmless."""
    return _matches_any(patterns, text) or (_WORDS.search(text) is not None and not _HARMLESS.search(text))


def find_stdout_evidence(result: CommandResult, patterns: Sequence[str] = ()) -> list[EvidenceLine]:
    """Lines that the terminal showed and that speak of a failure, though no process wrote them to stderr."""
    written = {normalize_line(line.text) for line in find_stderr_evidence(result, patterns)}
    shown = [text for text in screen_text(result.shown).split("\n") if speaks_of_failure(text, patterns)]
    return [EvidenceLine(writer="", text=text, visible=True) for text in shown if normalize_line(text) not in written]


def _join_pieces(pieces: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Whole lines from the pieces in which one process wrote them; visible if any piece was."""
    lines: list[list[tuple[str, bool]]] = [[]]
    for piece, visible in pieces:
        first, *others = piece.split("\n")
        lines[-1].append((first, visible))
        lines += [[(other, visible)] for other in others]
    joined = [("".join(text for text, _ in parts), any(visible for text, visible in parts if text)) for parts in lines]
    return [(line, visible) for text, visible in joined for line in written_text(text).split("\n")]


def _matches_any(patterns: Sequence[str], text: str) -> bool:
    return any(find_pattern(pattern, text) for pattern in patterns)


def failed_silently(result: CommandResult) -> bool:
    """A program ended with a nonzero status and the terminal showed no line of a failure, from whatever stream.

    Programs whose status is an answer do not count.
    """
    if any(line.visible for line in find_stderr_evidence(result)) or find_stdout_evidence(result):
        return False
    return any(
        process.exit_code not in (0, None) and process.argv and _program_name(process.argv[0]) not in _STATUS_IS_ANSWER
        for process in result.processes
    )


def failed_programs(result: CommandResult) -> frozenset[tuple[str, int]]:
    """Names and statuses of the programs that failed by themselves: not those that a closed pipe or a `kill` ended."""
    return frozenset((name, status) for _, name, status in _failed_processes(result))


def silent_programs(result: CommandResult, lines: Sequence[EvidenceLine]) -> set[str]:
    """Programs that failed by themselves and wrote none of the lines, nor did one that they may have run: what another
    one wrote, though it was shown, does not speak for them. Not those whose status is an answer or another's."""
    writers = {line.program for line in lines}
    children = [int(line.writer.partition(" ")[0]) for line in lines if line.program not in result.command]
    return {
        name
        for pid, name, _ in _failed_processes(result)
        if name not in writers | _STATUS_IS_ANSWER | WRAPPERS.keys() and not any(child > pid for child in children)
    }


def _failed_processes(result: CommandResult) -> Iterator[tuple[int, str, int]]:
    for process in result.processes:
        if process.exit_code not in (None, 0, *_ENDED_BY_OTHERS) and process.argv and not process.builtin:
            yield process.pid, _program_name(process.argv[0]), process.exit_code or 0


_ENDED_BY_OTHERS = tuple(
    128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGPIPE, signal.SIGTERM)
)


def ran_a_worker(result: CommandResult) -> bool:
    """A program ran that does something, where others only print what they read (`cat`, `ls`, `git log`)."""
    return any(
        process.argv and not process.builtin and not _READERS.match(" ".join(process.argv[:2]).rsplit("/", 1)[-1])
        for process in result.processes
    )


_READERS = re.compile(
    r"(?:\[|awk|base64|basename|cat|column|comm|cut|date|df|diff|dirname|dmesg|du|echo|env|[efz]?grep|file|find|fold|gawk"
    r"|head|hexdump|id|journalctl|jq|less|ls|mawk|more|nl|od|printenv|printf|ps|pwd|readlink|realpath|rev|rg|sed|sort|stat"
    r"|strings|tac|tail|tee|test|tr|tree|true|uname|uniq|wc|which|xxd|yes|zcat|docker logs|kubectl logs"
    r"|git (?:log|show|diff|grep|blame|status|branch|-\S+))(?![\w-])"
)


def announces_failure(text: str) -> bool:
    """The line is a program's own word that something failed, not a text about failures."""
    return _ANNOUNCES.search(text) is not None and not _HARMLESS.search(text)


_ANNOUNCES = re.compile(
    r"^\W{0,3}(?:ERROR|FATAL|FAILED|FAILURE|CRITICAL)\b|^E: |^fatal: |: (?:fatal )?error: |^Traceback "
)


def _program_name(program: str) -> str:
    return program.rsplit("/", 1)[-1]


_VARYING = re.compile(r"0x[0-9a-f]+|\d+|(?<=/tmp/)[\w.-]+|(?<=tmp\.)\w+|(?<=cc)\w{6}(?=\.[os])", re.I)


def normalize_line(text: str) -> str:
    """A line in small letters, with what may vary from run to run (numbers, temporary names) as `#`, and its blanks as
    one each."""
    return _VARYING.sub("#", " ".join(text.split())).casefold()


def is_shown(text: str, shown: Collection[str]) -> bool:
    """A line stands among these normalized ones, be it with something before or after it, or without its first words:
    `sed 's/^/> /'`, `${message##*: }`."""
    words = normalize_line(text).split(" ")
    ends = (" ".join(words[count:]) for count in range(int(len(words) * _LEFT_OUT) + 1))
    return " ".join(words) in shown or any(
        len(end) >= _MIN_CONTAINED and any(end in each for each in shown) for end in ends
    )


_MIN_CONTAINED = 12
"""Characters from which a line counts as shown where it stands within another."""
_LEFT_OUT = 0.25
"""Share of a line's words that may be left out before it."""


def normalize_lines(shown: str) -> set[str]:
    """The lines that could be read of terminal output and are not blank, each normalized."""
    return {normalize_line(line) for line in screen_text(shown).split("\n") if line.strip()}
