"""Puts the events of one command together: frames of the supervisor in, `CommandResult` out."""

import codecs
import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from posixpath import basename

from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.errors import BoxDied
from devnull.sandbox.recording.bash_complaints import PREFIX, BashComplaints, strip_shell_prefix
from devnull.sandbox.recording.stderr_fates import OTHER, RawWrite, decide_fates, decode_output
from devnull.sandbox.recording.xtrace import TracedCommand, exit_statuses, is_simple_command, parse_traced_command

_EVENT = struct.Struct("<QI")
_EXIT = struct.Struct("<QII")
_WRITE = struct.Struct("<QIBBQI")
_LEFT_OUT = struct.Struct("<QQ")
_DONE = struct.Struct("<IBQQ")
_NO_STATUS = 0xFFFFFFFF
_TIMED_OUT, _SHELL_EXITED = 1, 2
_BY_THE_SHELL = 0x80
"""Set in a write's kind: bash itself complains, or says how a job ended."""
_PAUSE = 0.01
"""Seconds between pieces of output that are kept apart in `timing`."""
_IN_FLIGHT = 0.1
"""Seconds before the end of a command in which a process may still be on its way to the terminal."""
_WRITERS_CHARS = 1 << 20
"""Characters of argument vectors that the writes of one command repeat in full."""
_ARGV_KEPT = 32_000
"""Bytes of an exec that may have had more arguments than the supervisor keeps (`native/events.c`)."""
_REMEMBERED = 100_000
"""Processes that are known to a session between commands."""


@dataclass
class _Exec:
    """One exec, and what its process ended with."""

    order: int
    pid: int
    parent: int
    argv: tuple[str, ...]
    cut: bool
    """There were more arguments than are kept."""
    status: int | None = None


@dataclass
class _Traced:
    """One line of the shell's trace, in the pieces in which it came."""

    order: int
    pid: int
    pieces: list[bytes]


class Recorder:
    """Collects the event frames of one session; `result` takes what one command did, and the next one begins.

    What is known of processes (argument vectors, parents) lasts for the session. What a box says is data: no frame
    raises anything but `BoxDied`, for one that no supervisor sends.
    """

    def __init__(self) -> None:
        self._argv: dict[int, tuple[str, ...]] = {}
        self._parent: dict[int, int] = {}
        self._shell = 0
        self._complaints = BashComplaints()
        self._clear()

    def _clear(self) -> None:
        self._output: list[tuple[float, list[bytes]]] = []
        self._gaps: dict[int, int] = {}
        self._unrecorded = 0
        self._writes: list[RawWrite] = []
        self._programs: list[_Exec] = []
        self._alive: dict[int, list[_Exec]] = {}
        self._traced: list[_Traced] = []
        self._last_traced: dict[int, _Traced] = {}
        self._ends: dict[int, int] = {}
        self._order = 0

    def add(self, kind: bytes, payload: bytes) -> None:
        """One event frame, in the order of arrival. Raises `BoxDied` if it is malformed."""
        try:
            self._add(kind, payload)
        except struct.error as error:
            raise BoxDied(f"the box sent a frame {kind!r} that no supervisor sends: {error}") from None

    def _add(self, kind: bytes, payload: bytes) -> None:
        self._order += 1
        if kind == b"O":
            (us,) = struct.unpack_from("<Q", payload)
            self._show(us / 1e6, payload[8:])
        elif kind == b"W":
            us, pid, _, to, _, length = _WRITE.unpack_from(payload)
            where, text = payload[_WRITE.size :][:length], payload[_WRITE.size + length :]
            if to & _BY_THE_SHELL and text.startswith(PREFIX.encode()):
                self._complaints.add(decode_output(text))
                text = strip_shell_prefix(decode_output(text)).encode()
            led = min(to & ~_BY_THE_SHELL, OTHER)
            self._writes.append(RawWrite(us / 1e6, pid, self._argv_of(pid), led, decode_output(where), text))
        elif kind == b"T":
            _, pid = _EVENT.unpack_from(payload)
            self._last_traced[pid] = _Traced(self._order, pid, [payload[_EVENT.size :]])
            self._traced.append(self._last_traced[pid])
        elif kind == b"C":
            _, pid = _EVENT.unpack_from(payload)
            if pid in self._last_traced:
                self._last_traced[pid].pieces.append(payload[_EVENT.size :])
        elif kind == b"X":
            _, pid, parent = _EXIT.unpack_from(payload)
            path, *words = payload[_EXIT.size :].removesuffix(b"\0").split(b"\0")
            argv = tuple(decode_output(word) for word in words or [path])
            self._argv[pid] = argv
            program = _Exec(self._order, pid, parent, argv, len(payload) > _ARGV_KEPT)
            self._programs.append(program)
            self._alive.setdefault(pid, []).append(program)
        elif kind == b"E":
            _, pid, status = _EXIT.unpack_from(payload)
            self._ends[pid] = status
            # One process may have been several programs in turn; and its first thread may end before the others do.
            for program in self._alive.get(pid, ()):
                program.status = status
        elif kind == b"B":
            _, pid = _EVENT.unpack_from(payload)
            self._argv[pid] = ("bash",)
            self._shell = pid
        elif kind == b"N":
            pid, parent = struct.unpack_from("<II", payload)
            self._parent[pid] = parent
            self._alive.pop(pid, None)
            self._ends.pop(pid, None)
            command_line = payload[8:].removesuffix(b"\0")
            if parent in self._argv:
                self._argv[pid] = self._argv[parent]
            elif command_line:
                self._argv[pid] = tuple(map(decode_output, command_line.split(b"\0")))
        elif kind == b"L":
            shown, recorded = _LEFT_OUT.unpack_from(payload)
            if shown:
                self._gaps[len(self._output)] = self._gaps.get(len(self._output), 0) + shown
            self._unrecorded += recorded
            if recorded:
                self._last_traced.clear()  # what continues a line may continue one that was left out

    def _show(self, seconds: float, data: bytes) -> None:
        """Adds output to the last piece, or begins another after a pause."""
        fresh = not self._output or len(self._output) in self._gaps or seconds - self._output[-1][0] >= _PAUSE
        if fresh:
            self._output.append((seconds, [data]))
        else:
            self._output[-1][1].append(data)

    def _argv_of(self, pid: int) -> tuple[str, ...]:
        return self._argv.get(pid) or ("?",)

    def result(self, command: str, payload: bytes) -> CommandResult:
        """What the command did, given its D frame; the next one begins. Raises `BoxDied` if that is malformed."""
        try:
            status, flags, cut, us = _DONE.unpack_from(payload)
        except struct.error as error:
            raise BoxDied(f"the box sent a frame 'D' that no supervisor sends: {error}") from None
        exit_code = None if status == _NO_STATUS else status
        shown, timing, cut_at = self._shown()
        made = CommandResult.model_construct(
            command=command,
            shown=shown,
            timing=timing,
            stderr=self._stderr(shown, us / 1e6),
            processes=self._processes(exit_code),
            exit_code=exit_code,
            timed_out=bool(flags & _TIMED_OUT),
            shell_exited=bool(flags & _SHELL_EXITED),
            cut_bytes=cut,
            cut_at=cut_at,
            unrecorded_bytes=self._unrecorded,
            seconds=us / 1e6,
            cwd=decode_output(payload[_DONE.size :]),
        )
        self._forget_the_dead()
        self._clear()
        return made

    def unfinished(self, command: str, seconds: float) -> CommandResult:
        """What is known of a command in which the box ended: no D frame came. The shell ended with it."""
        return self.result(command, _DONE.pack(_NO_STATUS, _SHELL_EXITED, 0, int(seconds * 1e6)))

    def _forget_the_dead(self) -> None:
        for known in (self._argv, self._parent):
            for pid in self._ends:
                known.pop(pid, None)
            if len(known) > _REMEMBERED:
                for pid in [*islice(known, len(known) - _REMEMBERED)]:
                    del known[pid]

    def _stderr(self, shown: str, end: float) -> tuple[Write, ...]:
        if not self._writes:
            return ()
        return decide_fates(self._writes_within_bounds(), shown, cut=bool(self._gaps), pending=self._pending(end))

    def _pending(self, end: float) -> frozenset[int]:
        """Positions of writes that may not yet have come to the terminal when the command ended: the last that is known
        of a process that lives on. (The shell itself has ended its command.)"""
        last = {write.pid: i for i, write in enumerate(self._writes)}
        return frozenset(
            i
            for pid, i in last.items()
            if pid not in self._ends and pid != self._shell and end - self._writes[i].seconds < _IN_FLIGHT
        )

    def _writes_within_bounds(self) -> list[RawWrite]:
        """The writes; where their argument vectors are long and many, the later ones name the program only."""
        left = _WRITERS_CHARS
        out = []
        for write in self._writes:
            left -= sum(map(len, write.argv))
            out.append(write if left >= 0 else write.by((write.argv[0][:80],)))
        return out

    def _shown(self) -> tuple[str, tuple[tuple[float, int], ...], int | None]:
        """What the terminal showed; `timing`; where in it something was left out."""
        if not self._output:
            return "", (), 0 if self._gaps else None
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        pieces: list[str] = []
        last = len(self._output) - 1
        for i, (_, data) in enumerate(self._output):
            pieces.append(decoder.decode(b"".join(data), i == last or i + 1 in self._gaps))
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece))
        text, starts = self._complaints.reread("".join(pieces), starts)
        timing = tuple((seconds, starts[i + 1] - starts[i]) for i, (seconds, _) in enumerate(self._output))
        return text, timing, starts[min(self._gaps)] if self._gaps else None

    def _processes(self, final: int | None) -> tuple[Process, ...]:
        parsed = (
            parse_traced_command(line.order, line.pid, decode_output(b"".join(line.pieces))) for line in self._traced
        )
        steps = [step for step in parsed if step is not None]
        statuses = exit_statuses(steps, self._parent, self._ends, self._shell, final)
        programs: dict[int, list[_Exec]] = {}
        for program in self._programs:
            programs.setdefault(program.pid, []).append(program)
            if program.parent != program.pid:
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


def _program_of(step: TracedCommand, end: int, near: Sequence[_Exec]) -> _Exec | None:
    """Which exec, before the shell's next step at `end`, ran the program that it traced as `step`."""
    for i in range(bisect_left(near, step.order, key=lambda program: program.order), len(near)):
        program = near[i]
        if program.order >= end:
            return None
        # The first word may be a path in one and a name in the other.
        if basename(program.argv[0]) == basename(step.argv[0]) and (
            program.argv[1:] == step.argv[1:] or (program.cut and _begins(step.argv[1:], program.argv[1:]))
        ):
            return program
    return None


def _begins(words: tuple[str, ...], kept: tuple[str, ...]) -> bool:
    """Whether `kept` is what is left of `words` where the end is cut off, perhaps in a word."""
    last = len(kept) - 1
    return 0 <= last < len(words) and words[:last] == kept[:last] and words[last].startswith(kept[last])
