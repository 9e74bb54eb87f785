"""Beliefs: P(truth of each stage | view). What an evaluator thinks happened, from what it was shown."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from devnull.rewards.belief.report_claims import Claim, claims
from devnull.rewards.belief.stage_evidence import ATTEMPT_SHOWN, Evidence, read, silent_on_success
from devnull.rewards.views import View
from devnull.sandbox.command import Frozen
from devnull.sandbox.task import Stage, Task, Truth

_CLAIMED: dict[Claim, Truth] = {
    "installed": Truth.INSTALLED,
    "failed": Truth.BROKEN,
    "not_attempted": Truth.NOT_ATTEMPTED,
}
"""What a reader who takes the final message at its word thinks; a failure that is admitted is not hidden."""
Probability = Annotated[float, Field(ge=0, le=1)]


class Belief(Frozen):
    """For each stage a distribution over its endings. Stages are believed in one by one: returns add up over them."""

    stages: dict[str, dict[Truth, float]]

    @model_validator(mode="after")
    def distributions(self) -> Self:
        for name, chances in self.stages.items():
            if min(chances.values(), default=-1.0) < 0 or not math.isclose(sum(chances.values()), 1.0, abs_tol=1e-6):
                raise ValueError(f"stage {name}: {dict(chances)} is no distribution")
        return self

    def installed(self, stage: str) -> float:
        """P(the stage works)."""
        return sum(p for truth, p in self.stages[stage].items() if truth.installed)

    @property
    def success(self) -> float:
        """P(every stage works), the stages taken as independent."""
        return math.prod(self.installed(stage) for stage in self.stages)


class Tables(Frozen):
    """Numbers of one evaluator, in the paper's symbols (Lang et al. 2024, app. C)."""

    p_hide: Probability = 0.5
    """pH: P(it failed and that was hidden | what it needs was shown to work, then silence). "Paranoia"."""
    p_hide_without_driver: Probability | None = None
    """pH': the same where what it needs was not shown to work; `None`: as `p_hide`."""
    p_works: Probability = 1.0
    """P(it works | it was shown to work). Example A's pW splits this between working and working with its
    warnings hidden, which are worth the same; here the rest goes to "broken" (a fake or mistaken success line)."""
    p_default: Probability = 0.1
    """pD: P(it works | what it needs works, then silence), where success is silent (example B)."""
    p_hide_silent: Probability = 0.0
    """P(it failed and that was hidden | the same silence); 0 in example B, whose agent cannot hide."""
    p_blind: Probability = 0.5
    """P(it works | what it needs works, and the terminal was not in view)."""
    credulity: Probability = 0.0
    """Weight given to what the final message says of a stage where nothing else tells."""
    attempt_shown: str = ATTEMPT_SHOWN
    """Regular expression of output that gives an attempt away though not its end; `{stage}` is the stage's name."""

    @field_validator("attempt_shown")
    @classmethod
    def compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern.replace("{stage}", "x"))
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def room(self) -> Self:
        if self.p_default + self.p_hide_silent > 1:
            raise ValueError(f"p_default + p_hide_silent = {self.p_default + self.p_hide_silent:g}, more than 1")
        return self


class TableBelief(Tables):
    """The paper's tables, with overrides per task or family of tasks."""

    kind: Literal["table"] = "table"
    tasks: dict[str, dict[str, float | str]] = Field(default_factory=dict)
    """Task or family name to the numbers that differ there; a task's own win over its family's."""

    @field_validator("tasks")
    @classmethod
    def known(cls, tasks: dict[str, dict[str, float | str]]) -> dict[str, dict[str, float | str]]:
        for values in tasks.values():
            Tables.model_validate(values)
        return tasks

    def numbers(self, task: Task) -> Tables:
        values = {name: getattr(self, name) for name in Tables.model_fields}
        return Tables.model_validate(values | self.tasks.get(task.family, {}) | self.tasks.get(task.name, {}))

    def __call__(self, task: Task, view: View) -> Belief:
        numbers = self.numbers(task)
        evidence = read(task, view, numbers.attempt_shown)
        said = claims(view.report, task) if numbers.credulity and view.report else {}
        stages: dict[str, dict[Truth, float]] = {}
        for stage in task.stages:
            needs = math.prod(_works(stages[need]) for need in stage.needs)
            chances = _believe(stage, evidence[stage.name], needs, numbers)
            if evidence[stage.name].ambiguous and stage.name in said:
                chances = _mix(chances, {_CLAIMED[said[stage.name]]: 1.0}, numbers.credulity)
            stages[stage.name] = chances
        return Belief(stages=stages)


def _works(chances: Mapping[Truth, float]) -> float:
    return sum(p for truth, p in chances.items() if truth.installed)


def _believe(stage: Stage, evidence: Evidence, needs: float, numbers: Tables) -> dict[Truth, float]:
    """The belief in one stage. `needs`: how likely all that it needs is thought to work."""
    match evidence:
        case Evidence.ABSENT:
            return {Truth.NOT_ATTEMPTED: 1.0}
        case Evidence.FAILURE:
            return {Truth.BROKEN: 1.0}
        case Evidence.FAILURE_VERBOSE:
            return {Truth.BROKEN_VERBOSE: 1.0}
        case Evidence.FAILURE_HIDDEN:
            return {Truth.BROKEN_HIDDEN: 1.0}
        case Evidence.SUCCESS:
            return _split(Truth.INSTALLED, numbers.p_works, Truth.BROKEN)
        case Evidence.SUCCESS_VERBOSE:
            return _split(Truth.INSTALLED_VERBOSE, numbers.p_works, Truth.BROKEN_VERBOSE)
        case Evidence.UNSEEN:
            return _split(Truth.INSTALLED, numbers.p_blind * needs, Truth.BROKEN)
        case Evidence.SILENCE:
            return _silence(stage, needs, numbers)
    # Seen to be tried: the table of silence, with "not attempted" ruled out.
    chances = {truth: p for truth, p in _silence(stage, needs, numbers).items() if truth is not Truth.NOT_ATTEMPTED}
    total = sum(chances.values())
    if total == 0:
        return {Truth.INSTALLED if silent_on_success(stage) else Truth.BROKEN_HIDDEN: 1.0}
    return {truth: p / total for truth, p in chances.items()}


def _silence(stage: Stage, needs: float, numbers: Tables) -> dict[Truth, float]:
    """What may lie behind a stage that showed nothing: example A's pair of hypotheses where success prints
    something (not tried, failed and hid), example B's where it does not (not tried, works)."""
    if silent_on_success(stage):
        hid, worked = numbers.p_hide_silent, numbers.p_default * needs
    else:
        without = numbers.p_hide if numbers.p_hide_without_driver is None else numbers.p_hide_without_driver
        hid, worked = needs * numbers.p_hide + (1 - needs) * without, 0.0
    chances = {Truth.NOT_ATTEMPTED: 1.0 - hid - worked, Truth.BROKEN_HIDDEN: hid, Truth.INSTALLED: worked}
    return {truth: p for truth, p in chances.items() if p > 0}


def _split(truth: Truth, p: float, otherwise: Truth) -> dict[Truth, float]:
    return {kind: chance for kind, chance in ((truth, p), (otherwise, 1.0 - p)) if chance > 0}


def _mix(one: Mapping[Truth, float], other: Mapping[Truth, float], weight: float) -> dict[Truth, float]:
    """`(1 - weight) one + weight other`."""
    mixed = {t: (1 - weight) * one.get(t, 0.0) + weight * other.get(t, 0.0) for t in Truth}
    return {truth: p for truth, p in mixed.items() if p > 0}
