"""A host's agent whose every shell command runs in a box: `/bin/sh` and `/bin/bash` are ours, for it alone.

The agent is started in a mount namespace in which both are `cli.runs.relayed_shell`; that hands `sh -c COMMAND` to the
socket here. The agent's own program, its files and its network stay what they are.
"""

import base64
import contextlib
import json
import os
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from devnull.cli.runs import relayed_shell
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied, InputError
from devnull.sandbox.own_box import FOLDER_IN_BOX
from devnull.sandbox.screen_text import screen_text
from devnull.sandbox.session import BoxSession

_SHELLS = ("sh", "bash")
_STDIN = "/.devnull-stdin"
_OF_THE_PROCESS = {"PWD", "OLDPWD", "SHLVL", "_"}
_ENTER = """
for name in sh bash; do
    if [ -e "$DEVNULL_RELAY/real/$name" ]; then mount --bind "$DEVNULL_RELAY/shell" "/bin/$name" || exit 125; fi
done
unset DEVNULL_RELAY
exec "$@"
"""
"""Run by the real shell in the new mount namespace. 125: as in `docker run`, the way in failed and not the agent."""


class ShellRelay:
    """The box's end of the agent's shell. One command at a time, in the order in which they come.

    Args:
        folder: The host folder that was copied in: a working directory below it is the same place in the box.
        seconds: Time limit of one command.

    Example:
        with ShellRelay(session, Path("."), 600) as relay, relay.start(["mini", "-y"]) as agent:
            agent.wait()
        relay.results
    """

    def __init__(self, session: BoxSession, folder: Path | None, seconds: float) -> None:
        self.results: list[CommandResult] = []
        """Of every command that came, as it was given to `-c`."""
        self._session, self._seconds = session, seconds
        self._folder = None if folder is None else folder.resolve()
        self._environment = dict(os.environ) | {"SHELL": "/bin/bash"}

    def __enter__(self) -> "ShellRelay":
        self._scratch = Path(tempfile.mkdtemp(prefix="devnull-relay-"))
        listening = self._scratch / "socket"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(listening))
        self._server.listen()
        real = self._scratch / "real"
        real.mkdir()
        for name in _SHELLS:
            if Path("/bin", name).exists():
                shutil.copy(Path("/bin", name), real / name)
        source = Path(relayed_shell.__file__).read_text()
        source = source.replace('SOCKET, REAL = "", ""', f"SOCKET, REAL = {str(listening)!r}, {str(real)!r}")
        shell = self._scratch / "shell"
        shell.write_text(f"#!{sys.executable} -IS\n{source}")
        shell.chmod(0o755)
        self._thread = threading.Thread(target=self._serve, name="shell-relay")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the box, and a command that still runs; its record is kept as far as it came."""
        self._session.close()
        with contextlib.suppress(OSError):  # the box had died, and it was shut then
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()
        shutil.rmtree(self._scratch)

    def start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        """The agent's process, its stdout and stderr in one pipe. Raises `InputError` where it cannot be started."""
        if shutil.which("unshare") is None:
            raise InputError("--shell needs unshare and mount: apt-get install -y util-linux mount")
        user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
        real = str(self._scratch / "real" / "sh")
        argv = ["unshare", "--mount", *user, "--", real, "-c", _ENTER, "devnull", *command]
        return subprocess.Popen(
            argv,
            env=self._environment | {"DEVNULL_RELAY": str(self._scratch)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            with connection:
                try:
                    request = json.load(connection.makefile("rb"))
                    with _ended_by_hanging_up(self._session, connection):
                        answer = self._run(request)
                    connection.sendall(json.dumps(answer).encode())
                except BoxDied:  # whoever asks next is refused, and does not wait
                    self._server.close()
                    return
                except (OSError, ValueError):  # the agent ended its shell, as on a time limit of its own
                    continue

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one command in its place of the box, with the variables that the agent set for it."""
        argv, stdin = request["argv"], base64.b64decode(request["stdin"])
        if stdin:
            self._session.write_file(_STDIN, stdin, mode=0o600)
        own = [
            f"{name}={value}"
            for name, value in request["env"].items()
            if name not in _OF_THE_PROCESS and self._environment.get(name) != value
        ]
        line = shlex.join(["env", *own, *argv]) if own else shlex.join(argv)
        typed = f"(cd {shlex.quote(self._place(request['cwd']))} && exec {line} <{_STDIN if stdin else '/dev/null'})"
        try:
            result = self._session.run(typed, timeout=self._seconds)
        except BoxDied as death:
            if death.unfinished is not None:
                self.results.append(_as_given(death.unfinished, argv))
            raise
        self.results.append(_as_given(result, argv))
        return {"shown": screen_text(result.shown), "status": 124 if result.exit_code is None else result.exit_code}

    def _place(self, cwd: str) -> str:
        """The directory of the box that a directory of the host is; elsewhere the folder, or the root."""
        if self._folder is None:
            return "/"
        try:
            return str(Path(FOLDER_IN_BOX) / Path(cwd).resolve().relative_to(self._folder))
        except ValueError:
            return FOLDER_IN_BOX


@contextlib.contextmanager
def _ended_by_hanging_up(session: BoxSession, connection: socket.socket) -> Iterator[None]:
    """What runs in the box meanwhile is ended once whoever asked for it is gone, as on a time limit of the agent's."""
    over = os.eventfd(0)
    waiting = select.poll()
    waiting.register(over, select.POLLIN)
    waiting.register(connection, 0)  # its end alone

    def watch() -> None:
        while all(fd != over for fd, _ in waiting.poll()):
            session.interrupt()
            time.sleep(0.2)  # there may have been nothing to interrupt yet

    thread = threading.Thread(target=watch, name="shell-relay-watch")
    thread.start()
    try:
        yield
    finally:
        os.eventfd_write(over, 1)
        thread.join()
        os.close(over)


def _as_given(result: CommandResult, argv: list[str]) -> CommandResult:
    """The record without what led to the agent's own shell: its command is the text of `-c`."""
    programs = [process.argv for process in result.processes]
    ours = programs.index(tuple(argv)) + 1 if tuple(argv) in programs else 0
    return result.model_copy(update={"command": text_of(argv), "processes": result.processes[ours:]})


def text_of(argv: list[str]) -> str:
    """What stands after `-c`, and any arguments behind it."""
    at = next(at for at in range(1, len(argv)) if argv[at][:2] != "--" and argv[at][:1] in "-+" and "c" in argv[at])
    rest = [argument for argument in argv[at + 1 :] if argument != "--"] or [""]
    return rest[0] if len(rest) == 1 else f"{rest[0]} {shlex.join(rest[1:])}"
