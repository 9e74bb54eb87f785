"""What every runtime offers: fresh boxes. The conformance suite holds each of them to the same behaviour."""

from typing import Protocol

from devnull.sandbox.command import CommandResult, Frozen


class Limits(Frozen):
    """What one box may use."""

    seconds: float = 60.0
    """Per command."""
    shown_bytes: int = 1 << 20
    """Kept of a command's terminal output."""
    recorded_bytes: int = 4 << 20
    """Kept of a command's stderr and trace."""
    memory_bytes: int = 1 << 30
    disk_bytes: int = 1 << 29
    pids: int = 256


class Snapshot(Protocol):
    """Files and shell state of a box at one moment, to start again from."""


class Session(Protocol):
    """One live box with one shell. Not shared between threads."""

    start_seconds: float

    def run(self, command: str, *, timeout: float | None = None, stdin: bytes = b"") -> CommandResult:
        """Runs `command` once, as typed at the terminal. Raises `BoxDied`; never runs it twice."""
        ...

    def verify(self, script: str, *, timeout: float | None = None) -> CommandResult:
        """Ends everything the agent left running, then runs `script` in a clean shell of the image's own."""
        ...

    def read_file(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """Bytes of a file as the supervisor reads it, past anything the agent replaced; `None` if absent."""
        ...

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None: ...

    def snapshot(self) -> Snapshot: ...

    def restore(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None: ...


class Runtime(Protocol):
    """A way to make boxes. Thread-safe."""

    name: str

    def start(self, limits: Limits = Limits()) -> Session:
        """A fresh box. Raises `RuntimeUnavailable`, `ImageMissing`, `HostDiskFull`."""
        ...
