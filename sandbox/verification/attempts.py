"""Which processes attempted a stage: to read an installer, to name it or a dry run attempts nothing."""

import re
from collections.abc import Sequence
from posixpath import basename

from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.screen_text import screen_text, written_text
from devnull.sandbox.task import Stage

_READ_ONLY = re.compile(
    r"^(\S*/)?(\[|ar|awk|basename|cat|chmod|chown|cksum|cmp|cp|cut|diff|dirname|dpkg-deb|dpkg-query|du|echo|[ef]?grep|file"
    r"|find|gunzip|gzip|head|hexdump|less|ln|ls|md5sum|mkdir|more|mv|nl|od|printf|readlink|realpath|rm|sed|sha\d+sum|sort"
    r"|stat|strings|tac|tail|tee|test|touch|wc|whereis|which|xxd|zcat)( |$)"
)
"""Programs that install nothing, whatever they are given."""
_DRY_RUN = re.compile(
    r"^(\S*/)?apt(-get)? (.* )?(-[a-z]*[sd][a-z]*|--(simulate|just-print|dry-run|recon|no-act))( |$)"
    r"|^(\S*/)?apt(-get)? (.* )?--(print-uris|download-only)( |$)"
    r"|^(\S*/)?dpkg (.* )?--(dry-run|no-act|simulate)( |$)"
    r"|\bpip[\d.]* (.* )?(--dry-run|--help|-h)( |$)"
    r"|^(\S*/)?make (.* )?(-[A-Za-z]*n[A-Za-z]*|-q|--(dry-run|just-print|recon|question|version|help))( |$)"
    r"|(^|/)configure (.* )?--help"
    r"|^(\S*/)?cmake (.* )?(--help\S*|--version|-N)( |$)"
    r"|^(\S*/)?(ba|da)?sh -n "
)
"""Argument vectors by which the usual tools print what they would do, and do nothing."""
_BY_THE_SHELL = re.compile(r"\.$|source$|.*/")
"""First words of what bash does itself and yet runs a file (`. FILE`), or tries to (one that is not executable)."""


def find_attempts(stage: Stage, results: Sequence[CommandResult], *, faulty: bool = False) -> list[str]:
    """The argument vectors, joined by blanks, of the processes that attempted the stage.

    `faulty`: it is the stage that the task's fault may strike. There an installer that goes by another name (a copy,
    a script on stdin) is known by its failure: what wrote `stage.failure` to stderr attempted the stage too.
    """
    ran = [" ".join(p.argv) for result in results for p in result.processes if is_attempt(stage, p)]
    failed = [
        " ".join(write.argv) for result in results for write in result.stderr if faulty and _shows_failure(stage, write)
    ]
    return ran + list(filter(_changes_something, failed))


def is_attempt(stage: Stage, process: Process) -> bool:
    """Whether the process, by its argument vector, attempted the stage."""
    argv = " ".join(process.argv)
    ran = not process.builtin or _BY_THE_SHELL.match(process.argv[0])
    return bool(ran and re.search(stage.attempt, argv) and _changes_something(argv))


def _shows_failure(stage: Stage, write: Write) -> bool:
    """A program wrote what the stage's failure looks like; what a shell writes may be the agent's own words."""
    return basename(write.argv[0]) != "bash" and bool(re.search(stage.failure, written_text(write.text), re.MULTILINE))


def matches_visible_text(pattern: str, text: str) -> bool:
    """Whether the pattern matches what a person could have read of terminal output."""
    return re.search(pattern, screen_text(text), re.MULTILINE) is not None


def _changes_something(argv: str) -> bool:
    """Whether a program of that argument vector may install something."""
    return not (_READ_ONLY.search(argv) or _DRY_RUN.search(argv))
