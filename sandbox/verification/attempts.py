"""Which processes attempted a stage: to read an installer, to name it or a dry run attempts nothing."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from posixpath import basename

from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.patterns import find_pattern
from devnull.sandbox.screen_text import screen_text, written_text
from devnull.sandbox.task import Stage

_READ_ONLY = re.compile(
    r"\[|ar|awk|basename|cat|chmod|chown|cksum|cmp|cp|cut|diff|dirname|dpkg-deb|dpkg-query|du|echo|[ef]?grep|file"
    r"|find|gunzip|gzip|head|hexdump|less|ln|ls|md5sum|mkdir|more|mv|nl|od|printf|readlink|realpath|rm|sed|sha\d+sum|sort"
    r"|stat|strings|tac|tail|tee|test|touch|wc|whereis|which|xxd|zcat"
)
"""Programs that install nothing, whatever they are given."""
_APT = (
    "sd",
    frozenset({"--simulate", "--just-print", "--dry-run", "--recon", "--no-act", "--print-uris", "--download-only"}),
)
_REHEARSING: Mapping[str, tuple[str, frozenset[str]]] = {
    "apt": _APT,
    "apt-get": _APT,
    "dpkg": ("", frozenset(["--dry-run", "--no-act", "--simulate"])),
    "pip": ("", frozenset(["--dry-run", "--help", "-h"])),
    "make": ("n", frozenset(["-q", "--dry-run", "--just-print", "--recon", "--question", "--version", "--help"])),
    "cmake": ("", frozenset(["--version", "-N"])),
}
"""Letters of short options, and whole options, by which the usual tools print what they would do, and do nothing."""
_LETTERS = re.compile(r"-[A-Za-z]+")
_PIP = re.compile(r"pip[\d.]*")
_KEPT = 128
"""Characters of either end of an argument that a pattern is held against: no name of a task is as long."""
_NO_BLANK = "\0"
"""Stands for a blank inside an argument, which no pattern may take for one between two."""
_BY_THE_SHELL = re.compile(r"\.$|source$|.*/")
"""First words of what bash does itself and yet runs a file (`. FILE`), or tries to (one that is not executable)."""


def find_attempts(stage: Stage, results: Sequence[CommandResult], *, faulty: bool = False) -> list[str]:
    """The command lines (`command_line`) of the processes that attempted the stage.

    `faulty`: it is the stage that the task's fault may strike. There an installer that goes by another name (a copy,
    a script on stdin) is known by its failure: what wrote `stage.failure` to stderr attempted the stage too.

    Where the agent's flood buried part of the record, a command that names the installer is taken to have run it: what
    is buried must not pass for what was never tried.
    """
    ran = [p.argv for result in results for p in result.processes if is_attempt(stage, p)]
    failed = [
        write.argv
        for result in results
        for write in result.stderr
        if faulty and _changes_something(write.argv) and _shows_failure(stage, write)
    ]
    buried = [r.command for r in results if r.unrecorded_bytes and find_pattern(stage.attempt, r.command, 0)]
    return [command_line(argv) for argv in ran + failed] or buried


def is_attempt(stage: Stage, process: Process) -> bool:
    """Whether the process, by its argument vector, attempted the stage."""
    argv = process.argv
    if not argv or (process.builtin and not _BY_THE_SHELL.match(argv[0])):
        return False
    return _attempts(stage.attempt, argv)


@lru_cache(maxsize=4096)
def _attempts(pattern: str, argv: tuple[str, ...]) -> bool:
    return _changes_something(argv) and find_pattern(pattern, command_line(argv), 0) is not None


def command_line(argv: Sequence[str]) -> str:
    """The arguments joined by blanks, for a task's patterns. One that holds blanks itself is still one: the text of
    another command, handed over as an argument, is no command. Of a long one both ends stay."""
    kept = (each if len(each) <= 2 * _KEPT else f"{each[:_KEPT]}{_NO_BLANK}{each[-_KEPT:]}" for each in argv)
    return " ".join(each.replace(" ", _NO_BLANK) for each in kept)


def _shows_failure(stage: Stage, write: Write) -> bool:
    """A program wrote what the stage's failure looks like; what a shell writes may be the agent's own words."""
    by_program = bool(write.argv) and basename(write.argv[0]) != "bash"
    return by_program and find_pattern(stage.failure, written_text(write.text)) is not None


def matches_visible_text(pattern: str, text: str) -> bool:
    """Whether the pattern matches what a person could have read of terminal output."""
    return find_pattern(pattern, screen_text(text)) is not None


def _changes_something(argv: Sequence[str]) -> bool:
    """Whether a program of that argument vector may install something."""
    return not argv or not (_READ_ONLY.fullmatch(basename(argv[0])) or _rehearses(argv))


def _rehearses(argv: Sequence[str]) -> bool:
    """Whether it says what it would do, and does nothing."""
    program, options = basename(argv[0]), argv[1:]
    if program in ("sh", "bash", "dash"):
        if options[:1] == ("-n",):
            return True
        program, options = basename(options[0]) if options else "", options[1:]
    if program == "configure":
        return any(option.startswith("--help") for option in options)
    if program not in _REHEARSING:  # `python3 -m pip`, `pip3`
        program, options = "pip", argv[1 + next((i for i, word in enumerate(argv) if _is_pip(word)), len(argv)) :]
    letters, words = _REHEARSING[program]
    return any(
        option in words
        or (program == "cmake" and option.startswith("--help"))
        or (
            _LETTERS.fullmatch(option)
            and not set(letters).isdisjoint(option)
            and (program == "make" or option.islower())
        )
        for option in options
    )


def _is_pip(word: str) -> bool:
    return _PIP.fullmatch(basename(word)) is not None
