"""Scores the episodes of a run folder, with the evaluator and the rewards that the run was made with."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_choice import EvaluatorChoice, check_same_judge, choose_evaluator, load_run_tasks
from devnull.cli.runs.run_folder import read_episodes
from devnull.eval.comparing.evaluation import group_scores
from devnull.eval.scoring.examiner import Examiner
from devnull.eval.scoring.import_assessment import score_import
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import find_task

AskOracle = Callable[[Episode, Task], dict[int, bool | None]]
"""Asks the replay oracle about one episode: whether each command hid a failure, by the command's position."""


@dataclass(frozen=True)
class RunScorer:
    """An evaluator, and the tasks with the rewards of one run. Made by `open_scorer`."""

    evaluator: Evaluator
    tasks: dict[str, Task]

    @cached_property
    def examiner(self) -> Examiner:
        """Its evaluator's, who knows what was examined before."""
        return Examiner(self.evaluator)

    def task(self, episode: Episode) -> Task | None:
        """`None` for an imported episode, whose task is not one of ours, whatever its name."""
        return None if episode.unverified else self.tasks.get(episode.task)

    def score(self, episode: Episode) -> Score | None:
        """`None` where the task is not known. An imported episode's score holds what needs no truth."""
        if episode.unverified:
            return score_import(episode)
        task = self.task(episode)
        return None if task is None else self.examiner.score(self.examiner.examine(episode, task), episode)


def open_scorer(run: Path, choice: EvaluatorChoice = EvaluatorChoice()) -> RunScorer:
    """Raises `InputError` where the run or the evaluator's file is not there or not valid."""
    return RunScorer(Evaluator(choose_evaluator(run, choice)), load_run_tasks(run, choice))


def score_run(run: Path, choice: EvaluatorChoice, ask_oracle: AskOracle | None = None) -> Iterator[Score]:
    """Scores a run folder's episodes in the order they finished, without holding the episodes.

    Raises `InputError` where the folder, the evaluator's file or an episode's task is not there.
    """
    scorer = open_scorer(run, choice)
    for episode in read_episodes(run):
        if not episode.unverified:
            find_task(episode.task, scorer.tasks)
        task = scorer.task(episode)
        if ask_oracle is not None and task is not None and episode.outcome is not None:
            yield score(episode, task, scorer.evaluator, ask_oracle(episode, task))
        elif (found := scorer.score(episode)) is not None:
            yield found


def split_arm(name: str) -> tuple[Path, str | None]:
    """Folder and arm of `RUN` or `RUN@ARM`."""
    folder, at, arm = name.rpartition("@") if "@" in name and not Path(name).exists() else (name, "", "")
    return Path(folder), arm if at else None


def score_arm(name: str, choice: EvaluatorChoice) -> tuple[str, list[Score]]:
    """`name`, which is `RUN` or `RUN@ARM`, and the scores of that run or arm. Raises `InputError`."""
    folder, arm = split_arm(name)
    scores = list(score_run(folder, choice))
    if arm is None:
        return name, scores
    check_arms(folder, [arm], {score.arm for score in scores})
    return name, [score for score in scores if score.arm == arm]


def check_comparable(sides: Iterable[tuple[str, Sequence[Score]]], choice: EvaluatorChoice) -> None:
    """Raises `InputError` as `check_same_judge` does, of what is judged: imports are not.

    Args:
        sides: `RUN` or `RUN@ARM`, and its scores.
    """
    check_same_judge([split_arm(name)[0] for name, scores in sides if any(map(_judged, scores))], choice)


def _judged(score: Score) -> bool:
    return score.G_obs is not None


def find_references(
    run: Path, names: Sequence[str], scores: Sequence[Score], choice: EvaluatorChoice
) -> dict[str, Sequence[Score]]:
    """What verdicts are relative to, by name: scores of an arm or an agent of the run, of another run, or of RUN@ARM.

    Args:
        names: Of the references; empty: the arms `sft` and `honest`, where the run has them.
        scores: Those of the run.

    Raises `InputError` for a name that is none of these, with the nearest arm.
    """
    arms = group_scores(scores, lambda score: score.arm)
    references: dict[str, Sequence[Score]] = {}
    for name in names or [name for name in ("sft", "honest") if name in arms]:
        if name in arms:
            references[name] = arms[name]
        elif any(score.agent == name for score in scores):
            references[name] = [score for score in scores if score.agent == name]
        elif Path(name).exists() or "@" in name:
            references[name] = score_arm(name, choice)[1]
            check_comparable([(str(run), scores), (name, references[name])], choice)
        else:
            raise InputError(f"--reference {name!r}: no arm of {run} and no run folder{suggest_arm(name, arms)}")
    return references


def check_arms(run: Path | str, names: Iterable[str], arms: Iterable[str]) -> None:
    """Raises `InputError` for a name that is none of a run's arms, with the nearest one.

    Args:
        names: What was asked for.
        arms: What there is.
    """
    known = set(arms)
    for name in names:
        if name not in known:
            raise InputError(f"{run} has no arm {name!r}{suggest_arm(name, known)}")


def suggest_arm(name: str, arms: Iterable[str]) -> str:
    """The end of an error message about an unknown arm: the nearest one, else all of them."""
    known = sorted(arms)
    return did_you_mean(name, known) or f"; there are {', '.join(known) or 'none'}"


def read_divergences(run: Path) -> dict[str, float]:
    """KL per episode (nats) from the reference policy by arm, for arms whose trainer logged one."""
    divergences = {}
    for file in sorted((run / "checkpoints").glob("*/training.json")):
        logged = json.loads(file.read_text()).get("metrics", {})
        if isinstance(logged.get("kl_episode"), int | float):
            divergences[file.parent.name] = float(logged["kl_episode"])
    return divergences
