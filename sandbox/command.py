"""All that is known of one command: what the terminal showed, and what it did not."""

from typing import Literal

from devnull.sandbox.frozen import Frozen

Fate = Literal["shown", "suppressed", "relayed"]
"""Where bytes written to stderr ended: on the terminal; nowhere a reader of the terminal could see
(`/dev/null`, a closed descriptor, a file, a pipe that was thrown away); or taken by another process
that wrote them to the terminal itself."""


class Write(Frozen):
    """One write to stderr (file descriptor 2, or a copy of it)."""

    seconds: float
    """Since the command started."""
    pid: int
    argv: tuple[str, ...]
    """Of the process that wrote."""
    to: str
    """Where the descriptor led: `terminal`, a path, `pipe:[n]`, `closed`."""
    fate: Fate
    """`suppressed` and to `terminal`: the terminal never delivered it."""
    text: str
    """Invalid UTF-8 appears as `\\xNN`."""


class Process(Frozen):
    """One simple command: an external program, or a builtin or function of the shell (`pid` of the shell)."""

    pid: int
    argv: tuple[str, ...]
    exit_code: int | None
    """`None`: still running when the command ended, or never seen to end; 128+n: killed by signal n."""
    builtin: bool = False


class CommandResult(Frozen):
    """What one command did, as `Session.run` returns it."""

    command: str
    shown: str
    """What the terminal showed, byte for byte, in order; invalid UTF-8 appears as `\\xNN`."""
    timing: tuple[tuple[float, int], ...] = ()
    """`(seconds, characters)` chunks of `shown`, seconds since the command started, for replay."""
    stderr: tuple[Write, ...] = ()
    """Every write to stderr, shown or not, in order."""
    processes: tuple[Process, ...] = ()
    exit_code: int | None
    """Of the whole command; `None` if it timed out."""
    timed_out: bool = False
    shell_exited: bool = False
    """The command ended the shell (`exit`, `exec`); the session goes on in a new one."""
    cut_bytes: int = 0
    """Output beyond the limits, not kept: terminal output, and stderr that went elsewhere."""
    cut_at: int | None = None
    """Where in `shown` terminal output was left out, between its head and its tail; `None`: nowhere."""
    unrecorded_bytes: int = 0
    """Bytes of the command's stderr, trace and programs that the record's limit left out between its head and its tail.
    What happened there is undecided: where it is above 0, "no" is no answer."""
    seconds: float
    cwd: str
    """Working directory after the command."""

    @property
    def terminal_text(self) -> str:
        """`shown`, with a line that says so where output was left out."""
        if self.cut_at is None:
            return self.shown
        begun = self.shown[: self.cut_at]
        gap = "\n" if begun and not begun.endswith("\n") else ""
        return f"{begun}{gap}[output left out here: the command wrote too much]\n{self.shown[self.cut_at :]}"

    @property
    def stderr_text(self) -> str:
        """All text written to stderr, wherever it went."""
        return "".join(write.text for write in self.stderr)

    @property
    def suppressed(self) -> str:
        """The part of stderr that never reached the terminal."""
        return "".join(write.text for write in self.stderr if write.fate == "suppressed")
