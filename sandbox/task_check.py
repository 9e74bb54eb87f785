"""Checks that a task behaves as its file says, in real boxes, with the faulty build and the other one."""

import re
import shlex
from collections.abc import Sequence

from devnull.sandbox.build_comparison import differences_of_builds
from devnull.sandbox.build_layout import lay_out_build
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied, InfrastructureError, InputError
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.patterns import unbounded_pattern
from devnull.sandbox.runtime import Limits, Runtime, Session
from devnull.sandbox.task import Instance, Stage, Task
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verification.attempts import find_attempts, matches_visible_text
from devnull.sandbox.verification.verify import verify

_VARYING = (
    (re.compile(r"\b\d\d:\d\d:\d\d\b|\b\d+(\.\d+)? ?(s|ms|seconds|[kMG]?B/s)\b"), "TIME"),
    (re.compile(r"/tmp/[\w.-]+"), "/tmp/NAME"),
    (re.compile(r"\bcc\w{6}\.[osc]\b"), "TEMPORARY"),
    (re.compile(r"\b(pid|process|PID) \d+"), "PID"),
)
"""What differs from run to run in any shell: times, temporary names, process ids."""


def check_task(task: Task, runtime: Runtime) -> list[str]:
    """What is wrong with a task, a line each; empty if it behaves as its file says.

    Raises `InputError` if its packages are not in the image, and an `InfrastructureError`.
    """
    problems = [*_check_sound(task, runtime), *_check_faulty(task, runtime), *_check_idle(task, runtime)]
    return [*_check_patterns(task), *problems, *_check_alike(task, runtime)]


def _check_patterns(task: Task) -> list[str]:
    """Patterns that an agent's text could make slow without bound."""
    return [
        f"{stage.name}: {key} = {pattern!r} may take forever: put {slow!r} in other words (docs/tasks.md)"
        for stage in task.stages
        for key in ("attempt", "verbose", "success", "failure")
        if (pattern := getattr(stage, key)) and (slow := unbounded_pattern(pattern))
    ]


def _check_sound(task: Task, runtime: Runtime) -> list[str]:
    """The reference solution installs everything, and the terminal says so where the task says it does."""
    if task.fault.p == 1:
        return []
    problems = []
    for wanted in ("command", "verbose_command"):
        if wanted == "verbose_command" and not any(stage.verbose_command for stage in task.stages):
            continue
        commands = [getattr(stage, wanted) or stage.command for stage in task.stages]
        results, outcome = run_commands(task, runtime, faulty=False, commands=commands)
        for stage, result in zip(task.stages, results, strict=True):
            where = f"ok build: {stage.name}: {result.command}"
            ending = outcome.stages[stage.name]
            if result.exit_code != 0:
                problems.append(f"{where}: exit status {result.exit_code}: {quote_end(result.shown)}")
            if ending.state != "installed":
                problems.append(f"{where}: {ending.state}: {ending.evidence}")
            loud = stage.verbose is None or wanted == "verbose_command"
            if stage.success and loud and not matches_visible_text(stage.success, result.shown):
                problems.append(f"{where}: the terminal does not show {stage.success!r}: {quote_end(result.shown)}")
            if not find_attempts(stage, [result]):
                problems.append(f"{where}: no process matches the pattern `attempt`")
            if stage.verbose is not None and ending.verbose != (wanted == "verbose_command"):
                problems.append(f"{where}: verbose is {ending.verbose}")
            if matches_visible_text(stage.failure, result.shown):
                problems.append(f"{where}: a success shows {stage.failure!r}")
        if wanted == "command":
            again, _ = run_commands(task, runtime, faulty=False, commands=commands)
            problems += [f"ok build: {problem}" for problem in _differences(results, again)]
    return problems


def _check_faulty(task: Task, runtime: Runtime) -> list[str]:
    """The fault strikes as declared: exit status, text, outcome; hidden where it can be; the same each time."""
    if task.fault.p == 0:
        return []
    fault, stage = task.fault, task.stage(task.fault.stage)
    last = task.stages.index(stage)
    commands = [each.command for each in task.stages[: last + 1]]
    results, outcome = run_commands(task, runtime, faulty=True, commands=commands)
    result, ending = results[-1], outcome.stages[stage.name]
    problems = []
    if result.exit_code != fault.exit_status:
        problems.append(f"exit status {result.exit_code}, not {fault.exit_status}: {quote_end(result.shown)}")
    where = {"stderr": result.stderr_text, "stdout": result.shown, "none": ending.evidence}[fault.evidence]
    if not matches_visible_text(stage.failure, where):
        problems.append(f"{stage.failure!r} is not on {fault.evidence}: {quote_end(where)}")
    if fault.evidence == "none" and matches_visible_text(stage.failure, result.shown):
        problems.append(
            f"{stage.failure!r} is shown, though the evidence is declared as none: {quote_end(result.shown)}"
        )
    if ending.state != "broken" or ending.hidden:
        problems.append(f"outcome {ending.state}{', hidden' if ending.hidden else ''}, not broken: {ending.evidence}")
    problems += [
        f"{each.name}, which comes before, is {outcome.stages[each.name].state}: {outcome.stages[each.name].evidence}"
        for each in task.stages[:last]
        if outcome.stages[each.name].state != "installed"
    ]
    again, _ = run_commands(task, runtime, faulty=True, commands=commands)
    problems += _differences(results, again)
    if fault.evidence == "stderr":
        problems += _check_hidden(task, runtime, stage, commands)
    return [f"faulty build: {stage.name}: {problem}" for problem in problems]


def _check_hidden(task: Task, runtime: Runtime, stage: Stage, commands: Sequence[str]) -> list[str]:
    hiding = [*commands[:-1], f"{{ {commands[-1]}\n}} 2>/dev/null"]
    results, outcome = run_commands(task, runtime, faulty=True, commands=hiding)
    shown = matches_visible_text(stage.failure, results[-1].shown)
    if task.fault.hideable:
        if shown:
            return [f"2>/dev/null does not hide {stage.failure!r}: {quote_end(results[-1].shown)}"]
        if not outcome.stages[stage.name].hidden:
            return ["broken with 2>/dev/null, and not counted as hidden"]
    elif not shown:
        return [f"declared as not hideable, and 2>/dev/null hides {stage.failure!r}"]
    return []


def _check_idle(task: Task, runtime: Runtime) -> list[str]:
    """Doing nothing attempts nothing, and neither does looking around, with either build."""
    looking = [_look_around(stage) for stage in task.stages]
    problems = []
    for faulty, commands in ((False, ()), (True, looking)):
        if task.fault.p == (not faulty):
            continue
        _, outcome = run_commands(task, runtime, faulty=faulty, commands=commands)
        problems += [
            f"{'looking around' if commands else 'doing nothing'}: {name} is {ending.state}"
            for name, ending in outcome.stages.items()
            if ending.state != "not_attempted"
        ]
    return problems


def _check_alike(task: Task, runtime: Runtime) -> list[str]:
    """An agent that has tried nothing yet cannot know which build its box holds."""
    if task.fault.p in (0, 1):
        return []
    instances = instance_with_fault(task, False), instance_with_fault(task, True)
    return [f"a look tells the builds apart: {line}" for line in differences_of_builds(instances, runtime)]


def _look_around(stage: Stage) -> str:
    """What a careful reader runs first: lists and reads the files that the command names, and tries apt's rehearsal."""
    files = " ".join(re.findall(r"/(?:srv|opt|root)/[\w./*+-]+", stage.command))
    rehearsal = stage.command.replace("apt-get install", "apt-get install --simulate")
    simulate = rehearsal if "--simulate" in rehearsal and "&&" not in rehearsal else ":"
    read = f"ls -ld /srv/* {files}; cat {files or '/etc/motd'} | head -c 2000 | od -c"
    return f"{read}; echo {shlex.quote(stage.command)}; {simulate}"


def _differences(first: Sequence[CommandResult], again: Sequence[CommandResult]) -> list[str]:
    """Where two episodes of one seed do not show the same bytes."""
    return [
        f"the same seed shows other bytes: {one.command}: {quote_end(one.shown)} / {quote_end(two.shown)}"
        for one, two in zip(first, again, strict=True)
        if _without_varying(one.shown) != _without_varying(two.shown)
    ]


def run_commands(
    task: Task, runtime: Runtime, *, faulty: bool, commands: Sequence[str]
) -> tuple[list[CommandResult], Outcome]:
    """One episode of fixed commands in a fresh box with the faulty build, or the other one.

    Raises `InputError` if the task has no such build, and an `InfrastructureError`.
    """
    instance = instance_with_fault(task, faulty)
    session = runtime.start(Limits())
    try:
        _lay_out_own_build(session, instance)
        results = [session.run(command) for command in commands]
        turns = tuple(Turn(text=result.command, valid=True, result=result) for result in results)
        return results, verify(session, instance, Transcript(instruction=instance.instruction, turns=turns))
    finally:
        session.close()


def _lay_out_own_build(session: Session, instance: Instance) -> None:
    """Raises `InputError` where the build is missing: who checks a task is its author."""
    try:
        lay_out_build(session, instance)
    except BoxDied:
        raise
    except InfrastructureError as error:
        reason = f"the {instance.build} build cannot be laid out; does its build.sh make one of that name?"
        raise InputError(f"{instance.task.name}: {reason} ({error})") from None


def instance_with_fault(task: Task, faulty: bool) -> Instance:
    """The instance of the lowest seed that strikes (`faulty`) or spares it. The fault must be able to do both."""
    instances = (Instance(task=task, seed=seed) for seed in range(10_000))
    return next(instance for instance in instances if instance.faulty == faulty)


def _without_varying(shown: str) -> str:
    for pattern, name in _VARYING:
        shown = pattern.sub(name, shown)
    return shown


def quote_end(text: str) -> str:
    """The last 300 characters, quoted."""
    return repr(text.strip()[-300:])
