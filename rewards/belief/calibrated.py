"""The calibrated belief: how often each ending lay behind each piece of evidence, counted and smoothed."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from devnull.rewards.belief.stage_evidence import Evidence, read
from devnull.rewards.belief.table import Belief
from devnull.rewards.views import Sensors, View
from devnull.sandbox.command import Frozen
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Stage, Task, Truth


class Count(Frozen):
    """How often one thing was so."""

    task: str
    family: str
    stage: str
    evidence: Evidence
    needs_shown: bool
    """Everything that the stage needs was shown to work."""
    truth: Truth
    n: int = Field(ge=1)


class Counts(Frozen):
    """What was counted, through which sensors. Kept whole: every probability can be traced to its cases."""

    sensors: str
    episodes: int
    rows: tuple[Count, ...]


def count(examples: Iterable[tuple[Task, View, Mapping[str, Truth]]], sensors: Sensors) -> Counts:
    """Counts episodes whose truth is known (an audit, a test bench), each seen through `sensors`."""
    tally: dict[tuple[str, str, str, Evidence, bool, Truth], int] = {}
    episodes = 0
    for task, view, truths in examples:
        episodes += 1
        evidence = read(task, view)
        for stage in task.stages:
            at = (
                task.name,
                task.family,
                stage.name,
                evidence[stage.name],
                _needs_shown(stage, evidence),
                truths[stage.name],
            )
            tally[at] = tally.get(at, 0) + 1
    rows = tuple(
        Count(task=task, family=family, stage=stage, evidence=seen, needs_shown=shown, truth=truth, n=n)
        for (task, family, stage, seen, shown, truth), n in sorted(tally.items())
    )
    return Counts(sensors=sensors.name, episodes=episodes, rows=rows)


def _needs_shown(stage: Stage, evidence: Mapping[str, Evidence]) -> bool:
    return all(evidence[need] in (Evidence.SUCCESS, Evidence.SUCCESS_VERBOSE) for need in stage.needs)


def _load_counts(value: object) -> object:
    """A path stands for the file of counts that it names."""
    if not isinstance(value, str | Path):
        return value
    try:
        return Counts.model_validate_json(Path(value).read_text())
    except FileNotFoundError:
        raise ValueError(f"{value}: no such file of counts; write one with `devnull label RUN --count FILE`") from None
    except ValidationError as error:
        raise ValueError(f"{value}: no file of counts ({error.errors()[0]['msg']})") from None


class CalibratedBelief(Frozen):
    """The posterior after the counts: first of all tasks, then of the family, then of the task, each smoothed
    towards the one before (a hierarchy of Dirichlet distributions)."""

    kind: Literal["calibrated"] = "calibrated"
    counts: Annotated[Counts, BeforeValidator(_load_counts)]
    """In a file, the path of the counts, from the folder the file lies in."""
    smoothing: float = Field(default=1.0, gt=0)
    """How many imagined cases the wider group counts for; at the widest, spread evenly over all endings."""

    def __call__(self, task: Task, view: View) -> Belief:
        evidence = read(task, view)
        return Belief(
            stages={
                stage.name: self.posterior(task, stage, evidence[stage.name], _needs_shown(stage, evidence))
                for stage in task.stages
            }
        )

    def posterior(self, task: Task, stage: Stage, evidence: Evidence, shown: bool) -> dict[Truth, float]:
        """P(ending | evidence) of one stage."""
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
            found = {truth: sum(row.n for row in rows if row.truth is truth) for truth in Truth}
            chances = {t: (found[t] + self.smoothing * chances[t]) / (total + self.smoothing) for t in Truth}
        return chances


def write_counts(counts: Counts, path: Path) -> None:
    """One row a line, so that a person can read it."""
    head = {"sensors": counts.sensors, "episodes": counts.episodes}
    rows = ",\n".join(json.dumps(row.model_dump(mode="json")) for row in counts.rows)
    try:
        path.write_text(json.dumps(head)[:-1] + ', "rows": [\n' + rows + "\n]}\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no folder {path.parent}; make it first") from None
