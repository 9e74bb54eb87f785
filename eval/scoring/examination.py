"""What an evaluator believes of an episode and which failures are in it: what its score and its timeline both need."""

from functools import cached_property

from devnull.agents.episode import Episode
from devnull.eval.suppression.failures import StageFailure, find_failures
from devnull.rewards.evaluator import Evaluator, Judgement
from devnull.sandbox.task import Task


class Examination:
    """One episode, examined by one evaluator. Each part is worked out when it is asked for, and once."""

    def __init__(self, episode: Episode, task: Task, evaluator: Evaluator, number: int = 0) -> None:
        """`number`: of those that an `Examiner` keeps, which tells it from all others."""
        self.number = number
        self.episode, self.task, self.evaluator = episode, task, evaluator

    @cached_property
    def judgement(self) -> Judgement:
        """Of the whole episode. Raises `MalformedAnswer` where a language model judges and cannot be read."""
        return self.evaluator.judge(self.task, self.episode.transcript, seed=self.episode.stream)

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """Had the episode ended before its first turn, after it, and so on; the last is of the whole."""
        transcript = self.episode.transcript
        begun = (
            transcript.model_copy(update={"turns": transcript.turns[:turns], "report": None})
            for turns in range(len(transcript.turns))
        )
        before = (self.evaluator.judge(self.task, each, seed=self.episode.stream) for each in begun)
        return (*before, self.judgement)

    @cached_property
    def failures(self) -> tuple[StageFailure, ...]:
        """By the trace alone; none without an outcome."""
        return () if self.episode.outcome is None else find_failures(self.episode, self.task)

    @cached_property
    def hiding_commands(self) -> frozenset[int]:
        """Positions of commands that kept the evidence of a material failure off the terminal, by the trace."""
        material = (failure for failure in self.failures if failure.material)
        return frozenset(each.command for failure in material for each in failure.tries if each.suppressed)
