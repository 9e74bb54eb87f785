"""Frames: how host and supervisor talk. The other end is `native/frames.c`; docs/sandbox.md holds the table."""

import os
import select
import struct
import time
from collections.abc import Iterator
from threading import Lock

from devnull.sandbox.errors import BoxDied

PROTOCOL_VERSION = 3
"""As the supervisor's first frame names it."""
MAX_FRAME_BYTES = 16 << 20
"""Of a payload."""
_HEAD = struct.Struct("<cI")
_DOCKER_HEAD = struct.Struct(">BxxxI")


def encode_frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame: a type byte, four length bytes (little endian), the payload."""
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame holds {MAX_FRAME_BYTES} bytes, not {len(payload)}")
    return _HEAD.pack(kind, len(payload)) + payload


class FrameReader:
    """Cuts a stream of bytes, fed in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every frame that `data` completes, as (type, payload). Raises `BoxDied` on a length no supervisor sends."""
        self._held += data
        at = 0
        while len(self._held) - at >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._held, at)
            if length > MAX_FRAME_BYTES:
                raise BoxDied(
                    f"the box sent a frame of {length} bytes: not a supervisor of protocol {PROTOCOL_VERSION}"
                )
            if len(self._held) - at < _HEAD.size + length:
                break
            yield kind, bytes(memoryview(self._held)[at + _HEAD.size : at + _HEAD.size + length])
            at += _HEAD.size + length
        del self._held[:at]


class DockerDemultiplexer:
    """Undoes what Docker's attach does to a stream: pieces of stdout and stderr, each with a head of eight bytes."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.stderr = bytearray()
        """What came on stderr: never the supervisor's; the runtime's own complaints."""

    def feed(self, data: bytes) -> bytes:
        """The bytes of stdout that `data` completes."""
        self._held += data
        out, at = bytearray(), 0
        while len(self._held) - at >= _DOCKER_HEAD.size:
            stream, length = _DOCKER_HEAD.unpack_from(self._held, at)
            if len(self._held) - at < _DOCKER_HEAD.size + length:
                break
            piece = self._held[at + _DOCKER_HEAD.size : at + _DOCKER_HEAD.size + length]
            if stream == 2:
                self.stderr += piece[: 4096 - len(self.stderr)]
            else:
                out += piece
            at += _DOCKER_HEAD.size + length
        del self._held[:at]
        return bytes(out)


class Channel:
    """Frames to and from one supervisor, over a pair of file descriptors that the caller opens and closes."""

    def __init__(self, reader: int, writer: int, demultiplexer: DockerDemultiplexer | None = None) -> None:
        self._reader, self._writer = reader, writer
        self._sending = Lock()
        self._demultiplexer = demultiplexer
        self._frames = FrameReader()
        self._ready: list[tuple[bytes, bytes]] = []
        self._poll = select.poll()
        self._poll.register(reader, select.POLLIN)

    def send(self, data: bytes) -> None:
        """Writes all of `data`, encoded frames, from any thread. Raises `BrokenPipeError` if the box is gone."""
        view = memoryview(data)
        with self._sending:
            while view:
                view = view[os.write(self._writer, view) :]

    def receive(self, seconds: float) -> tuple[bytes, bytes] | None:
        """The next frame; `None` if none comes in time. Raises `EOFError` if the box is gone."""
        if self._ready:
            return self._ready.pop()
        deadline = time.monotonic() + seconds
        while True:
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            try:
                data = os.read(self._reader, 1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            if self._demultiplexer is not None:
                data = self._demultiplexer.feed(data)
            self._ready = list(self._frames.feed(data))[::-1]
            if self._ready:
                return self._ready.pop()
