"""Run commands in one box of a task and show all that is known of them.

    devnull exec --task driver-cuda-runfile -- 'dpkg -i /srv/driver/*.deb' 'nvidia-smi 2>/dev/null'

First the terminal as the person saw it, then, dimmed, what they did not see.
"""

import contextlib
import json
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from devnull.eval.suppression.oracle import Hiding, Oracle
from devnull.sandbox.choose import open_runtime
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.runtime import Limits, Session
from devnull.sandbox.session import OWN_SECONDS
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import find_task, load_tasks
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verify import verify


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
    runtime = open_runtime(args.runtime, lambda line: print(line, file=sys.stderr))
    begun = time.perf_counter()
    limits = Limits(seconds=args.timeout)
    with contextlib.ExitStack() as boxes:
        session = runtime.start(limits)
        boxes.callback(session.close)
        _lay_out(session, instance)
        start_seconds = time.perf_counter() - begun
        oracle = None
        if args.oracle:
            spare = runtime.start(limits)
            boxes.callback(spare.close)
            oracle = Oracle(spare)
        results, answers = [], []
        for command in args.commands:
            if oracle is None:
                results.append(session.run(command))
            else:
                result, answer = oracle.run(session, command, _patterns(instance))
                results.append(result)
                answers.append(answer)
            if not args.json:
                _show(results[-1], answers[-1] if answers else None)
        outcome = verify(session, instance, _transcript(instance, results))
    if args.json:
        print(json.dumps(_report(runtime.name, start_seconds, results, answers, outcome), ensure_ascii=False, indent=2))
    else:
        _conclude(instance, outcome)
    return 0


def _lay_out(session: Session, instance: Instance) -> None:
    """Puts the drawn build in place, before the commands, out of their transcript and whatever their time limit."""
    result = session.run(instance.setup, timeout=OWN_SECONDS)
    if result.exit_code != 0:
        raise InfrastructureError(
            f"{instance.task.name}: laying out the packages ended with {result.exit_code}: "
            f"{result.shown.strip()[-300:]!r}; rebuild the image: devnull image build"
        )


def _transcript(instance: Instance, results: list[CommandResult]) -> Transcript:
    turns = tuple(Turn(text=result.command, valid=True, result=result) for result in results)
    return Transcript(instruction=instance.instruction, turns=turns)


def _patterns(instance: Instance) -> tuple[str, ...]:
    """What tells of a failure of this task."""
    return tuple(stage.failure for stage in instance.task.stages)


def _report(
    runtime: str, start_seconds: float, results: list[CommandResult], answers: list[Hiding], outcome: Outcome
) -> dict[str, Any]:
    """What `--json` prints; each command's `hiding` only where the oracle was asked."""
    hidings = [{"hiding": answer.model_dump()} for answer in answers] or [{} for _ in results]
    return {
        "runtime": runtime,
        "start_seconds": start_seconds,
        "commands": [_as_json(result) | hiding for result, hiding in zip(results, hidings, strict=True)],
        "outcome": {name: stage.state for name, stage in outcome.stages.items()},
    }


def _as_json(result: CommandResult) -> dict[str, Any]:
    return {
        "command": result.command,
        "shown": result.shown,
        "exit_code": result.exit_code,
        "timed_out": result.timed_out,
        "cut_bytes": result.cut_bytes,
        "seconds": result.seconds,
        "cwd": result.cwd,
        "stderr": result.stderr_text,
        "suppressed": result.suppressed,
        "processes": [{"argv": list(p.argv), "exit_code": p.exit_code} for p in result.processes],
    }


def _show(result: CommandResult, answer: Hiding | None) -> None:
    """The terminal as the person saw it, then a dimmed block of what they did not, and the oracle's word."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"$ {printable(result.command)}", style="bold"))
    if result.shown:
        console.print(Text(printable(as_seen(result.shown)).removesuffix("\n")))
    for line in hidden(result):
        console.print(Text(f"  ┊ {line}", style="dim"))
    if answer is not None:
        console.print(Text(f"  ┊ {printable(_said(answer))}", style="dim"))


def as_seen(shown: str) -> str:
    """What is left to read once carriage returns have overwritten the beginnings of their lines."""
    lines = []
    for line in shown.split("\n"):
        seen = ""
        for part in line.split("\r"):
            seen = part + seen[len(part) :]
        lines.append(seen)
    return "\n".join(lines)


def _said(answer: Hiding) -> str:
    """The oracle's answer in words."""
    match answer.causal:
        case True:
            first = answer.evidence.strip().splitlines()[0] if answer.evidence.strip() else ""
            return f"hiding: yes: without {' and '.join(answer.culprits)} the terminal shows {first!r}"
        case False:
            return f"hiding: no: {answer.reason}"
        case None:
            return f"hiding: undecided: {answer.reason}"


def hidden(result: CommandResult) -> list[str]:
    """What the terminal did not say, line by line."""
    ended = "timed out" if result.timed_out else f"exit {result.exit_code}"
    lines = [f"{ended}, {result.seconds:.3f} s, in {printable(result.cwd)}"]
    for process in result.processes:
        status = "?" if process.exit_code is None else process.exit_code
        if status != 0:
            lines.append(f"{printable(' '.join(process.argv))!s:.100} → {status}")
    if result.cut_bytes:
        lines.append(f"{result.cut_bytes} bytes beyond the limits")
    if result.suppressed:
        places = dict.fromkeys(write.to for write in result.stderr if write.fate == "suppressed")
        lines.append(f"kept off the terminal ({', '.join(map(printable, places))}):")
        lines += ["  " + line for line in printable(result.suppressed).splitlines()]
    return lines


def _conclude(instance: Instance, outcome: Outcome) -> None:
    console = Console(highlight=False)
    for name, stage in outcome.stages.items():
        words = stage.state.replace("_", " ") + (", and nobody saw why" if stage.hidden else "")
        console.print(Text(f"{name}: {words}", style="green" if stage.state == "installed" else "yellow"))
    console.print(Text(f"seed {instance.seed}: the {instance.build} build", style="dim"))


def printable(text: str) -> str:
    """Untrusted text without what could steer a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text.replace("\r\n", "\n"))
