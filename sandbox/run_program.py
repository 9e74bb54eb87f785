"""Runs one program in a box as a caller without a terminal does: argument vector in, stdout and stderr apart.

The shell of the session starts it in a subshell, with pipes in place of the terminal. Who reads the pipes is the
caller: what never came through one was kept off the caller.
"""

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from devnull.sandbox.command import CommandResult, Write
from devnull.sandbox.frames import MAX_FRAME_BYTES
from devnull.sandbox.recording.stderr_fates import (
    CLOSED,
    FILE,
    NOWHERE,
    OTHER,
    PIPE,
    TERMINAL,
    RawWrite,
    decide_fates,
    decode_output,
)
from devnull.sandbox.session import HARNESS_SECONDS, BoxSession

_FOLDER = "/.devnull"
"""Of the box, for what passes between the session and its programs."""
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ENV = "/usr/bin/env"
_SETPRIV = "/usr/bin/setpriv"
_READ_AT_ONCE = MAX_FRAME_BYTES - 4096
_LONGEST = 86400.0
"""Seconds of a program without a time limit."""
_AT_LOGIN = ("mesg", "n")
"""What Debian's `/root/.profile` runs in a login shell, to fail where there is no terminal."""
_SHOWN = 1 << 18
"""Bytes of each end of a stream that the record keeps."""
_PIDS = 64
"""Bytes more of stdout than are asked for: for the line of process ids."""
_RUN = r"""(set +x; path=$PATH PATH={path} d={folder} wrapper=$BASHPID
mkfifo -m 666 $d/out $d/err $d/never || exit 125
cat <$d/out >$d/stdout & out=$!
cat <$d/err >$d/stderr & err=$!
mapfile -d '' -t argv <$d/argv; mapfile -d '' -t cwd <$d/cwd
(echo "$BASHPID $wrapper $out $err"; cd -- "${{cwd[0]}}" && PATH=$path exec "${{argv[@]}}") <$d/stdin >$d/out 2>$d/err
status=$?
exec 3<>$d/never
for ((i = 0; i < 400; i++)); do kill -0 $out || kill -0 $err || break; read -r -t 0.005 -u 3; done
exit $status)"""
"""Typed at the session's shell; the first line of stdout names the processes. What lives on behind the program keeps
the pipes open and may write to them: it is waited for 2 s."""


class Account(NamedTuple):
    """A user of the box, as its passwd file has it."""

    uid: int
    gid: int
    home: str
    listed: bool = True
    """It stands in the file."""


ROOT = Account(0, 0, "/root")


@dataclass(frozen=True)
class Program:
    """What is to be run."""

    argv: tuple[str, ...]
    """The program is found in the box's `PATH`, with `env` applied first."""
    stdin: bytes = b""
    cwd: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    account: Account = ROOT


class ProgramRun(NamedTuple):
    """What one program did."""

    stdout: bytes
    stderr: bytes
    """Each at most one byte longer than the limit: then it was cut there."""
    result: CommandResult
    """Its `shown` is both streams, one after the other; `suppressed` what neither of them brought."""
    started: bool
    """The program itself began: it was found, and could be executed."""
    from_before: bool
    """The record has errors that programs left running by earlier ones wrote since then."""


class ProgramRunner:
    """Runs programs in one session, one at a time. Not shared between threads."""

    def __init__(self, session: BoxSession) -> None:
        self._session = session
        self._number = 0
        self._between: list[Write] = []

    def run(self, program: Program, timeout: float | None, limit: int) -> ProgramRun:
        """Runs a program once.

        Args:
            program: What to run.
            timeout: Seconds that it may take; then it and all that it started are killed.
            limit: Bytes of each stream that are read.

        Raises `BoxDied` if the box ends, `OSError` where its disk is full, `ValueError` for a zero byte in a word.
        """
        folder = self._lay_out(program)
        script = _RUN.format(path=_SYSTEM_PATH, folder=folder)
        result = self._session.run(script, timeout=_LONGEST if timeout is None else timeout)
        first, _, stdout = (self.read(f"{folder}/stdout", limit + _PIDS) or b"").partition(b"\n")
        stderr = self.read(f"{folder}/stderr", limit + 1) or b""
        if not first and not result.timed_out:
            raise OSError(f"the program could not be started: {result.shown.strip()[-300:]}")
        pid, *helpers = [*map(int, first.split())] or [0]
        result = result.model_copy(update={"stderr": (*self._between, *result.stderr)})
        from_before = bool(self._between)
        self._between.clear()
        seen = _as_the_caller_saw(result, folder, stdout[: limit + 1], stderr, helpers)
        after = next((i for i, process in enumerate(seen.processes) if process.pid == pid), len(seen.processes))
        ran = [process for process in seen.processes[after:] if process.pid not in helpers]
        for starter in (_SETPRIV, _ENV) if program.account.uid else (_ENV,):
            if ran and (ran[0].pid, ran[0].argv[0]) == (pid, starter):
                del ran[0]
        if _is_login_shell(program.argv):
            ran = [process for process in ran if process.argv != _AT_LOGIN]
        seen = seen.model_copy(
            update={"command": shell_line(program.argv), "cwd": program.cwd, "processes": tuple(ran)}
        )
        started = any(process.pid == pid for process in ran)
        return ProgramRun(stdout[: limit + 1], stderr, seen, started, from_before)

    def _lay_out(self, program: Program) -> str:
        """Puts what the script reads into a new folder, and removes the last one."""
        self._number += 1
        folder = f"{_FOLDER}/{self._number}"
        vector = [_ENV, "--", *(f"{name}={value}" for name, value in program.env.items()), *program.argv]
        if program.account.uid != 0:
            account = program.account
            groups = "--init-groups" if account.listed else "--clear-groups"
            switch = [_SETPRIV, f"--reuid={account.uid}", f"--regid={account.gid}", groups, "--"]
            vector = [*switch, _ENV, "--", f"HOME={account.home}", *vector[2:]]
        if any("\0" in word for word in (*vector, program.cwd)):
            raise ValueError("a word of a command line holds a zero byte")
        self._script(f"rm -rf {_FOLDER}/*")
        self._session.write_file(f"{folder}/argv", b"".join(_encode(word) + b"\0" for word in vector), mode=0o600)
        self._session.write_file(f"{folder}/cwd", _encode(program.cwd) + b"\0", mode=0o600)
        self._session.write_file(f"{folder}/stdin", program.stdin, mode=0o644)
        return folder

    def read(self, path: str, limit: int) -> bytes | None:
        """At most `limit` bytes of a regular file of the box, as PID 1 reads it; `None` if there is none."""
        first = self._session.read_file(path, min(limit, _READ_AT_ONCE))
        if first is None or len(first) < _READ_AT_ONCE or limit <= _READ_AT_ONCE:
            return first
        parts, part = [first], f"{_FOLDER}/part"
        while (at := len(parts) * _READ_AT_ONCE) < limit and len(parts[-1]) == _READ_AT_ONCE:
            wanted = min(_READ_AT_ONCE, limit - at)
            self._script(f"tail -c +{at + 1} '{path}' | head -c {wanted} >{part}")
            parts.append(self._session.read_file(part, wanted) or b"")
        return b"".join(parts)

    def _script(self, script: str) -> None:
        """Runs what is no program's. What an earlier one left running wrote until then is in the next one's record."""
        done = self._session.run(f"(set +x; PATH={_SYSTEM_PATH}; {script})", timeout=HARNESS_SECONDS)
        self._between += done.stderr

    def account(self, user: str) -> Account | None:
        """A user of the box, by name or by number; `None`: there is none of that name."""
        passwd = decode_output(self._session.read_file("/etc/passwd") or b"")
        for line in passwd.split("\n"):
            fields = line.split(":")
            if len(fields) >= 6 and user in (fields[0], fields[2]) and fields[2].isdigit() and fields[3].isdigit():
                return Account(int(fields[2]), int(fields[3]), fields[5])
        return Account(int(user), 0, "/", listed=False) if user.isdigit() else None

    def can_switch_users(self) -> bool:
        """The box has what starts a program as somebody else, and more than one user to be."""
        mapped = self._session.read_file("/proc/self/uid_map") or b""
        return mapped.split()[2:3] != [b"1"] and self._session.read_file(_SETPRIV, 1) is not None


def shell_line(argv: Sequence[str]) -> str:
    """An argument vector as a person would type it; of `bash -c CODE`, the code.

    Example:
        >>> shell_line(["bash", "--login", "-c", "make 2>/dev/null"]), shell_line(["ls", "a b"])
        ('make 2>/dev/null', "ls 'a b'")
    """
    name = posixpath.basename(argv[0]) if argv else ""
    *options, code = argv[1:] or [""]
    is_code = name in ("sh", "bash", "dash") and options[-1:] in (["-c"], ["-lc"])
    if is_code and all(word in ("--login", "-l", "--noprofile", "--norc") for word in options[:-1]):
        return code
    return shlex.join(argv)


def _is_login_shell(argv: Sequence[str]) -> bool:
    return any(word in ("--login", "-l", "-lc") for word in argv[1:-1])


def _encode(word: str) -> bytes:
    return word.encode("utf-8", "surrogateescape")


def _as_the_caller_saw(
    result: CommandResult, folder: str, stdout: bytes, stderr: bytes, helpers: Sequence[int]
) -> CommandResult:
    """The result with the caller in the terminal's place: its stderr has the fates that it had for the caller."""
    shown = ""
    for stream in (stdout, stderr):
        text = decode_output(stream if len(stream) <= 2 * _SHOWN else stream[:_SHOWN] + b"\n" + stream[-_SHOWN:])
        shown += ("\n" if text and shown and not shown.endswith("\n") else "") + text
    cut = sum(max(0, len(stream) - 2 * _SHOWN) for stream in (stdout, stderr))
    raw = [_raw_write(write, folder) for write in result.stderr if write.pid not in helpers]
    fates = decide_fates(raw, shown, cut=cut > 0)
    return result.model_copy(
        update={"shown": shown, "timing": (), "stderr": fates, "cut_at": None, "cut_bytes": result.cut_bytes + cut}
    )


def _raw_write(write: Write, folder: str) -> RawWrite:
    if write.to in (f"{folder}/out", f"{folder}/err"):
        kind = TERMINAL
    elif write.to == "/dev/null":
        kind = NOWHERE
    elif write.to == "closed":
        kind = CLOSED
    else:
        kind = PIPE if write.to.startswith("pipe:") else FILE if write.to.startswith("/") else OTHER
    return RawWrite(write.seconds, write.pid, write.argv, kind, write.to, write.text.encode())
