"""What a snapshot of a box holds, and the shell code that brings its shell back."""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Redirection:
    """Where a file descriptor of the shell led when the snapshot was taken."""

    fd: int
    flags: int
    """Of `open`: access mode, and `O_APPEND` for a copy of stderr."""
    kind: int
    """0: nowhere (closed); 1: the terminal; 2: `path`."""
    path: str


@dataclass(frozen=True)
class BoxSnapshot:
    """Files that changed since the box began, and the state of its shell. Fits any session of the same image."""

    archives: tuple[bytes, ...]
    """The changed files, as the supervisor packed them (A frames)."""
    cwd: str
    shell: bytes
    """Shell code that brings back variables, functions and options."""
    redirections: tuple[Redirection, ...]
    lost: tuple[str, ...]
    """What cannot be kept: pipes of the shell, `FD to PATH`; its variables, where they fill too much. Nor can running
    processes."""

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(map(len, self.archives))


PRINT_SHELL_STATE = (
    r"{ \builtin declare -p; \builtin declare -f; \builtin alias -p; "
    r"\builtin umask -p; \builtin shopt -p; \builtin shopt -po; } >/dev/tty 2>/dev/null"
)
"""Prints shell code that brings back variables, functions, aliases and options."""
_NOT_STATE = re.compile(
    r"declare -\S+ (BASH\w*|FUNCNAME|DIRSTACK|GROUPS|E?UID|PPID|SHELLOPTS|PIPESTATUS|PS4|LINENO|S?RANDOM|SECONDS|"
    r"EPOCH\w*|HISTCMD|COMP_WORDBREAKS|HOSTNAME|_)(=.*)?|set [-+]o xtrace"
)
"""Lines of that code that are bash's own business."""


def restore_script(snapshot: BoxSnapshot) -> str:
    """Shell code, run in a fresh shell, after which it is as the snapshot's was."""
    state = [line for line in snapshot.shell.decode().split("\n") if not _NOT_STATE.fullmatch(line)]
    lines = ["{", *state, "} >/dev/null 2>&1", f"cd -- {shlex.quote(snapshot.cwd)}"]
    return "\n".join([*lines, *_redirect(snapshot.redirections)])


def _redirect(redirections: Iterable[Redirection]) -> Iterable[str]:
    """`exec` lines for descriptors that do not lead where a fresh shell's do."""
    for r in redirections:
        copy_of_stderr = r.flags & os.O_APPEND
        if r.kind == 0:
            yield f"exec {r.fd}>&-"
        elif r.kind == 1:
            if r.fd == 2 and not copy_of_stderr:
                yield "exec 2>&1"
            elif r.fd != 2 and copy_of_stderr:
                yield f"exec {r.fd}>&2"
        elif r.path.startswith("/"):
            reads = r.flags & os.O_ACCMODE == os.O_RDONLY
            yield f"exec {r.fd}{'<' if reads else '>>'}{shlex.quote(r.path)}"
