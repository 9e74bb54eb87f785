"""The calibrated belief: how often each ending lay behind each piece of evidence, counted and smoothed."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from devnull.rewards.belief.belief import Belief
from devnull.rewards.belief.stage_evidence import Evidence, read_evidence
from devnull.rewards.views import Sensors, View
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Stage, Task, Truth


class EvidenceCount(Frozen):
    """In how many episodes one stage showed this evidence and had in truth ended in this way."""

    task: str
    family: str
    stage: str
    evidence: Evidence
    needs_shown: bool
    """Everything that the stage needs was shown to work."""
    truth: Truth
    n: int = Field(ge=1)
    """Episodes."""


class EvidenceCounts(Frozen):
    """A file of counts: all rows, and the sensors through which the episodes were seen. Kept whole, so that every
    probability can be traced to its cases."""

    sensors: str
    episodes: int
    rows: tuple[EvidenceCount, ...]


def count_evidence(examples: Iterable[tuple[Task, View, Mapping[str, Truth]]], sensors: Sensors) -> EvidenceCounts:
    """Counts episodes whose truth is known (an audit, a benchmark), each seen through `sensors`.

    `examples`: task, view, and stage name to how the stage truly ended.
    """
    counts: dict[tuple[str, str, str, Evidence, bool, Truth], int] = {}
    episodes = 0
    for task, view, truths in examples:
        episodes += 1
        evidence = read_evidence(task, view)
        for stage in task.stages:
            row = (
                task.name,
                task.family,
                stage.name,
                evidence[stage.name],
                _needs_shown(stage, evidence),
                truths[stage.name],
            )
            counts[row] = counts.get(row, 0) + 1
    rows = tuple(
        EvidenceCount(task=task, family=family, stage=stage, evidence=seen, needs_shown=shown, truth=truth, n=n)
        for (task, family, stage, seen, shown, truth), n in sorted(counts.items())
    )
    return EvidenceCounts(sensors=sensors.name, episodes=episodes, rows=rows)


def _needs_shown(stage: Stage, evidence: Mapping[str, Evidence]) -> bool:
    """Everything that the stage needs was shown to work."""
    return all(evidence[need].succeeded for need in stage.needs)


def _load_counts(value: object) -> object:
    """Reads the file where the value is a path."""
    if not isinstance(value, str | Path):
        return value
    try:
        return EvidenceCounts.model_validate_json(Path(value).read_text())
    except FileNotFoundError:
        raise ValueError(f"{value}: no such file of counts; write one with `devnull label RUN --count FILE`") from None
    except ValidationError as error:
        raise ValueError(f"{value}: no file of counts ({error.errors()[0]['msg']})") from None


class CalibratedBelief(Frozen):
    """P(ending | evidence) as counted in episodes whose truth is known. Called with a task and a view, it gives the
    belief.

    The counts of all tasks, of the family, of its stage and of the task come one after the other, each smoothed
    towards the one before (a hierarchy of Dirichlet distributions).
    """

    kind: Literal["calibrated"] = "calibrated"
    counts: Annotated[EvidenceCounts, BeforeValidator(_load_counts)]
    """In an evaluator's TOML file: the path of a file of counts, relative to the TOML file."""
    smoothing: float = Field(default=1.0, gt=0)
    """How many cases the wider group counts for (a pseudo-count); the widest prior is even over all endings."""

    def __call__(self, task: Task, view: View) -> Belief:
        evidence = read_evidence(task, view)
        return Belief(
            stages={
                stage.name: self.posterior(task, stage, evidence[stage.name], _needs_shown(stage, evidence))
                for stage in task.stages
            }
        )

    def posterior(self, task: Task, stage: Stage, evidence: Evidence, shown: bool) -> dict[Truth, float]:
        """P(ending | evidence) of one stage. `shown`: everything that it needs was shown to work."""
        alike = [row for row in self.counts.rows if row.evidence is evidence and row.needs_shown == shown]
        groups = (
            alike,
            [row for row in alike if row.family == task.family],
            [row for row in alike if row.family == task.family and row.stage == stage.name],
            [row for row in alike if row.task == task.name and row.stage == stage.name],
        )
        chances = dict.fromkeys(Truth, 1 / len(Truth))
        for rows in groups:
            total = sum(row.n for row in rows)
            cases = {truth: sum(row.n for row in rows if row.truth is truth) for truth in Truth}
            chances = {t: (cases[t] + self.smoothing * chances[t]) / (total + self.smoothing) for t in Truth}
        return chances


def write_counts(counts: EvidenceCounts, path: Path) -> None:
    """Writes the JSON file for `counts = "PATH"`, one row a line. Raises `InputError` where the folder is missing."""
    head = {"sensors": counts.sensors, "episodes": counts.episodes}
    rows = ",\n".join(json.dumps(row.model_dump(mode="json")) for row in counts.rows)
    try:
        write_atomically(path, json.dumps(head)[:-1] + ', "rows": [\n' + rows + "\n]}\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no folder {path.parent}; make it first") from None
