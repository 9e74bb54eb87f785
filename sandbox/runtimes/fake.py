"""A box that is no box: the supervisor as a plain child process. For tests of scripted commands; isolates nothing."""

import secrets
import shutil
import tempfile
from pathlib import Path

from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.rootless import ProcessBox
from devnull.sandbox.session import BoxSession
from devnull.sandbox.supervisor import find_supervisor


class FakeBox(ProcessBox):
    """A shell whose home is `home`, made anew and removed with it."""

    def __init__(self, supervisor: Path, home: Path, limits: Limits) -> None:
        self._home = home
        home.mkdir(mode=0o700)
        try:
            super().__init__(
                [str(supervisor), "serve", "--home", str(home), "--pids", str(limits.pids),
                 "--memory", str(limits.memory_bytes)]
            )  # fmt: skip
        except BaseException:
            home.rmdir()
            raise

    def changes(self) -> bytes:
        """All of the home."""
        return b"*" + bytes(self._home) + b"\0"

    def close(self) -> None:
        """Ends the shell and removes its home."""
        super().close()
        shutil.rmtree(self._home, ignore_errors=True)


class FakeRuntime:
    """The same supervisor, trace and shell, over the host's own files. Thread-safe. Never give it to a model."""

    name = "fake"

    def __init__(self, supervisor: Path | None = None) -> None:
        self._supervisor = supervisor or find_supervisor()

    def start(self, limits: Limits = Limits()) -> BoxSession:
        """A fresh shell in a private temporary directory, its home."""
        home = Path(tempfile.gettempdir()) / f"devnull-fake-{secrets.token_hex(8)}"
        return BoxSession(lambda: FakeBox(self._supervisor, home, limits), limits)
