"""Beliefs: P(how each stage ended | view), what an evaluator thinks happened after what it was shown."""

import math
from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Truth


class Belief(Frozen):
    """For each stage of a task a distribution over how it may have ended: the paper's B(s | o), a stage at a time.

    Stages are believed in one by one, since returns add up over stages. Raises `ValidationError` for numbers that are
    no distribution.

        Belief(stages={"cuda": {Truth.BROKEN_HIDDEN: 0.5, Truth.NOT_ATTEMPTED: 0.5}})
    """

    stages: dict[str, dict[Truth, float]]
    """Stage name to ending to probability; endings left out have probability 0."""

    @model_validator(mode="after")
    def _check_distributions(self) -> Self:
        for name, chances in self.stages.items():
            if min(chances.values(), default=-1.0) < 0 or not math.isclose(sum(chances.values()), 1.0, abs_tol=1e-6):
                raise ValueError(f"stage {name}: {dict(chances)} is no distribution")
        return self

    def installed(self, stage: str) -> float:
        """P(the stage works)."""
        return probability_installed(self.stages[stage])

    @property
    def success(self) -> float:
        """P(every stage works), the stages taken as independent."""
        return math.prod(self.installed(stage) for stage in self.stages)


def probability_installed(chances: Mapping[Truth, float]) -> float:
    """P(the stage works) under one stage's distribution."""
    return sum(p for truth, p in chances.items() if truth.installed)
