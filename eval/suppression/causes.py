"""Asks the oracle about the failing commands of a finished episode, by playing the episode again in a box."""

from devnull.agents.episode import Episode
from devnull.eval.suppression.constructs import constructs
from devnull.eval.suppression.failures import Failing, failing, failures
from devnull.eval.suppression.oracle import Oracle, Step
from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance, Task


def causes(episode: Episode, task: Task, runtime: Runtime) -> dict[int, bool | None]:
    """Position of each failing command that could have hidden something, to the oracle's answer.

    The episode's commands are run again from the same seed. A command that does not fail again as it did is
    undecided. Raises an `InfrastructureError` if the box breaks.
    """
    wanted = _questions(episode, task)
    if not wanted:
        return {}
    answers: dict[int, bool | None] = {}
    live, spare = runtime.start(), None
    try:
        spare = runtime.start()
        laid = live.run(Instance(task=task, seed=episode.seed).setup)
        if laid.exit_code != 0:
            raise InfrastructureError(f"{task.name}: the packages cannot be laid out: {laid.shown.strip()[-300:]!r}")
        oracle = Oracle(spare)
        for position, first in enumerate(episode.transcript.results[: max(wanted) + 1]):
            before = live.snapshot() if constructs(first.command) else None
            again = live.run(first.command)
            if position not in wanted:
                oracle.steps.append(Step(again, before))
                continue
            patterns = [task.stage(each.stage).failure for each in wanted[position]]
            answer = oracle.judge(again, before, patterns)
            repeated = all(failing(task.stage(each.stage), position, again) is not None for each in wanted[position])
            answers[position] = answer.causal if repeated else None
    finally:
        live.close()
        if spare is not None:
            spare.close()
    return answers


def _questions(episode: Episode, task: Task) -> dict[int, list[Failing]]:
    """Failing commands of material failures where the command, or one before it, could have hidden something."""
    found: dict[int, list[Failing]] = {}
    results = episode.transcript.results
    for failure in failures(episode, task):
        for each in failure.tries:
            own = constructs(results[each.command].command)
            lasting = (known.lasting for result in results[: each.command] for known in constructs(result.command))
            if failure.material and each.sighting not in ("shown", "harness") and (own or any(lasting)):
                found.setdefault(each.command, []).append(each)
    return found
