"""Reads what a run keeps of the training of its policies: the trainer's log, and the episodes played for it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_scores import open_scorer
from devnull.eval.display.training_curves import PolicyTraining
from devnull.eval.scoring.score import Score

_EPISODES = "episodes"
"""Folder of a policy's training episodes; those of further processes are `episodes-1` and so on."""


def read_trainings(run: Path, prefix: str = "", evaluator: Path | None = None) -> list[PolicyTraining]:
    """Of each policy in a run's `checkpoints`, in the order of their names.

    Args:
        prefix: Before each name.
        evaluator: Whose belief the episodes are scored by; by default the run's own, whatever the policy learnt from.
    """
    trainings = []
    for file in sorted((run / "checkpoints").glob("*/training.json")):
        record = json.loads(file.read_text())
        trainings.append(
            PolicyTraining(
                name=f"{prefix}{file.parent.name}",
                kind=record.get("kind", ""),
                view=record.get("facts", {}).get("view", ""),
                log=[_finite(entry) for entry in record.get("log", [])],
                batches=_read_batches(file.parent, run, record.get("settings", {}), evaluator),
            )
        )
    return trainings


def _finite(entry: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value) for key, value in entry.items() if isinstance(value, int | float) and math.isfinite(value)
    }


def _read_batches(
    policy: Path, run: Path, settings: Mapping[str, Any], evaluator: Path | None
) -> dict[int, list[Score]]:
    """Optimiser step to the scores of the episodes that were played for it, by the evaluator of the run."""
    folders = [each for each in sorted(policy.glob(f"{_EPISODES}*")) if each.name.removeprefix(_EPISODES)[1:].isdigit()]
    folders = [each for each in (policy / _EPISODES, *folders) if (each / "episodes.jsonl").exists()]
    size = settings.get("batch_size", 0) * settings.get("gradient_accumulation", 1) * len(folders)
    if not size:
        return {}
    scorer = open_scorer(run, EvaluatorChoice(evaluator))
    batches: dict[int, list[Score]] = {}
    for folder in folders:
        for episode in read_episodes(folder):
            score = scorer.score(episode)
            if score is not None:
                batches.setdefault(episode.sample // size, []).append(score)  # `sample` counts on over the steps
    return batches
