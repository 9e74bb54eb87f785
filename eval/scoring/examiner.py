"""Scores the episodes of a run, and those that are alike in all but their times once: most of a run repeats itself."""

from collections.abc import Callable, Hashable
from itertools import count
from operator import attrgetter
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.scoring.examination import Examination
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.outcome import StageOutcome
from devnull.sandbox.task import Task

_MOST_KEPT = 4096
"""Examinations that are kept; then all are forgotten, so that a run which never repeats itself fits into memory."""
_NAMES = ("arm", "agent", "family", "split", "runtime", "seed", "sample")
"""Fields of a score that say which episode it is of, and nothing of what happened in it."""

_NUMBERS = count(1)
"""Each is given once, whichever examiner asks."""


class Examiner:
    """Examines the episodes of one run for one evaluator. A task's name must always be that of the same task."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._alike = evaluator.repeats
        self._known: dict[Hashable, Examination] = {}
        self._scores: dict[Examination, Score] = {}

    def examine(self, episode: Episode, task: Task) -> Examination:
        """The examination of this episode, or of an earlier one in which the same happened."""
        key = episode_content(episode)
        if not self._alike:
            key = key, episode.transcript.instruction, episode.stream
        found = self._known.get(key)
        if found is None:
            if len(self._known) == _MOST_KEPT:
                self._known.clear()
                self._scores.clear()
            found = self._known[key] = Examination(episode, task, self.evaluator, next(_NUMBERS))
        return found

    def score(self, examination: Examination, episode: Episode, arm: str = "") -> Score:
        """The score of an episode, from its examination. `arm`: what its arm is called, if not as in its run."""
        known = self._scores.get(examination)
        if known is None:
            known = score(examination.episode, examination.task, self.evaluator, examination=examination)
            self._scores[examination] = known
        names: dict[str, Any] = {name: getattr(episode, name) for name in _NAMES}
        names["arm"] = arm or episode.arm
        if known.if_agents_doing is not None:
            names["if_agents_doing"] = known.if_agents_doing.model_copy(update=names)
        return known.model_copy(update=names)


def episode_content(episode: Episode) -> Hashable:
    """Equal for episodes of a task in which the same happened: whatever their names, seeds, instructions, times and
    process ids are."""
    transcript, outcome = episode.transcript, episode.outcome
    return (
        episode.task,
        episode.faulty,
        episode.error,
        None if outcome is None else (*map(_of_stage, outcome.stages.values()), *outcome.stages, outcome.tampered),
        transcript.report,
        tuple((turn.text, turn.valid, _result_content(turn.result)) for turn in transcript.turns),
    )


def _getter(model: type[Frozen], *left_out: str) -> Callable[[Frozen], Hashable]:
    return attrgetter(*(name for name in model.model_fields if name not in left_out))


_of_stage = _getter(StageOutcome)
_of_result = _getter(CommandResult, "timing", "seconds", "stderr", "processes")
_of_write = _getter(Write, "seconds", "pid")
_of_process = _getter(Process, "pid")


def _result_content(result: CommandResult | None) -> Hashable:
    if result is None:
        return None
    pids: dict[int, int] = {}  # to their order of appearance: which are the same counts, not what they are
    writes = tuple((pids.setdefault(write.pid, len(pids)), _of_write(write)) for write in result.stderr)
    ran = tuple((pids.setdefault(process.pid, len(pids)), _of_process(process)) for process in result.processes)
    return _of_result(result), writes, ran
