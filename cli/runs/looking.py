"""Through whose eyes a run is looked at: its evaluator, and its tasks with their rewards."""

from dataclasses import dataclass
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_of import Eyes, run_evaluator, run_tasks
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.task import Task


@dataclass(frozen=True)
class Onlooker:
    """An evaluator that knows the tasks of a run."""

    evaluator: Evaluator
    tasks: dict[str, Task]

    def task(self, episode: Episode) -> Task | None:
        """`None` for an episode from elsewhere, whose task is not one of ours."""
        return self.tasks.get(episode.task)

    def score(self, episode: Episode) -> Score | None:
        task = self.task(episode)
        return None if task is None else score(episode, task, self.evaluator)


def eyes_of(run: Path, evaluator: Path | None = None) -> Onlooker:
    """The evaluator of a file, else the one that sees the terminal, as paranoid as the run's own."""
    eyes = Eyes(evaluator)
    return Onlooker(Evaluator(run_evaluator(run, eyes)), run_tasks(run, eyes))
