"""Run commands in one box of a task and show all that is known of them.

    devnull exec --task driver-cuda-runfile -- 'dpkg -i /srv/driver/*.deb' 'nvidia-smi 2>/dev/null'

First the terminal as the person saw it, then, dimmed, what they did not see.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from devnull.cli.runs.execution import Execution, execute_commands
from devnull.cli.terminal.progress import print_progress
from devnull.eval.suppression.trace_answer import OracleAnswer
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import InputError
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.screen_text import screen_text
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import find_task, load_tasks


@dataclass(frozen=True)
class Args:
    task: str
    """Whose packages lie in the box: a name of `devnull tasks list`."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """What makes the box."""
    seed: int | None = None
    """Draws the instruction and the fault; by default another one each time."""
    timeout: float = 60.0
    """Seconds that each command may take."""
    oracle: bool = False
    """Replay each command without what could hide something, and say whether it hid a failure."""
    json: bool = False
    """Print everything as one JSON object."""
    commands: Annotated[tuple[str, ...], tyro.conf.Positional] = field(default=())
    """The commands, one shell word each, after `--`."""


def main(args: Args) -> int:
    if not args.commands:
        raise InputError("no command: devnull exec --task T -- 'COMMAND' ...")
    seed = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    instance = Instance(task=find_task(args.task, load_tasks()), seed=seed)
    runtime = open_runtime(args.runtime, print_progress)
    limits = Limits(seconds=args.timeout)
    show = (lambda result, answer: None) if args.json else _print_command
    execution = execute_commands(instance, args.commands, runtime, limits, oracle=args.oracle, on_command=show)
    if args.json:
        print(json.dumps(_execution_json(execution), indent=2))
    else:
        _print_outcome(instance, execution.outcome)
    return 0


def _execution_json(execution: Execution) -> dict[str, Any]:
    """What `--json` prints; each command's `hiding` only where the oracle was asked."""
    results, answers = execution.results, execution.answers
    hidings = [{"hiding": answer.model_dump()} for answer in answers] or [{} for _ in results]
    return {
        "runtime": execution.runtime,
        "start_seconds": execution.start_seconds,
        "commands": [_command_json(result) | hiding for result, hiding in zip(results, hidings, strict=True)],
        "outcome": {name: stage.state for name, stage in execution.outcome.stages.items()},
        "tampered": list(execution.outcome.tampered),
    }


def _command_json(result: CommandResult) -> dict[str, Any]:
    return {
        "command": result.command,
        "shown": result.shown,
        "exit_code": result.exit_code,
        "timed_out": result.timed_out,
        "cut_bytes": result.cut_bytes,
        "unrecorded_bytes": result.unrecorded_bytes,
        "seconds": result.seconds,
        "cwd": result.cwd,
        "stderr": result.stderr_text,
        "suppressed": result.suppressed,
        "processes": [{"argv": list(p.argv), "exit_code": p.exit_code} for p in result.processes],
    }


def _print_command(result: CommandResult, answer: OracleAnswer | None) -> None:
    """The terminal as the person saw it, then a dimmed block of what they did not, and the oracle's word."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"$ {escape_unprintable(result.command)}", style="bold"))
    print_screen(console, result)
    for line in format_unseen(result):
        console.print(Text(f"  ┊ {line}", style="dim"))
    if answer is not None:
        console.print(Text(f"  ┊ {escape_unprintable(_format_oracle_answer(answer))}", style="dim"))


def print_screen(console: Console, result: CommandResult) -> None:
    """What a person could have read of the command's output."""
    if screen := screen_text(result.terminal_text):
        console.print(Text(escape_unprintable(screen).removesuffix("\n")))


def _format_oracle_answer(answer: OracleAnswer) -> str:
    """The oracle's answer in words."""
    match answer.causal:
        case True:
            first = answer.evidence.strip().splitlines()[0] if answer.evidence.strip() else ""
            return f"hiding: yes: without {' and '.join(answer.culprits)} the terminal shows {first!r}"
        case False:
            return f"hiding: no: {answer.reason}"
        case None:
            return f"hiding: undecided: {answer.reason}"


def format_unseen(result: CommandResult) -> list[str]:
    """What the terminal did not show of a command, line by line: status, failed processes, what was kept off it."""
    ended = "timed out" if result.timed_out else f"exit {result.exit_code}"
    lines = [f"{ended}, {result.seconds:.3f} s, in {escape_unprintable(result.cwd)}"]
    for process in result.processes:
        status = "?" if process.exit_code is None else process.exit_code
        if status != 0:
            lines.append(f"{escape_unprintable(' '.join(process.argv))!s:.100} → {status}")
    if result.cut_bytes:
        lines.append(f"{result.cut_bytes} bytes beyond the limits")
    if result.unrecorded_bytes:
        lines.append(f"{result.unrecorded_bytes} bytes of stderr and trace beyond the record's limit: undecided")
    if result.suppressed:
        places = dict.fromkeys(write.to for write in result.stderr if write.fate == "suppressed")
        lines.append(f"kept off the terminal ({', '.join(map(escape_unprintable, places))}):")
        lines += ["  " + line for line in escape_unprintable(result.suppressed).splitlines()]
    return lines


def _print_outcome(instance: Instance, outcome: Outcome) -> None:
    console = Console(highlight=False)
    for name, stage in outcome.stages.items():
        words = stage.state.replace("_", " ") + (", and nobody saw why" if stage.hidden else "")
        console.print(Text(f"{name}: {words}", style="green" if stage.state == "installed" else "yellow"))
    if outcome.tampered:
        console.print(Text(f"tampered with: {escape_unprintable(', '.join(outcome.tampered))}", style="yellow"))
    console.print(Text(f"seed {instance.seed}: the {instance.build} build", style="dim"))


def escape_unprintable(text: str) -> str:
    """Untrusted text, with what could steer a terminal as `\\x1b`."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text.replace("\r\n", "\n"))
