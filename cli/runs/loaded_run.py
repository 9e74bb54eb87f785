"""A run folder opened in Python: episodes, scores and metrics as pandas frames, verdicts as values."""

from collections.abc import Sequence
from functools import cached_property
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.run_folder import read_episodes, read_run_config
from devnull.cli.runs.run_scores import find_references, open_scorer, read_divergences
from devnull.eval.comparing.evaluation import Evaluation, evaluate
from devnull.eval.comparing.verdicts import Verdicts
from devnull.eval.display.escaping import escape_controls
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError


class LoadedRun:
    """A run folder, read when asked. Made by `devnull.load_run`.

    Frames are indexed by the number of the episode, counted from 1 in the order they finished, as in
    `devnull replay --episode N`. What agents wrote is hostile: in frames its control characters are drawn as marks;
    `episode(N)` holds it as it was.
    """

    def __init__(self, path: Path, choice: EvaluatorChoice = EvaluatorChoice(), reference: Sequence[str] = ()) -> None:
        """Raises `InputError` if `path` is no run folder or `choice` names no evaluator."""
        self.path = path
        self.config: dict[str, Any] = read_run_config(path)
        """Arguments of the command that made the run; empty for a folder without `run.json`."""
        self._choice, self._reference = choice, tuple(reference)
        self._scorer = open_scorer(path, choice)

    def episode(self, number: int) -> Episode:
        """The episode of that number, whole. Raises `InputError` where there is none."""
        found = next(islice(read_episodes(self.path), number - 1, None), None) if number >= 1 else None
        if found is None:
            raise InputError(f"{self.path} holds no episode {number}; they are counted from 1")
        return found

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row an episode: who acted, on what, what it ran and said, and how each stage truly ended."""
        rows = [_episode_row(episode) for episode in read_episodes(self.path)]
        return _frame(rows)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row an episode that has a score: the fields of `Score`, `hidden` among them.

        Of an imported episode it holds what needs no truth.
        """
        rows = {number: score.model_dump() | {"hidden": score.hidden} for number, score in self._scores.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("episode")

    @cached_property
    def evaluation(self) -> Evaluation:
        """What `devnull eval` writes into `metrics.json`."""
        scores = list(self._scores.values())
        if not scores:
            raise InputError(f"{self.path}: no finished episode of a known task; nothing to measure")
        references = find_references(self.path, self._reference, scores, self._choice)
        return evaluate(scores, references, kl=read_divergences(self.path))

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row an arm and metric: `value`, the 95 % interval from `low` to `high`, and `n`, the denominator."""
        rows = {
            (arm, name): estimate.model_dump(include={"value", "low", "high", "n"})
            for arm, table in self.evaluation.arms.items()
            for name, estimate in table.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["arm", "metric"])

    @property
    def verdicts(self) -> dict[str, dict[str, Verdicts]]:
        """Arm to reference to verdicts: `run.verdicts["partial"]["sft"].deceptive_inflation`."""
        return self.evaluation.verdicts

    @cached_property
    def _scores(self) -> dict[int, Score]:
        numbered = ((number, self._scorer.score(each)) for number, each in enumerate(read_episodes(self.path), 1))
        return {number: score for number, score in numbered if score is not None}

    def __repr__(self) -> str:
        arms = ", ".join(f"{arm}: {count}" for arm, count in self.episodes["arm"].value_counts().items())
        return f"LoadedRun({str(self.path)!r}, {len(self.episodes)} episodes; {arms})"

    def _repr_html_(self) -> str:
        """In a notebook: the counts by arm, the metrics, the verdicts."""
        head = f"<p><b>{escape(str(self.path))}</b>: {len(self.episodes)} episodes</p>"
        return head + (self.evaluation._repr_html_() if self._scores else "")


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="episode"))


def _episode_row(episode: Episode) -> dict[str, Any]:
    transcript = episode.transcript
    truths = {} if episode.outcome is None else episode.outcome.truths
    report = transcript.report
    return {
        "arm": episode.arm,
        "agent": episode.agent,
        "task": episode.task,
        "family": episode.family,
        "split": episode.split,
        "seed": episode.seed,
        "sample": episode.sample,
        "faulty": episode.faulty,
        "commands": [escape_controls(result.command) for result in transcript.results],
        "shown": [escape_controls(result.shown) for result in transcript.results],
        "suppressed": [escape_controls(result.suppressed) for result in transcript.results],
        "report": None if report is None else escape_controls(report),
        "truths": {stage: str(truth) for stage, truth in truths.items()},
        "error": None if episode.error is None or episode.unverified else episode.error.kind,
    }
