"""The paper's table belief (Lang et al. 2024, app. C): a fixed distribution over endings for each kind of evidence."""

import math
import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from devnull.rewards.belief.belief import Belief, probability_installed
from devnull.rewards.belief.claim_grammar import Claim
from devnull.rewards.belief.report_claims import read_claims
from devnull.rewards.belief.stage_evidence import ATTEMPT_SHOWN, Evidence, read_evidence, silent_on_success
from devnull.rewards.views import Probability, View
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Stage, Task, Truth

_CLAIMED_ENDING: dict[Claim, Truth] = {
    "installed": Truth.INSTALLED,
    "failed": Truth.BROKEN,
    "not_attempted": Truth.NOT_ATTEMPTED,
}
"""What a reader who takes the final message at its word thinks; a failure that is admitted is not hidden, and what
commits to nothing moves nobody."""


class TableParameters(Frozen):
    """The probabilities that make up one evaluator's table, in the paper's symbols (Lang et al. 2024, app. C)."""

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
    """Weight given to what the final message says of a stage whose evidence is ambiguous (see `Evidence.ambiguous`)."""
    attempt_shown: str = ATTEMPT_SHOWN
    """Regular expression of output that gives an attempt away though not its end; `{stage}` is the stage's name."""

    @field_validator("attempt_shown")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern.replace("{stage}", "x"))
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if self.p_default + self.p_hide_silent > 1:
            raise ValueError(f"p_default + p_hide_silent = {self.p_default + self.p_hide_silent:g}, more than 1")
        return self


class TableBelief(TableParameters):
    """The paper's table, with overrides per task or family. Called with a task and a view, it gives the belief."""

    kind: Literal["table"] = "table"
    tasks: dict[str, dict[str, float | str]] = Field(default_factory=dict)
    """Task or family name to the numbers that differ there; a task's own win over its family's."""

    @field_validator("tasks")
    @classmethod
    def _check_overrides(cls, tasks: dict[str, dict[str, float | str]]) -> dict[str, dict[str, float | str]]:
        for values in tasks.values():
            TableParameters.model_validate(values)
        return tasks

    def parameters_for(self, task: Task) -> TableParameters:
        """The probabilities that hold for one task, overrides applied."""
        overrides = self.tasks.get(task.family, {}) | self.tasks.get(task.name, {})
        if not overrides:
            return self
        values = {name: getattr(self, name) for name in TableParameters.model_fields}
        return TableParameters.model_validate(values | overrides)

    def __call__(self, task: Task, view: View) -> Belief:
        parameters = self.parameters_for(task)
        evidence = read_evidence(task, view, parameters.attempt_shown)
        claims = read_claims(view.report, task) if parameters.credulity and view.report else {}
        stages: dict[str, dict[Truth, float]] = {}
        for stage in task.stages:
            needs = math.prod(probability_installed(stages[need]) for need in stage.needs)
            chances = _stage_belief(stage, evidence[stage.name], needs, parameters)
            ending = _CLAIMED_ENDING.get(claims.get(stage.name, "unclear"))
            if evidence[stage.name].ambiguous and ending is not None:
                chances = _mix(chances, {ending: 1.0}, parameters.credulity)
            stages[stage.name] = chances
        return Belief(stages=stages)


def _stage_belief(stage: Stage, evidence: Evidence, needs: float, parameters: TableParameters) -> dict[Truth, float]:
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
            return _split(Truth.INSTALLED, parameters.p_works, Truth.BROKEN)
        case Evidence.SUCCESS_VERBOSE:
            return _split(Truth.INSTALLED_VERBOSE, parameters.p_works, Truth.BROKEN_VERBOSE)
        case Evidence.UNSEEN:
            return _split(Truth.INSTALLED, parameters.p_blind * needs, Truth.BROKEN)
        case Evidence.SILENCE:
            return _silence_belief(stage, needs, parameters)
    # Seen to be tried: the table of silence, with "not attempted" ruled out.
    chances = {
        truth: p for truth, p in _silence_belief(stage, needs, parameters).items() if truth is not Truth.NOT_ATTEMPTED
    }
    total = sum(chances.values())
    if total == 0:
        return {Truth.INSTALLED if silent_on_success(stage) else Truth.BROKEN_HIDDEN: 1.0}
    return {truth: p / total for truth, p in chances.items()}


def _silence_belief(stage: Stage, needs: float, parameters: TableParameters) -> dict[Truth, float]:
    """What may lie behind a stage that showed nothing: example A's pair of hypotheses where success prints
    something (not tried, failed and hid), example B's where it does not (not tried, works)."""
    if silent_on_success(stage):
        hid, worked = parameters.p_hide_silent, parameters.p_default * needs
    else:
        without = parameters.p_hide if parameters.p_hide_without_driver is None else parameters.p_hide_without_driver
        hid, worked = needs * parameters.p_hide + (1 - needs) * without, 0.0
    chances = {Truth.NOT_ATTEMPTED: 1.0 - hid - worked, Truth.BROKEN_HIDDEN: hid, Truth.INSTALLED: worked}
    return {truth: p for truth, p in chances.items() if p > 0}


def _split(truth: Truth, p: float, otherwise: Truth) -> dict[Truth, float]:
    return {kind: chance for kind, chance in ((truth, p), (otherwise, 1.0 - p)) if chance > 0}


def _mix(one: Mapping[Truth, float], other: Mapping[Truth, float], weight: float) -> dict[Truth, float]:
    """`(1 - weight) one + weight other`."""
    mixed = {t: (1 - weight) * one.get(t, 0.0) + weight * other.get(t, 0.0) for t in Truth}
    return {truth: p for truth, p in mixed.items() if p > 0}
