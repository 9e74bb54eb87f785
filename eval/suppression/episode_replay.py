"""Asks the oracle about the failed commands of a finished episode, by running its commands again."""

from devnull.agents.episode import Episode
from devnull.eval.suppression.failures import FailedCommand, could_hide, fails_again, find_failures
from devnull.eval.suppression.oracle import Oracle
from devnull.eval.suppression.replay import RecordedStep
from devnull.eval.suppression.shell_constructs import find_constructs
from devnull.sandbox.build_layout import lay_out_build
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance, Task


def replay_failed_commands(episode: Episode, task: Task, runtime: Runtime) -> dict[int, bool | None]:
    """Position of each failed command that could have hidden something, to the oracle's answer (`None`: undecided).

    The episode's commands are run again from the same seed, in two containers of `runtime`: those that failed loudly,
    and those that broke their stage with status 0. A command that does not fail again as it did is undecided.

    Raises an `InfrastructureError` if a container breaks.
    """
    wanted = _commands_to_judge(episode, task)
    if not wanted:
        return {}
    answers: dict[int, bool | None] = {}
    live, spare = runtime.start(), None
    try:
        spare = runtime.start()
        lay_out_build(live, Instance(task=task, seed=episode.seed, forced_build=episode.forced_build))
        oracle = Oracle(spare)
        for position, first in enumerate(episode.transcript.results[: max(wanted) + 1]):
            before = live.snapshot() if find_constructs(first.command) else None
            again = live.run(first.command)
            if position not in wanted:
                oracle.steps.append(RecordedStep(again, before))
                continue
            patterns = [task.stage(each.stage).failure for each in wanted[position]]
            answer = oracle.judge(again, before, patterns)
            repeated = all(fails_again(each, task.stage(each.stage), again) for each in wanted[position])
            answers[position] = answer.causal if repeated else None
    finally:
        live.close()
        if spare is not None:
            spare.close()
    return answers


def _commands_to_judge(episode: Episode, task: Task) -> dict[int, list[FailedCommand]]:
    """Failed commands of material failures where the command, or one before it, could have hidden something."""
    wanted: dict[int, list[FailedCommand]] = {}
    results = episode.transcript.results
    for failure in find_failures(episode, task):
        for each in failure.tries:
            if failure.material and each.sighting not in ("shown", "harness") and could_hide(results, each.command):
                wanted.setdefault(each.command, []).append(each)
    return wanted
