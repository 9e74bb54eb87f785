"""A claim as its TOML file states it: the sentence, the jobs and arms, the contrasts that decide, and the gates."""

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from devnull.eval.scoring.metrics import METRICS
from devnull.sandbox.errors import did_you_mean
from devnull.sandbox.frozen import Frozen

JobCommand = Literal["rollout", "label", "train sft", "train reward", "train dpo", "train kto", "train grpo"]
"""The `devnull` commands that a job may be."""
Setting = bool | int | float | str | list[Any] | dict[str, Any]
"""A value of a command's setting. In a string `@NAME` is what the job of that name made, and `{seed}` the training
seed."""
ENTROPY = "command_entropy"
"""The one metric of a contrast that is of an arm as a whole."""
_METRIC_NAMES = (*(metric.name for metric in METRICS), ENTROPY)


class JobSettings(Frozen, extra="allow"):
    """One `devnull` command: its name, and its settings as the command's own config file has them."""

    command: JobCommand | None = None
    """Left out: that of `like`, or of the recipe's job of this name."""
    like: str | None = None
    """Another job, whose command and settings it has unless it says otherwise."""

    @property
    def settings(self) -> dict[str, Setting]:
        """By the command's own key."""
        return dict(self.model_extra or {})


class ArmSettings(Frozen, extra="allow"):
    """A policy that is evaluated; other keys are settings of the rollout that does it."""

    policy: str | None = None
    """The job that trained it; by default the one of the arm's name. An arm with an `agent` has none."""
    kept_as: str | None = None
    """Of a rollout that keeps several arms (`best_of`) the one that is meant."""

    @property
    def settings(self) -> dict[str, Setting]:
        """Of the `rollout` that evaluates it."""
        return dict(self.model_extra or {})


class Contrast(Frozen, allow_inf_nan=False):
    """A weighted sum of metrics over arms, and what the claim predicts of it."""

    name: str
    """In a few words, as tables print it."""
    metric: str
    """Name of a metric; an arm may name its own: `"partial:fabrication_rate"`."""
    arms: dict[str, float] = Field(default_factory=dict)
    """Arm to weight: `{ partial = 1, sft = -1 }` is a difference, four arms are a difference of differences."""
    slope: dict[str, float] = Field(default_factory=dict)
    """In place of `arms`: arm to its value on a dial; the sum is the least-squares slope of the metric over it."""
    above: float | None = None
    """The prediction: the sum exceeds this margin."""
    within: float | None = Field(default=None, gt=0)
    """The prediction: the sum is nearer to 0 than this."""
    differs: bool = False
    """The prediction: the sum is not 0, to either side."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.arms) == bool(self.slope):
            raise ValueError("one of `arms` and `slope` is wanted")
        if (self.above is not None) + (self.within is not None) + self.differs != 1:
            raise ValueError("one of `above`, `within` and `differs` is wanted")
        if self.slope and len(set(self.slope.values())) < 2:
            raise ValueError("a slope wants two different values of the dial")
        for _, metric, _ in self.terms:
            if metric not in _METRIC_NAMES:
                raise ValueError(f"no metric {metric!r}{did_you_mean(metric, _METRIC_NAMES)}")
        return self

    @property
    def terms(self) -> list[tuple[str, str, float]]:
        """(Arm, metric, weight) of each addend."""
        return [
            (key.partition(":")[0], key.partition(":")[2] or self.metric, weight) for key, weight in self._weights()
        ]

    def _weights(self) -> list[tuple[str, float]]:
        if self.arms:
            return list(self.arms.items())
        mean = sum(self.slope.values()) / len(self.slope)
        square = sum((x - mean) ** 2 for x in self.slope.values())
        return [(arm, (x - mean) / square) for arm, x in self.slope.items()]

    @property
    def prediction(self) -> str:
        """`> 0.5`, `within ±0.1` or `≠ 0`."""
        if self.within is not None:
            return f"within ±{self.within:g}"
        return "≠ 0" if self.above is None else f"> {self.above:g}"


class JobGate(Frozen, allow_inf_nan=False):
    """What a job's own metrics must say before what builds on it means anything."""

    jobs: tuple[str, ...] = Field(min_length=1)
    """Those that are measured, each by itself."""
    metric: str
    """Of the job's `training.json`."""
    most: float | None = None
    """The greatest value that passes."""
    least: float | None = None
    """The smallest."""
    of_seeds: float = Field(default=1.0, gt=0, le=1)
    """Least share of the training seeds that must pass."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.most is None and self.least is None:
            raise ValueError("`most` or `least` is wanted")
        return self

    def passes(self, value: float | None) -> bool:
        """Whether one seed's value does; one that was not measured does not."""
        low, high = (-math.inf if self.least is None else self.least), (math.inf if self.most is None else self.most)
        return value is not None and low <= value <= high

    @property
    def wanted(self) -> str:
        """`≤ 0.03`, with the share of seeds where it is not all."""
        bounds = [f"{sign} {x:g}" for sign, x in (("≥", self.least), ("≤", self.most)) if x is not None]
        return " and ".join(bounds) + (f" on {self.of_seeds:.0%} of the seeds" if self.of_seeds < 1 else "")


class Gates(Frozen):
    """What every arm must pass, over all its seeds; a run that does not is void, whatever its contrasts."""

    valid: float = Field(default=0.97, ge=0, le=1)
    """Least share of messages that follow the action protocol."""
    failures: int = Field(default=20, ge=0)
    """Fewest episodes with a material failure."""
    errors: float = Field(default=0.01, ge=0, le=1)
    """Greatest share of episodes that an infrastructure failure ended."""
    attempts: dict[str, float] = Field(default_factory=dict)
    """Arm to the least share of its episodes that try the stage that may break."""
    kl: float | None = Field(default=None, gt=0)
    """Greatest divergence of a trained policy from its warm start, in nats an episode."""
    except_arms: tuple[str, ...] = ()
    """Arms that are let through: what they do is not what the claim is about."""
    jobs: tuple[JobGate, ...] = ()
    """What jobs must pass, such as reward models before a policy is trained on them."""


class ClaimFile(Frozen, allow_inf_nan=False):
    """One claim. Its name is the file's."""

    sentence: str
    """What is claimed, for people."""
    source: str = ""
    """Where it comes from: a theorem, a paper, a measurement."""
    refuted_by: str
    """What would refute it, for people."""
    caveat: str
    """What it does not say."""
    revision: int = Field(default=1, ge=1)
    """Raised by whoever edits a claim that was frozen."""
    missing: tuple[str, ...] = ()
    """Settings that no command has yet; as long as there are any, the claim cannot be run."""
    family: str
    """Tasks, as `rollout --tasks` takes them."""
    p_hide: float = Field(default=0.2, ge=0, le=1)
    """pH of the evaluator whose beliefs are measured, and of those that train unless a job says otherwise."""
    hiding_penalty: float = Field(default=4.0, ge=0)
    """r, what hiding a failure truly costs."""
    verbosity_cost: float | None = Field(default=None, ge=0)
    """What a long log of a success truly costs; by default as each task says."""
    judge: dict[str, Any] = Field(default_factory=dict)
    """The evaluator whose beliefs are measured, as an evaluator's TOML has it; by default one who sees the terminal."""
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14)
    """Training seeds. What 0 to 9 showed has changed the recipe since, so they judge nothing more."""
    episodes: int = Field(default=384, ge=2)
    """Held-out episodes of each arm and seed, over both builds."""
    dials: dict[str, list[bool | int | float | str]] = Field(default_factory=dict)
    """Name to values: a job or arm whose name holds `{name}` is made once for each."""
    jobs: dict[str, JobSettings] = Field(default_factory=dict)
    """What is run besides, or otherwise than, the recipe's own jobs."""
    arms: dict[str, ArmSettings]
    """Policies that are evaluated."""
    contrasts: tuple[Contrast, ...] = Field(min_length=1)
    """All must hold (intersection-union); the first is the primary one."""
    gates: Gates = Gates()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [contrast.name for contrast in self.contrasts]
        if len(set(names)) < len(names):
            raise ValueError("contrasts: two are of one name")
        return self

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) < 2 or len(set(seeds)) < len(seeds):
            raise ValueError("two or more different ones are wanted")
        return seeds
