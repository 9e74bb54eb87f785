"""Commands in one fresh box of a task, and all that is known of them: `devnull exec` and `devnull.exec`."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from devnull.eval.suppression.oracle import Oracle
from devnull.eval.suppression.trace_answer import OracleAnswer
from devnull.sandbox.build_layout import lay_out_build
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verification.verify import verify

OnCommand = Callable[[CommandResult, OracleAnswer | None], None]
"""Called when a command has ended, with the oracle's answer where it was asked."""


@dataclass(frozen=True)
class Execution:
    """What came of commands run in one box."""

    instance: Instance
    runtime: str
    start_seconds: float
    """Until the box was there and the build laid out."""
    results: tuple[CommandResult, ...]
    """One a command."""
    answers: tuple[OracleAnswer, ...]
    """The replay oracle's, one a command; empty where it was not asked."""
    outcome: Outcome
    """How the stages of the task ended, by the verifier."""


def execute_commands(
    instance: Instance,
    commands: Sequence[str],
    runtime: Runtime,
    limits: Limits = Limits(),
    *,
    oracle: bool = False,
    on_command: OnCommand = lambda result, answer: None,
) -> Execution:
    """Runs each command once in a fresh box and verifies the task's stages.

    With `oracle` a second box replays each command without what could hide something. Commands after one in which the
    box died are not run. Raises an `InfrastructureError` where no box can be had, or where it dies and nothing shows
    that the commands ended it.
    """
    begun = time.perf_counter()
    with ExitStack() as boxes:
        session = runtime.start(limits)
        boxes.callback(session.close)
        lay_out_build(session, instance)
        start_seconds = time.perf_counter() - begun
        replay = None
        if oracle:
            spare = runtime.start(limits)
            boxes.callback(spare.close)
            replay = Oracle(spare)
        patterns = tuple(stage.failure for stage in instance.task.stages)
        results: list[CommandResult] = []
        answers: list[OracleAnswer] = []
        for command in commands:
            answer, dead = None, False
            try:
                if replay is None:
                    result = session.run(command)
                else:
                    result, answer = replay.run(session, command, patterns)
            except BoxDied as death:
                if death.by_agent is None or death.unfinished is None or death.unfinished.command != command:
                    raise
                result, dead = death.unfinished, True
                if replay is not None:
                    answer = OracleAnswer(constructs=(), causal=None, reason="the box ended in this command")
            if answer is not None:
                answers.append(answer)
            results.append(result)
            on_command(result, answer)
            if dead:
                break
        turns = tuple(Turn(text=result.command, valid=True, result=result) for result in results)
        outcome = verify(session, instance, Transcript(instruction=instance.instruction, turns=turns))
    return Execution(instance, runtime.name, start_seconds, tuple(results), tuple(answers), outcome)
