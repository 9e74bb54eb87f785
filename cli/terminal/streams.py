"""The process's own streams and its Ctrl-C: what a program does about them once, before its command runs."""

import atexit
import codecs
import contextlib
import locale
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

PIPE_CLOSED = 128 + signal.SIGPIPE
"""Exit status of a program whose reader left, as a shell counts it."""
STOPPED = 128 + signal.SIGINT
_PLAIN = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "…": "...", "·": ".", "×": "x", "±": "+-", "→": "->", "≤": "<=", "≥": ">="}
    | dict.fromkeys("‘’", "'")
    | dict.fromkeys("“”", '"')
    | dict.fromkeys("│┃║┊", "|")
    | dict.fromkeys("─━═", "-")
    | dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯", "+")
    | {"█": "#", "░": ".", "•": "*", "■": "#", "▶": ">", "⚑": "!", "✗": "x", "‖": "||", "⏎": "\\n", "Ē": "E", "≠": "!="}
    | {"←": "<-", "↑": "^", "↓": "v", "⟨": "<", "⟩": ">", "⟦": "[", "⟧": "]"}
    | {chr(0x2400 + code): f"^{chr(code + 64)}" for code in range(32)}  # pictures of control characters
    | {"␡": "^?"}
)
"""What a terminal that lacks a character gets in its place; for any other, its escape."""


_ended = threading.Event()
"""Set once `main` has ended: what is interrupted then is the end of the process."""


def run_as_program(main: Callable[[], int]) -> int:
    """Runs `main` as the program of this process and returns its exit status.

    A reader of stdout that leaves early (`| head`) ends it quietly, as it ends any Unix tool; another broken pipe is an
    error like any other. A terminal whose encoding lacks a character gets a plain one. Ctrl-C raises
    `KeyboardInterrupt` in `main`, also where a library would swallow it; once `main` has ended, it ends the process at
    once.
    """
    codecs.register_error("devnull-plain", _replace_character)
    with contextlib.suppress(locale.Error):  # files are UTF-8, whatever the terminal is
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started it closed it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):  # a test's stream, or one that is closed
            stream.reconfigure(errors="devnull-plain")  # type: ignore[union-attr]
    sys.unraisablehook = _hand_on_interrupt
    # while the interpreter takes itself apart, the system's own answer to Ctrl-C would be back
    atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:  # while a command's modules were loaded
        print("devnull: stopped; run the same command again", file=sys.stderr)
        status = STOPPED
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):  # rich makes the one of the other
            raise
        return PIPE_CLOSED
    except BrokenPipeError:
        if not _reader_left(1):
            raise
        # what is still buffered goes nowhere: nobody is left to complain to
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    finally:
        _ended.set()
        signal.signal(signal.SIGINT, lambda *_: os._exit(STOPPED))
    return status


def _replace_character(error: UnicodeError) -> tuple[str, int]:
    """An error handler for encoding."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = error.object[error.start : error.end].translate(_PLAIN)
    return plain.encode("ascii", "backslashreplace").decode("ascii"), error.end


def _reader_left(descriptor: int) -> bool:
    """Whether the other end of a pipe that this process writes to is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def _hand_on_interrupt(unraisable: Any) -> None:
    """In place of Python's own report: a Ctrl-C that met a finaliser or a callback is raised again, in `main`."""
    if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Thread(target=_interrupt_main, daemon=True).start()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt_main() -> None:
    """From another thread, and a moment later: what is raised inside the hook would be ignored like what led to it."""
    if not _ended.wait(0.01):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
