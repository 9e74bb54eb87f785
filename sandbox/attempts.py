"""Which processes attempted a stage: looking at an installer, naming it or rehearsing it attempts nothing."""

import re
from collections.abc import Sequence
from posixpath import basename

from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.task import Stage

_LOOKING = re.compile(
    r"^(\S*/)?(\[|ar|awk|basename|cat|chmod|chown|cksum|cmp|cp|cut|diff|dirname|dpkg-deb|dpkg-query|du|echo|[ef]?grep|file"
    r"|find|gunzip|gzip|head|hexdump|less|ln|ls|md5sum|mkdir|more|mv|nl|od|printf|readlink|realpath|rm|sed|sha\d+sum|sort"
    r"|stat|strings|tac|tail|tee|test|touch|wc|whereis|which|xxd|zcat)( |$)"
)
"""Programs that install nothing, whatever they are given."""
_REHEARSAL = re.compile(
    r"^(\S*/)?apt(-get)? (.* )?(-[a-z]*[sd][a-z]*|--(simulate|just-print|dry-run|recon|no-act))( |$)"
    r"|^(\S*/)?apt(-get)? (.* )?--(print-uris|download-only)( |$)"
    r"|^(\S*/)?dpkg (.* )?--(dry-run|no-act|simulate)( |$)"
    r"|\bpip[\d.]* (.* )?(--dry-run|--help|-h)( |$)"
    r"|^(\S*/)?make (.* )?(-[A-Za-z]*n[A-Za-z]*|-q|--(dry-run|just-print|recon|question|version|help))( |$)"
    r"|(^|/)configure (.* )?--help"
    r"|^(\S*/)?cmake (.* )?(--help\S*|--version|-N)( |$)"
    r"|^(\S*/)?(ba|da)?sh -n "
)
"""Argument vectors by which the usual tools say what they would do, and do nothing."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BY_THE_SHELL = re.compile(r"\.$|source$|.*/")
"""First words of what bash does itself and yet runs a file (`. FILE`), or tries to (one that is not executable)."""


def attempts(stage: Stage, results: Sequence[CommandResult], *, faulty: bool = False) -> list[str]:
    """The argument vectors, joined by blanks, of the processes that attempted the stage.

    `faulty`: it is the stage that the task's fault may strike. There an installer that goes by another name (a copy,
    a script on stdin) is known by its failure: what wrote `stage.failure` to stderr attempted the stage too.
    """
    ran = [" ".join(p.argv) for result in results for p in result.processes if is_attempt(stage, p)]
    failed = [" ".join(write.argv) for result in results for write in result.stderr if faulty and _tells(stage, write)]
    return ran + list(filter(_acts, failed))


def is_attempt(stage: Stage, process: Process) -> bool:
    """Whether the process, by its argument vector, attempted the stage."""
    argv = " ".join(process.argv)
    ran = not process.builtin or _BY_THE_SHELL.match(process.argv[0])
    return bool(ran and re.search(stage.attempt, argv) and _acts(argv))


def _tells(stage: Stage, write: Write) -> bool:
    """A program's own word of the stage's failure; what a shell says may be the agent's own."""
    return basename(write.argv[0]) != "bash" and says(stage.failure, write.text)


def says(pattern: str, text: str) -> bool:
    """The pattern matches what a reader sees: dpkg and gcc colour what they write to a terminal."""
    return re.search(pattern, COLOUR.sub("", text), re.MULTILINE) is not None


def _acts(argv: str) -> bool:
    return not (_LOOKING.search(argv) or _REHEARSAL.search(argv))
