"""Reads what a run keeps of the training of its policies: the trainer's log, and the episodes played for it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_scores import RunScorer
from devnull.eval.display.training_curves import PolicyTraining
from devnull.eval.scoring.score import Score

_EPISODES = "episodes"
"""Folder of a policy's training episodes; those of further processes are `episodes-1` and so on."""


def read_trainings(run: Path, scorer: RunScorer, prefix: str = "") -> list[PolicyTraining]:
    """Of each policy in a run's `checkpoints`, in the order of their names.

    Args:
        scorer: By whose belief the episodes are scored, whatever the policy learnt from.
        prefix: Before each name.
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
                batches=_read_batches(file.parent, scorer, record.get("settings", {})),
            )
        )
    return trainings


def _finite(entry: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value) for key, value in entry.items() if isinstance(value, int | float) and math.isfinite(value)
    }


def _read_batches(policy: Path, scorer: RunScorer, settings: Mapping[str, Any]) -> dict[int, list[Score]]:
    """Optimiser step to the scores of the episodes that were played for it."""
    folders = [each for each in sorted(policy.glob(f"{_EPISODES}*")) if each.name.removeprefix(_EPISODES)[1:].isdigit()]
    folders = [each for each in (policy / _EPISODES, *folders) if (each / "episodes.jsonl").exists()]
    size = settings.get("batch_size", 0) * settings.get("gradient_accumulation", 1) * len(folders)
    if not size:
        return {}
    batches: dict[int, list[Score]] = {}
    for folder in folders:
        for episode in read_episodes(folder):
            score = scorer.score(episode)
            if score is not None:
                batches.setdefault(episode.sample // size, []).append(score)  # `sample` counts on over the steps
    return batches
