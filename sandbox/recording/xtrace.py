"""Reads bash's xtrace lines: which simple commands a shell ran, and how each ended."""

import re
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[[^]]*\])?\+?=")
_NUMBER = re.compile(r"[0-9]{1,9}")
_PLAIN = re.compile(r"[^ \n'\"$\\]+")
"""Characters of a word that stand for themselves."""
_OCTAL = re.compile(r"[0-7]{1,3}")
_HEADERS = ("for", "case", "select")
_ESCAPES = {"a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True)
class TracedCommand:
    """One traced simple command: `PS4` shows `$?` of the command before it and how deep in functions it is."""

    order: int
    """Among all events of the command."""
    pid: int
    status_before: int
    depth: int
    argv: tuple[str, ...]


def parse_traced_command(order: int, pid: int, line: str) -> TracedCommand | None:
    """From a T frame's text, `status:depth:words`; `None` for text of another form."""
    status, _, rest = line.partition(":")
    depth, _, words = rest.partition(":")
    if not (_NUMBER.fullmatch(status) and _NUMBER.fullmatch(depth)):
        return None
    argv = split_words(words)
    return TracedCommand(order, pid, int(status), int(depth), argv)


def is_simple_command(argv: tuple[str, ...]) -> bool:
    """Whether traced words are a simple command, rather than an assignment or the head of a loop."""
    return bool(argv) and argv[0] not in _HEADERS and not _ASSIGNMENT.match(argv[0])


def split_words(line: str) -> tuple[str, ...]:
    """Splits a line as bash quotes it in a trace: plain, '...', "...", $'...' and backslashes."""
    words: list[str] = []
    word: list[str] | None = None
    i = 0
    while i < len(line):
        c = line[i]
        if c in " \n":
            if word is not None:
                words.append("".join(word))
            word = None
            i += 1
            continue
        word = [] if word is None else word
        if c == "'":
            end = line.find("'", i + 1)
            end = len(line) if end < 0 else end
            word.append(line[i + 1 : end])
            i = end + 1
        elif line.startswith("$'", i):
            text, i = _ansi_c(line, i + 2)
            word.append(text)
        elif c == '"':
            i += 1
            while i < len(line) and line[i] != '"':
                if line[i] == "\\" and line[i + 1 : i + 2] in ('"', "\\", "$", "`"):
                    i += 1
                word.append(line[i])
                i += 1
            i += 1
        elif c == "\\":
            word.append(line[i + 1 : i + 2])
            i += 2
        else:
            plain = _PLAIN.match(line, i)
            word.append(plain[0] if plain else c)
            i = plain.end() if plain else i + 1
    if word is not None:
        words.append("".join(word))
    return tuple(words)


def _ansi_c(line: str, i: int) -> tuple[str, int]:
    """The inside of `$'...'` from `i` on, and where it ends."""
    out = bytearray()
    while i < len(line) and line[i] != "'":
        c = line[i]
        if c != "\\":
            out += c.encode("utf-8", "surrogateescape")
            i += 1
            continue
        octal = _OCTAL.match(line, i + 1)
        if octal:
            out.append(int(octal[0], 8) & 255)
            i = octal.end()
            continue
        letter = line[i + 1 : i + 2]
        out += _ESCAPES.get(letter, letter).encode("utf-8", "surrogateescape")
        i += 2
    return out.decode("utf-8", "backslashreplace"), i + 1


def exit_statuses(
    steps: list[TracedCommand], parent: dict[int, int], ends: dict[int, int], shell: int, final: int | None
) -> list[int | None]:
    """Exit status of each traced command (`steps`), from the `$?` that the next one saw; `None` if none did.

    A function's inner steps run deeper; its own status is what the next step at its level saw. A subshell's first step
    still sees the `$?` of the shell that forked it (`parent`). The last step of a subshell ends with it (`ends`, pid to
    status), that of the main shell with the command (`final`).
    """
    statuses: list[int | None] = [None] * len(steps)
    waiting: dict[int, list[int]] = {}
    for i, step in enumerate(steps):
        of = step.pid if step.pid in waiting else parent.get(step.pid, 0)
        stack = waiting.get(of, [])
        while stack and steps[stack[-1]].depth >= step.depth:
            statuses[stack.pop()] = step.status_before
        waiting.setdefault(step.pid, []).append(i)
    for pid, stack in waiting.items():
        for i in stack:
            statuses[i] = final if pid == shell else ends.get(pid)
    return statuses
