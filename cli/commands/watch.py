"""Run a program of yours in a box, and show what it ran, what failed and what was kept off its terminal.

    devnull watch --folder . --out runs/watched -- ./install.sh
    devnull watch --folder . --out runs/agent --shell -- mini -y -t "make the tests pass"

The box has a copy of the folder and no network. With `--shell` the program is an agent that stays on this machine, with
its network, and only its shell commands run in the box. The exit status is the program's own (docs/watch.md).
"""

import codecs
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

from devnull.agents.episode import NO_GROUND_TRUTH, Episode, EpisodeError, ImportedFrom
from devnull.cli.commands.exec import escape_unprintable, format_unseen
from devnull.cli.runs.run_folder import open_run
from devnull.cli.runs.shell_relay import ShellRelay
from devnull.cli.terminal.progress import print_progress
from devnull.cli.terminal.streams import STOPPED
from devnull.eval.display.counting import count_noun
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied, InputError
from devnull.sandbox.own_box import open_own_box
from devnull.sandbox.runtime import Limits
from devnull.sandbox.session import BoxSession
from devnull.sandbox.transcript import Transcript, Turn

_TIMED_OUT = 124
"""Exit status where the program ran past its time, as timeout(1) has it."""


@dataclass(frozen=True)
class Args:
    folder: Path | None = None
    """Copied into the box as /work, where the program starts; the folder itself is never written to."""
    image: str | None = None
    """A Docker image, or the folder of a root file system, with bash; instead of devnull's own root file system."""
    out: Path | None = None
    """Run folder for `devnull replay` and `report`; watching the same again adds to it. By default none is written."""
    shell: bool = False
    """The program stays on this machine, and every command that it gives to `sh -c` or `bash -c` runs in the box."""
    timeout: float = 3600.0
    """Seconds that the program may take; with --shell, that each of its commands may take."""
    disk: int = 2048
    """MiB that the box may write, the copied folder included."""
    memory: int = 2048
    """MiB of memory that the box may use."""
    command: Annotated[tuple[str, ...], tyro.conf.Positional] = field(default=())
    """The program and its arguments, after `--`; a single word is a line of bash."""


def main(args: Args) -> int:
    if not args.command:
        raise InputError("no program: devnull watch -- COMMAND ...")
    if args.disk < 1 or args.memory < 1:
        raise InputError("--disk and --memory are MiB, 1 at least")
    command = args.command[0] if len(args.command) == 1 else shlex.join(args.command)
    limits = Limits(
        seconds=args.timeout, disk_bytes=args.disk << 20, memory_bytes=args.memory << 20, pids=4096,
        shown_bytes=16 << 20, recorded_bytes=64 << 20,
    )  # fmt: skip
    config: dict[str, Any] = {"command": command, "folder": args.folder, "image": args.image}
    config |= {"shell": True} if args.shell else {}
    with _terminable():
        run = None if args.out is None else open_run(args.out, "watch", config, 0)
        with open_own_box(args.folder, args.image, limits, print_progress) as session:
            if args.shell:
                argv = ["bash", "-c", command] if len(args.command) == 1 and " " in command else list(args.command)
                results, status = _watch_shell(session, argv, args.folder, args.timeout)
            else:
                result, status = _watch(session, command)
                results = [result]
        _print_unseen(results, each_named=args.shell)
        if run is not None:
            run.append(_episode(command, results, len(run.episodes())))
            Console(highlight=False, soft_wrap=True, stderr=True).print(
                Text(f"written to {args.out}: devnull replay {args.out}, devnull report {args.out}")
            )
    return status


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is what Ctrl-C is: the box ends, what was recorded until then is kept, nothing is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_unseen(results: Sequence[CommandResult], *, each_named: bool) -> None:
    """The end's summary, on stderr: how many programs ran and failed, and of each command what nobody saw."""
    console = Console(highlight=False, soft_wrap=True, stderr=True)
    processes = [process for result in results for process in result.processes]
    failed = sum(process.exit_code not in (0, None) for process in processes)
    given = f"the shell was given {count_noun(len(results), 'command')}: " if each_named else ""
    console.print(Text(f"{given}{count_noun(len(processes), 'program')} ran, {failed} failed", style="bold"))
    for result in results:
        if each_named:
            console.print(Text(f"$ {escape_unprintable(result.command)}"))
        for line in format_unseen(result):
            console.print(Text(f"  ┊ {line}", style="dim"))


def _watch(session: BoxSession, command: str) -> tuple[CommandResult, int]:
    """Runs the program and prints its terminal as it comes; what is known of it, and the exit status."""
    session.on_output = print_live(sys.stdout.write)
    begun = time.monotonic()
    try:
        result = session.run(command)
    except KeyboardInterrupt:
        return session.abandon(command, time.monotonic() - begun), STOPPED
    except BoxDied as death:
        if death.unfinished is None or death.by_agent is None:
            raise
        return death.unfinished, 1
    return result, _TIMED_OUT if result.exit_code is None else result.exit_code


def _watch_shell(
    session: BoxSession, argv: list[str], folder: Path | None, seconds: float
) -> tuple[list[CommandResult], int]:
    """Starts the agent on this machine and prints what it says; what its shell ran in the box, and its status."""
    show = print_live(sys.stdout.write)
    with ShellRelay(session, folder, seconds) as relay:
        agent = relay.start(argv)
        assert agent.stdout is not None
        output = agent.stdout.fileno()
        try:
            for data in iter(lambda: os.read(output, 1 << 16), b""):
                show(data)
            status = agent.wait()
        except KeyboardInterrupt:
            agent.terminate()
            status = STOPPED
        finally:
            agent.stdout.close()
    try:
        agent.wait(10)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()
    return relay.results, 128 - status if status < 0 else status


def print_live(write: Callable[[str], object]) -> Callable[[bytes], None]:
    """A function that takes a terminal's bytes as they come, in any pieces, and writes them escaped."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    held = ""

    def show(data: bytes) -> None:
        nonlocal held
        text = held + decoder.decode(data)
        held = "\r" if text.endswith("\r") else ""  # the newline may come with the next piece
        write(escape_unprintable(text.removesuffix("\r")))
        sys.stdout.flush()

    return show


def _episode(command: str, results: Sequence[CommandResult], sample: int) -> Episode:
    """The run folder's record: no verifier knows what the program should have done, so it has no outcome."""
    return Episode(
        arm="watched",
        agent="watched",
        task="watch",
        family="imported",
        split="test",
        seed=0,
        sample=sample,
        faulty=False,
        runtime="rootless",
        transcript=Transcript(
            instruction=f"Run {command}",
            turns=tuple(Turn(text=result.command, valid=True, result=result) for result in results),
        ),
        error=EpisodeError(kind=NO_GROUND_TRUTH, message="watched: no verifier knows how it should have ended"),
        imported=ImportedFrom(format="watch"),
    )
