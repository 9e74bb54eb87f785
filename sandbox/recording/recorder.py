"""Puts the events of one command together: frames of the supervisor in, `CommandResult` out."""

import re
import struct
from bisect import bisect_left
from dataclasses import dataclass
from posixpath import basename

from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.recording.stderr_fates import RawWrite, decide_fates, decode_output
from devnull.sandbox.recording.xtrace import TracedCommand, exit_statuses, is_simple_command, parse_traced_command

_SHELL_PREFIX = re.compile(r"/dev/fd/10: (?:line \d+: +\d+ (?P<end>[A-Z][^\n]*?)  +[^\n]*|(?:eval: )?(?:line \d+: )?)")
"""How our shell, which reads a pipe, begins its error messages; a person would read `bash: `, or, when a job was
killed, only `Killed`."""
_EVENT = struct.Struct("<QI")
_WRITE = struct.Struct("<QIBBQI")
_DONE = struct.Struct("<IBQQ")
_NO_STATUS = 0xFFFFFFFF
_TIMED_OUT, _SHELL_EXITED = 1, 2
_PAUSE = 0.01
"""Seconds between pieces of output that are kept apart in `timing`."""


def strip_shell_prefix(text: str) -> str:
    """The text with our shell's error messages as a person would read them: `bash: `, without the pipe's name."""
    return _SHELL_PREFIX.sub(lambda match: match["end"] or "bash: ", text) if "/dev/fd/10: " in text else text


@dataclass
class _Exec:
    """One exec, and what its process ended with."""

    order: int
    pid: int
    parent: int
    argv: tuple[str, ...]
    status: int | None = None


class Recorder:
    """Collects the event frames of one session; `result` takes what one command did, and the next one begins.

    What is known of processes (argument vectors, parents) lasts for the session.
    """

    def __init__(self) -> None:
        self._argv: dict[int, tuple[str, ...]] = {}
        self._parent: dict[int, int] = {}
        self._shell = 0
        self._clear()

    def _clear(self) -> None:
        self._output: list[tuple[float, bytes]] = []
        self._writes: list[RawWrite] = []
        self._programs: list[_Exec] = []
        self._alive: dict[int, list[_Exec]] = {}
        self._traced: list[tuple[int, int, bytes]] = []
        self._ends: dict[int, int] = {}
        self._order = 0

    def add(self, kind: bytes, payload: bytes) -> None:
        """One event frame, in the order of arrival."""
        self._order += 1
        if kind == b"O":
            (us,) = struct.unpack_from("<Q", payload)
            self._output.append((us / 1e6, payload[8:]))
        elif kind == b"W":
            us, pid, _, to, _, length = _WRITE.unpack_from(payload)
            at = _WRITE.size
            where = decode_output(payload[at : at + length])
            self._writes.append(RawWrite(us / 1e6, pid, self._argv.get(pid, ()), to, where, payload[at + length :]))
        elif kind == b"T":
            _, pid = _EVENT.unpack_from(payload)
            self._traced.append((self._order, pid, payload[_EVENT.size :]))
        elif kind == b"C":
            _, pid = _EVENT.unpack_from(payload)
            for i in range(len(self._traced) - 1, -1, -1):
                order, of, begun = self._traced[i]
                if of == pid:
                    self._traced[i] = (order, pid, begun + payload[_EVENT.size :])
                    break
        elif kind == b"X":
            _, pid, parent = struct.unpack_from("<QII", payload)
            path, *words = payload[16:].split(b"\0")[:-1]
            argv = tuple(decode_output(word) for word in words or [path])
            self._argv[pid] = argv
            program = _Exec(self._order, pid, parent, argv)
            self._programs.append(program)
            self._alive.setdefault(pid, []).append(program)
        elif kind == b"E":
            _, pid, status = struct.unpack_from("<QII", payload)
            self._ends[pid] = status
            # One process may have been several programs in turn; and its first thread may end before the others do.
            for program in self._alive.get(pid, ()):
                program.status = status
        elif kind == b"B":
            _, pid = _EVENT.unpack(payload)
            self._argv[pid] = ("bash",)
            self._shell = pid
        elif kind == b"N":
            pid, parent = struct.unpack("<II", payload)
            self._parent[pid] = parent
            self._alive.pop(pid, None)
            if parent in self._argv:
                self._argv[pid] = self._argv[parent]

    def result(self, command: str, payload: bytes) -> CommandResult:
        """What the command did, given its D frame; the next one begins."""
        status, flags, cut, us = _DONE.unpack_from(payload)
        exit_code = None if status == _NO_STATUS else status
        shown, timing = self._shown()
        made = CommandResult.model_construct(
            command=command,
            shown=shown,
            timing=timing,
            stderr=self._stderr(shown),
            processes=self._processes(exit_code),
            exit_code=exit_code,
            timed_out=bool(flags & _TIMED_OUT),
            shell_exited=bool(flags & _SHELL_EXITED),
            cut_bytes=cut,
            seconds=us / 1e6,
            cwd=decode_output(payload[_DONE.size :]),
        )
        self._clear()
        return made

    def _stderr(self, shown: str) -> tuple[Write, ...]:
        return decide_fates([_without_shell_prefix(write) for write in self._writes], shown)

    def _shown(self) -> tuple[str, tuple[tuple[float, int], ...]]:
        text = decode_output(b"".join(data for _, data in self._output))
        text = strip_shell_prefix(text)
        if not text:
            return "", ()
        chunks: list[tuple[float, bytes]] = []
        for seconds, data in self._output:
            if chunks and seconds - chunks[-1][0] < _PAUSE:
                chunks[-1] = (chunks[-1][0], chunks[-1][1] + data)
            else:
                chunks.append((seconds, data))
        lengths = [len(strip_shell_prefix(decode_output(data))) for _, data in chunks]
        lengths[-1] += len(text) - sum(lengths)  # where a character or a prefix was cut in two
        return text, tuple((seconds, length) for (seconds, _), length in zip(chunks, lengths, strict=True))

    def _processes(self, final: int | None) -> tuple[Process, ...]:
        parsed = (parse_traced_command(order, pid, decode_output(line)) for order, pid, line in self._traced)
        steps = [step for step in parsed if step is not None]
        statuses = exit_statuses(steps, self._parent, self._ends, self._shell, final)
        programs: dict[int, list[_Exec]] = {}
        for program in self._programs:
            programs.setdefault(program.pid, []).append(program)
            programs.setdefault(program.parent, []).append(program)
        ends: dict[int, int] = {}
        ordered: list[tuple[int, Process]] = []
        for step, status in zip(reversed(steps), reversed(statuses), strict=True):
            end, ends[step.pid] = ends.get(step.pid, self._order + 1), step.order
            if not is_simple_command(step.argv):
                continue
            ran = _program_of(step, end, programs.get(step.pid, []))
            if ran is None:
                # 127: bash found no program of that name
                ordered.append((step.order, _process(step.pid, step.argv, status, builtin=status != 127)))
            elif ran.status is None:
                ran.status = status
        ordered += [(p.order, _process(p.pid, p.argv, p.status, builtin=False)) for p in self._programs]
        return tuple(process for _, process in sorted(ordered, key=lambda pair: pair[0]))


def _process(pid: int, argv: tuple[str, ...], status: int | None, *, builtin: bool) -> Process:
    return Process.model_construct(pid=pid, argv=argv, exit_code=status, builtin=builtin)


def _program_of(step: TracedCommand, end: int, near: list[_Exec]) -> _Exec | None:
    """Which exec, before the shell's next step at `end`, ran the program that it traced as `step`."""
    start = bisect_left(near, step.order, key=lambda program: program.order)
    for program in near[start:]:
        if program.order >= end:
            return None
        # The first word may be a path in one and a name in the other.
        if program.argv[1:] == step.argv[1:] and basename(program.argv[0]) == basename(step.argv[0]):
            return program
    return None


def _without_shell_prefix(write: RawWrite) -> RawWrite:
    """The write with the shell's own prefix as a person would read it."""
    if not write.text.startswith(b"/dev/fd/10: "):
        return write
    text = strip_shell_prefix(decode_output(write.text)).encode()
    return RawWrite(write.seconds, write.pid, write.argv, write.kind, write.to, text)
