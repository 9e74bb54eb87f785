"""What an agent finds in the place of /bin/sh and /bin/bash under `devnull watch --shell`: hands the command on.

A program of its own, which imports nothing of ours: `cli.runs.shell_relay` writes it out behind a `#!` line and the
constants `SOCKET` and `REAL`. `sh -c COMMAND` goes to the box; a script file is run by the real shell, since what
starts an agent is often one.
"""

import base64
import json
import os
import select
import socket
import stat
import sys
from pathlib import Path
from typing import NoReturn

SOCKET, REAL = "", ""
_WITH_VALUE = ("-o", "+o", "-O", "+O", "--rcfile", "--init-file")


def is_command(arguments: list[str]) -> bool:
    """Whether a shell with these arguments runs the text of `-c`."""
    rest = iter(arguments)
    for argument in rest:
        if argument in _WITH_VALUE:
            next(rest, None)
        elif argument[:1] not in ("-", "+"):
            return False
        elif argument[:2] != "--" and "c" in argument:
            return True
    return False


def read_stdin() -> bytes:
    """What there is to read: a file's bytes, or a pipe's if it begins to come at once; nothing of a terminal."""
    try:
        kind = os.fstat(0).st_mode
    except OSError:
        return b""
    if stat.S_ISREG(kind) or (not stat.S_ISCHR(kind) and select.select([0], [], [], 0.05)[0]):
        return sys.stdin.buffer.read()
    return b""


def relay(arguments: list[str]) -> int:
    """Has the command run in the box; writes what its terminal shows, and returns its status."""
    request = {
        "argv": [Path(sys.argv[0]).name, *arguments],
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "stdin": base64.b64encode(read_stdin()).decode(),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = json.load(connection.makefile("rb"))
    sys.stdout.buffer.write(answer["shown"].encode("utf-8", "surrogatepass"))
    sys.stdout.flush()
    return int(answer["status"])


def run_shell() -> int:
    """The whole program; its exit status, 126 where the command cannot go to the box."""
    arguments = sys.argv[1:]
    if is_command(arguments):
        try:
            return relay(arguments)
        except (OSError, ValueError) as error:
            print(f"devnull: the box is gone ({error})", file=sys.stderr)
            return 126
    if not arguments or arguments[0][:1] in ("-", "+"):
        print("devnull: the box takes commands as `sh -c COMMAND`, none from stdin", file=sys.stderr)
        return 126
    return run_script(arguments)


def run_script(arguments: list[str]) -> NoReturn:
    """Becomes the real shell."""
    name = Path(sys.argv[0]).name
    os.execv(f"{REAL}/{name}", [name, *arguments])


if __name__ == "__main__":
    sys.exit(run_shell())
