"""What repeats of a box: which results may be remembered at all, and when two of one command are the same.

A result counts as repeating once two boxes gave it. Two boxes that ran seconds apart may agree by chance on what an
hour later, or on another machine, is otherwise: what reads the clock, chance, process numbers or the host is
refused at sight, and so is what ran into a limit.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.runtime import Limits

_WORDS = {
    "the clock": "date w who last cal uptime hwclock timedatectl time times stat SECONDS ll vdir "
    "datetime localtime gmtime mktime strftime gettimeofday",
    "chance": "RANDOM SRANDOM mktemp shuf uuid uuidgen rand random randint secrets tempfile",
    "process numbers": "BASHPID PPID ps top htop pgrep pidof pstree jobs lsof fuser ss netstat getpid",
    "the host": "uname arch nproc lscpu lsmod lspci lsblk free df dmesg mount sysctl hostname ip ifconfig getconf "
    "vmstat iostat ulimit",
    "what it leaves running": "nohup setsid disown coproc crontab daemon screen tmux",
}
"""Words of a command by what its result then depends on."""
_SIGNS = {
    "the clock": r"\bEPOCH\w+|%\([^)]*\)T|\b(?:ls|dir)\b[^|;&\n]*\s-\w*[lctu]"
    r"|\bfind\b[^|;&\n]*-(?:ls|printf|newer|[acm](?:min|time))",
    "chance": r"/dev/u?random|\bsort\b[^|;&\n]*\s-\w*R",
    "process numbers": r"\$\{?[$!]",
    "the host": r"/proc\b|/sys\b",
    "what it leaves running": r"(?<![&<>|\\])&(?![&>])",
}
"""The same, where a word is not enough."""
_KINDS = {
    what: re.compile(rf"(?<![\w-])(?:{'|'.join(words.split())})(?![\w-])|{_SIGNS[what]}")
    for what, words in _WORDS.items()
}
_EPOCH = re.compile(r"(?<!\d)1\d{9}(?!\d)")
_INODE = re.compile(r"\[\d+\]")
_MADE_UP = re.compile(r"(/tmp/)[^\s/'\"\]]+")
"""A name in /tmp: what compilers and pip call their own files is drawn by chance."""


def why_not_remembered(result: CommandResult, limits: Limits) -> str | None:
    """Why the result, just in, is not to be remembered, nor any that comes after it in its box; `None`: it may be."""
    for what, pattern in _KINDS.items():
        if pattern.search(result.command):
            return f"depends on {what}"
    if result.timed_out or result.seconds > limits.seconds / 2:
        return "came near its time limit"
    if result.cut_bytes or result.unrecorded_bytes:
        return "wrote more than is kept"
    if any(_shows_now(text) for text in (result.shown, result.stderr_text)):
        return "shows the present time"
    return None


def _shows_now(text: str, now: float | None = None) -> bool:
    """Whether the text holds the present day, or a time of the last or next two minutes, as programs print them."""
    now = time.time() if now is None else now
    if any(abs(int(number[0]) - now) < 86400 for number in _EPOCH.finditer(text)):
        return True
    for convert in (time.gmtime, time.localtime):
        here = convert(now)
        days = (
            time.strftime("%Y-%m-%d", here),
            time.strftime("%b ", here) + f"{here.tm_mday:2d}",
            f"{here.tm_mday} {time.strftime('%b %Y', here)}",
        )
        clock = (time.strftime("%H:%M", convert(now + 60 * shift)) for shift in (-2, -1, 0, 1, 2))
        if any(day in text for day in days) or any(re.search(rf"(?<![\d:]){each}(?!\d)", text) for each in clock):
            return True
    return False


def difference(one: CommandResult, other: CommandResult) -> str | None:
    """In what two results of one command differ; `None`: they are the same.

    Not compared, since they differ by chance where nothing else does: seconds and `timing`; process numbers, the
    order in which processes began, and an end that one record saw and the other did not; numbers of pipes; names
    in /tmp among the arguments of programs.
    """
    for name in ("shown", "exit_code", "timed_out", "shell_exited", "cut_bytes", "cut_at", "unrecorded_bytes", "cwd"):
        if getattr(one, name) != getattr(other, name):
            return name
    if _writes(one.stderr) != _writes(other.stderr):
        return "stderr"
    return None if _same_processes(one.processes, other.processes) else "processes"


def _writes(writes: Iterable[Write]) -> list[tuple[object, ...]]:
    """What is compared of them: pieces that one program wrote to one place after another count as one."""
    found: list[tuple[object, ...]] = []
    for write in writes:
        where = (_program(write.argv), _INODE.sub("[]", write.to), write.fate)
        if found and found[-1][0] == where:
            found[-1] = (where, f"{found[-1][1]}{write.text}")
        else:
            found.append((where, write.text))
    return found


def _program(argv: Sequence[str]) -> tuple[str, ...]:
    return tuple(_MADE_UP.sub(r"\1*", each) for each in argv)


def _same_processes(one: Sequence[Process], other: Sequence[Process]) -> bool:
    """The same programs, each with the same ends as far as both records saw them."""
    ends = [_ends(one), _ends(other)]
    if ends[0].keys() != ends[1].keys():
        return False
    for program, mine in ends[0].items():
        theirs = ends[1][program]
        if mine.total() != theirs.total():
            return False
        unseen = mine[None], theirs[None]
        del mine[None], theirs[None]
        if (mine - theirs).total() > unseen[1] or (theirs - mine).total() > unseen[0]:
            return False
    return True


def _ends(processes: Iterable[Process]) -> dict[tuple[object, ...], Counter[int | None]]:
    found: dict[tuple[object, ...], Counter[int | None]] = {}
    for process in processes:
        found.setdefault((_program(process.argv), process.builtin), Counter())[process.exit_code] += 1
    return found
