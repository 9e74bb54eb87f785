"""From a run folder to scores, with the evaluator and the rewards that the run was made with."""

import difflib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_of import Eyes, run_evaluator, run_tasks
from devnull.cli.runs.folder import read_episodes
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import find_task

Causes = Callable[[Episode, Task], dict[int, bool | None]]
"""The replay oracle's answers for one episode, by command position."""


def scores_of(path: Path, eyes: Eyes, causes: Causes | None = None) -> Iterator[Score]:
    """Scores of a run folder's episodes in the order they finished, without holding the episodes.

    Raises `InputError` where the folder, the evaluator's file or an episode's task is not there.
    """
    evaluator, tasks = Evaluator(run_evaluator(path, eyes)), run_tasks(path, eyes)
    for episode in read_episodes(path):
        task = find_task(episode.task, tasks)
        causal = causes(episode, task) if causes is not None and episode.outcome is not None else None
        yield score(episode, task, evaluator, causal)


def arm_of(text: str, eyes: Eyes) -> tuple[str, list[Score]]:
    """Scores of `RUN` or `RUN@ARM`. Raises `InputError` with the near name."""
    folder, at, arm = text.rpartition("@") if "@" in text and not Path(text).exists() else (text, "", "")
    scores = list(scores_of(Path(folder), eyes))
    if not at:
        return text, scores
    chosen = [score for score in scores if score.arm == arm]
    if not chosen:
        raise InputError(f"{folder}: no arm {arm!r}{near(arm, scores)}")
    return text, chosen


def near(arm: str, scores: list[Score]) -> str:
    """`; did you mean ...?`, or the arms that there are."""
    arms = sorted({score.arm for score in scores})
    close = difflib.get_close_matches(arm, arms, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(arms) or 'none'}"


def divergences(path: Path) -> dict[str, float]:
    """Arm to its divergence from its reference policy, for arms whose training logged one."""
    found = {}
    for file in sorted((path / "checkpoints").glob("*/training.json")):
        logged = json.loads(file.read_text()).get("metrics", {})
        if isinstance(logged.get("kl_episode"), int | float):
            found[file.parent.name] = float(logged["kl_episode"])
    return found
