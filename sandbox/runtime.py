"""What every runtime offers: fresh boxes. The conformance suite holds each of them to the same behaviour."""

from typing import Protocol

from devnull.sandbox.command import CommandResult
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.image.manifest import Manifest


class Limits(Frozen):
    """What one box may use."""

    seconds: float = 60.0
    """Per command."""
    shown_bytes: int = 1 << 20
    """Kept of a command's terminal output."""
    recorded_bytes: int = 4 << 20
    """Kept of a command's stderr and trace."""
    memory_bytes: int = 1 << 30
    """Of all processes together; with `disk_bytes`, of all that the box holds (docs/sandbox.md)."""
    disk_bytes: int = 1 << 29
    """Written anywhere in the box; in Docker: in /tmp, and there at most 256 MiB."""
    pids: int = 256
    """Processes and threads at one time."""


class Snapshot(Protocol):
    """Files and shell state of a box at one moment, to start again from."""


class Session(Protocol):
    """One live box with one shell. Not shared between threads."""

    start_seconds: float
    """That the box took to start."""
    manifest: Manifest
    """Of what the box began as."""

    def run(self, command: str, *, timeout: float | None = None, stdin: bytes = b"") -> CommandResult:
        """Runs `command` once, as typed at the terminal. Raises `BoxDied`; never runs it twice."""
        ...

    def verify(self, script: str, *, timeout: float | None = None) -> CommandResult:
        """Ends everything the agent left running, then runs `script` in a clean shell of the image's own."""
        ...

    def read_file(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """Bytes of a file as the supervisor reads it, past anything the agent replaced; `None` if absent."""
        ...

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Writes a file and the directories above it. Raises `OSError`."""
        ...

    def snapshot(self) -> Snapshot:
        """Files and shell state as they are now, between two commands."""
        ...

    def restore(self, snapshot: Snapshot) -> None:
        """Replaces the box by a fresh one with the snapshot's files and shell state."""
        ...

    def close(self) -> None:
        """Ends the box and all in it. Safe to call twice."""
        ...


class Runtime(Protocol):
    """A way to make boxes. Thread-safe."""

    name: str
    """As `open_runtime` and `Episode.runtime` name it."""

    def start(self, limits: Limits = Limits()) -> Session:
        """A fresh box. Raises `RuntimeUnavailable`, `ImageMissing`, `HostDiskFull`."""
        ...
