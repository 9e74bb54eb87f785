"""One live box with one shell: what agents, verifiers and replays work through."""

import contextlib
import errno
import os
import struct
import time
from collections.abc import Callable
from typing import Protocol

from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied, InfrastructureError, InputError
from devnull.sandbox.frames import MAX_FRAME_BYTES, PROTOCOL_VERSION, Channel, encode_frame
from devnull.sandbox.image.manifest import NO_MANIFEST, Manifest
from devnull.sandbox.recording.recorder import Recorder
from devnull.sandbox.runtime import Limits, Snapshot
from devnull.sandbox.snapshot import PRINT_SHELL_STATE, BoxSnapshot, Redirection, restore_script

_GRACE = 20.0
"""Seconds that a supervisor may take beyond a command's own limit before the box counts as dead."""
_START_SECONDS = 60.0
_LONGEST = 86400.0
"""Seconds that a command may be given."""
HARNESS_SECONDS = 60.0
"""Seconds for commands of the harness itself: laying out a build, verification, the shell's part of snapshots."""
_PIECE = 4 << 20
"""Bytes of a file sent in one frame."""
_EVENTS = b"BCELNOTWX"


class Box(Protocol):
    """A running box, as a runtime made it."""

    channel: Channel
    """To its supervisor."""

    def changes(self) -> bytes:
        """What a snapshot must pack, as an S frame lists it; empty where the supervisor itself knows."""
        ...

    def why_dead(self) -> str:
        """What is known of the end of a box that answers no more, and the fix."""
        ...

    def ended_by_agent(self) -> str | None:
        """What shows that the box's own processes ended it, in words; `None` where nothing does."""
        ...

    def close(self) -> None:
        """Ends the box and all in it."""
        ...


class BoxSession:
    """The one implementation of `Session`, over any runtime's boxes. Not shared between threads, except
    `interrupt` and `close`."""

    def __init__(self, make: Callable[[], Box], limits: Limits, manifest: Manifest = NO_MANIFEST) -> None:
        """`make` starts a box, of `manifest`; it is called again by `restore`.

        Raises `BoxDied` if the box does not start.
        """
        _check_seconds(limits.seconds)
        self._make, self._limits, self.manifest = make, limits, manifest
        self._closed = False
        self.on_output: Callable[[bytes], None] = lambda data: None
        """Gets what the terminal shows of a command while it runs, raw: escape it before printing it."""
        self._begin()

    def _begin(self) -> None:
        begun = time.perf_counter()
        self._death: BoxDied | None = None
        self._box = self._make()
        self._recorder = Recorder()
        try:
            kind, payload = self._next(_START_SECONDS)
            while kind in _EVENTS:
                self._recorder.add(kind, payload)
                kind, payload = self._next(_START_SECONDS)
            self._check_greeting(kind, payload)
        except BaseException:
            self._box.close()
            raise
        self.start_seconds = time.perf_counter() - begun

    def _check_greeting(self, kind: bytes, payload: bytes) -> None:
        if kind == b"!":
            raise BoxDied(f"the box does not start: {_error_text(payload)}")
        words = payload.decode("ascii", "replace").split()
        if kind != b"H" or words[:2] != ["devnull-supervisor", str(PROTOCOL_VERSION)]:
            raise BoxDied(
                f"the image's supervisor says {payload[:80]!r}, this version speaks protocol {PROTOCOL_VERSION}; "
                "rebuild the image: devnull image build"
            )

    def _died(self, how: str) -> BoxDied:
        """The end of the box, with what is known of it; every later request meets the same."""
        self._death = BoxDied(f"{how}; {self._box.why_dead()}")
        self._death.by_agent = self._box.ended_by_agent()
        return self._death

    def _send(self, data: bytes) -> None:
        if self._closed:
            raise BoxDied("the session is closed")
        if self._death is not None:
            raise self._death
        try:
            self._box.channel.send(data)
        except OSError as error:
            raise self._died(f"the box is gone ({error.strerror})") from None

    def _next(self, seconds: float) -> tuple[bytes, bytes]:
        try:
            received = self._box.channel.receive(seconds)
        except (EOFError, OSError):
            raise self._died("the box is gone") from None
        except BoxDied as error:
            raise self._died(str(error)) from None
        if received is None:
            raise self._died(f"the box did not answer for {seconds:.0f} s")
        return received

    def _answer(self) -> bytes:
        """The `.` frame that ends a request. Raises `OSError` with what the supervisor met."""
        while True:
            kind, payload = self._next(_GRACE)
            if kind == b".":
                return payload
            if kind == b"!":
                number, text = _error(payload)
                raise OSError(number, _strerror(number), text)
            self._recorder.add(kind, payload)

    def run(self, command: str, *, timeout: float | None = None, stdin: bytes = b"") -> CommandResult:
        """Runs `command` once, as typed at the terminal; `stdin` is typed too, then end-of-file.

        Raises `BoxDied` if the box ends or falls silent, with the command's record so far; the command is never run a
        second time. Raises `InputError` for a time limit that is none.
        """
        begun = time.perf_counter()
        try:
            return self._command(b"R", command, timeout, stdin)
        except BoxDied as death:
            death.unfinished = self._recorder.unfinished(command, time.perf_counter() - begun)
            raise

    def verify(self, script: str, *, timeout: float | None = None) -> CommandResult:
        """Ends everything the agent left, then runs `script` in a clean shell: the image's bash, as it was when the
        box began, on a new terminal, in `/`, with the image's environment and no startup file."""
        return self._command(b"V", script, HARNESS_SECONDS if timeout is None else timeout, b"")

    def _command(self, kind: bytes, command: str, timeout: float | None, stdin: bytes) -> CommandResult:
        limits = self._limits
        seconds = limits.seconds if timeout is None else timeout
        _check_seconds(seconds)
        head = struct.pack("<IIII", max(1, int(seconds * 1000)), limits.shown_bytes, limits.recorded_bytes, len(stdin))
        self._send(encode_frame(kind, head + stdin + command.encode("utf-8", "surrogateescape")))
        deadline = time.monotonic() + seconds + _GRACE
        while True:
            got, payload = self._next(max(0.0, deadline - time.monotonic()))
            if got == b"D":
                return self._recorder.result(command, payload)
            if got == b"!":
                raise self._died(f"the supervisor gave up: {_error_text(payload)}")
            self._recorder.add(got, payload)
            if got == b"O":
                self.on_output(payload[8:])

    def interrupt(self) -> None:
        """From another thread: ends the command that runs now, if any does, as its time limit would."""
        with contextlib.suppress(OSError):  # the box is gone, as whoever waits for the command is told
            if not self._closed:
                self._box.channel.send(encode_frame(b"I"))

    def abandon(self, command: str, seconds: float) -> CommandResult:
        """Ends the box in the middle of `command`, after `seconds` of it; returns what is known of the command."""
        self.close()
        return self._recorder.unfinished(command, seconds)

    def read_file(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """At most `limit` bytes of a regular file, as PID 1 reads it; `None` if there is none.

        Raises `OSError` for what is not a regular file.
        """
        self._send(encode_frame(b"G", struct.pack("<I", min(limit, MAX_FRAME_BYTES - 64)) + os.fsencode(path)))
        try:
            return self._answer()[8:]
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Writes a file and the directories above it. Raises `OSError`, `ENOSPC` when the box's disk is full."""
        name = os.fsencode(path)
        for at in range(0, max(len(data), 1), _PIECE):
            head = struct.pack("<IBI", mode, at > 0, len(name))
            self._send(encode_frame(b"P", head + name + data[at : at + _PIECE]))
            self._answer()

    def snapshot(self) -> BoxSnapshot:
        """Files and shell state as they are now, between two commands."""
        state = self.run(PRINT_SHELL_STATE, timeout=HARNESS_SECONDS)
        archives: list[bytes] = []
        redirections: list[Redirection] = []
        parts = _split_list(self._box.changes())
        self._send(encode_frame(b"S", parts.pop()))
        while True:
            kind, payload = self._next(_GRACE)
            if kind == b"A":
                archives.append(payload)
            elif kind == b"F":
                try:
                    fd, flags, what = struct.unpack_from("<IIB", payload)
                except struct.error as error:
                    raise BoxDied(f"the box sent a frame 'F' that no supervisor sends: {error}") from None
                redirections.append(Redirection(fd, flags, what, os.fsdecode(payload[9:])))
            elif kind == b"." and not parts:
                break
            elif kind == b".":
                redirections.clear()  # they come with each part
                self._send(encode_frame(b"S", parts.pop()))
            elif kind == b"!":
                raise self._died(f"the snapshot failed: {_error_text(payload)}")
            else:
                self._recorder.add(kind, payload)
        lost = [f"{r.fd} to {r.path}" for r in redirections if r.kind == 2 and not r.path.startswith("/")]
        shell = state.shown.encode()
        if state.cut_bytes:  # half of it might mean something else
            lost, shell = [*lost, "variables and functions: they are too long"], b""
        return BoxSnapshot(tuple(archives), state.cwd, shell, tuple(redirections), tuple(lost))

    def restore(self, snapshot: Snapshot) -> None:
        """A fresh box with the snapshot's files and shell state; what this session's box held is gone."""
        if not isinstance(snapshot, BoxSnapshot):
            raise TypeError(f"not a snapshot of this runtime: {type(snapshot).__name__}")
        self._box.close()
        self._begin()
        for archive in snapshot.archives:
            self._send(encode_frame(b"U", archive))
            try:
                self._answer()
            except OSError as error:
                raise InfrastructureError(f"the snapshot cannot be laid out: {error}") from error
        self.run(restore_script(snapshot), timeout=HARNESS_SECONDS)

    def close(self) -> None:
        """Ends the box and all in it. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._box.close()

    def __enter__(self) -> "BoxSession":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_seconds(seconds: float) -> None:
    if not 0 < seconds <= _LONGEST:  # nan is not, either
        raise InputError(f"a time limit of {seconds} s: give a number above 0, at most {_LONGEST:.0f}")


def _split_list(paths: bytes) -> list[bytes]:
    """A list of paths, each with a zero at its end, in parts that a frame holds, the last part first."""
    parts = []
    while len(paths) > _PIECE:
        end = paths.rindex(b"\0", 0, _PIECE) + 1
        parts.append(paths[:end])
        paths = paths[end:]
    return [*parts, paths][::-1]


def _error_text(payload: bytes) -> str:
    """The text of a `!` frame."""
    number, text = _error(payload)
    return text if not number or _strerror(number) in text else f"{text}: {_strerror(number)}"


def _error(payload: bytes) -> tuple[int, str]:
    """The number and the text of a `!` frame."""
    return int.from_bytes(payload[:4], "little"), payload[4:].decode("utf-8", "backslashreplace")


def _strerror(number: int) -> str:
    return os.strerror(number) if number < 1 << 31 else f"error {number}"
