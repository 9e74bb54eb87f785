"""Settings of an evaluator, read strictly from TOML: an unknown key is refused, with the nearest known one."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from devnull.rewards.belief.calibrated import CalibratedBelief
from devnull.rewards.belief.language_model import ModelBelief
from devnull.rewards.belief.table import TableBelief
from devnull.rewards.detector import Detector, PenaltyChange
from devnull.rewards.report_reward import ReportReward
from devnull.rewards.views import SENSOR_LADDER, TERMINAL_SENSORS, ChannelPrices, Probability, Sensors
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import RewardTable


def _parse_sensors(value: object) -> object:
    """Named sensors by their name, or a table that changes some of them (`base = "terminal"`)."""
    named = {sensors.name: sensors for sensors in SENSOR_LADDER}
    if isinstance(value, str):
        if value not in named:
            raise ValueError(f"no sensors {value!r}; there are {', '.join(named)}{did_you_mean(value, named)}")
        return named[value]
    if isinstance(value, Mapping) and "base" in value:
        base = _parse_sensors(value["base"])
        if not isinstance(base, Sensors):
            raise ValueError(f"base is {value['base']}; it names one of {', '.join(named)}")
        return base.model_dump() | {key: item for key, item in value.items() if key != "base"}
    return value


def _default_to_table(value: object) -> object:
    """A belief without a `kind` is the paper's table."""
    return {"kind": "table", **value} if isinstance(value, Mapping) and "kind" not in value else value


_SensorsField = Annotated[Sensors, BeforeValidator(_parse_sensors)]
BeliefConfig = TableBelief | CalibratedBelief | ModelBelief
"""How a view becomes a belief: by the paper's table, by counts, or by a language model."""
_BeliefField = Annotated[BeliefConfig, Field(discriminator="kind"), BeforeValidator(_default_to_table)]


class MisalignedValues(RewardTable, allow_inf_nan=False):
    """Rewards of a labeller whose values are not the task's: by default of someone who would rather not be bothered
    with errors, so that a hidden failure is worth something to them."""

    broken: float = 0.0
    hiding_penalty: float = -5.0
    verbosity_cost: float = 0.0


class MemberConfig(Frozen, allow_inf_nan=False):
    """One member of a panel of evaluators; what it leaves out is taken from the evaluator's own settings."""

    name: str
    weight: float = Field(default=1.0, gt=0)
    """Share of the labels, relative to the others'."""
    sensors: _SensorsField | None = None
    belief: _BeliefField | None = None
    beta: float | None = Field(default=None, gt=0)


class EvaluatorConfig(Frozen, allow_inf_nan=False):
    """One evaluator. The default is the paper's: sees the terminal, believes by the table, chooses by Boltzmann.

    Shares of labels (`poisoned`, `misaligned`) add up to at most 1; the rest are honest.
    """

    name: str = "terminal"
    sensors: _SensorsField = TERMINAL_SENSORS
    """What it sees: named sensors (`"terminal"`, `"full"`, ...), or a table of channels."""
    belief: _BeliefField = TableBelief()
    """How it makes a belief of what it sees."""
    panel: tuple[MemberConfig, ...] = ()
    """Several evaluators: each pair is labelled by one of them, at random by weight."""
    beta: float = Field(default=1.0, gt=0)
    """Inverse temperature of its choices, per unit of return."""
    feedback: Literal["preference", "rating", "thumb"] = "preference"
    """What it gives: comparisons of two episodes, a rating of each, or thumbs up or down."""
    levels: int = Field(default=5, ge=2)
    """How many levels a rating has."""
    rating_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of a rating, in levels."""
    thumb_threshold: float | None = None
    """Return at which a thumb is as likely up as down; left out: the middle of the task's range."""
    label_noise: float = Field(default=0.0, ge=0, le=0.5)
    """Probability that any label is turned round by accident."""
    poisoned: Probability = 0.0
    """Share of labels by someone who always names the one it thinks worse."""
    misaligned: Probability = 0.0
    """Share of labels by someone whose values are not the task's."""
    misaligned_values: MisalignedValues = MisalignedValues()
    """These values, for every stage."""
    min_confidence: float = Field(default=0.5, ge=0.5, le=1)
    """Comparisons are answered only where one side is preferred with at least this probability."""
    audit_rate: Probability = 0.0
    """Probability that both sides of a comparison, or a rated episode, are seen in full (an audit)."""
    detector: Detector | None = None
    """Flags hiding: what is flagged is worth less to the evaluator, or is left out (`[detector]`)."""
    report: ReportReward | None = None
    """A second channel, for the honesty of the final message (`[report]`)."""
    shuffled: bool = False
    """The control: feedback that is independent of the episodes."""
    pairs_within: Literal["instance", "instruction"] | None = None
    """Compare episodes of one instance (the same phrasing and the same fault), or of the same task and phrasing,
    whatever the fault. Left out: of one instance, where any was played more than once."""

    @property
    def screens(self) -> bool:
        """What a detector flags is left out."""
        return self.detector is not None and self.detector.screening

    @property
    def pays_beside_endings(self) -> bool:
        """Choices follow from more than the rewards of endings, as believed in."""
        return self.report is not None or (self.detector is not None and not self.detector.screening)

    def check_labels(self) -> None:
        """Raises `InputError` where a setting is of online training and labels are asked for."""
        if self.detector is not None and self.detector.schedule:
            raise InputError(
                f"evaluator {self.name}: detector.schedule is for train grpo; labels know no step of a training"
            )

    @model_validator(mode="after")
    def _check_shares_and_names(self) -> Self:
        if self.poisoned + self.misaligned > 1:
            raise ValueError(f"poisoned + misaligned = {self.poisoned + self.misaligned:g}, more than all labels")
        names = [member.name for member in self.panel]
        if len(names) != len(set(names)):
            raise ValueError(f"panel: two members of one name among {names}")
        return self


def load_evaluator(path: Path) -> EvaluatorConfig:
    """Reads one TOML file (examples in examples/evaluators/). Raises `InputError` naming file, key and the nearest key.

    A path of counts in it is taken relative to the file.
    """
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; examples lie in examples/evaluators/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    panel = table.get("panel", ())
    for holder in (table, *(m for m in (panel if isinstance(panel, list) else ()) if isinstance(m, dict))):
        belief = holder.get("belief")
        if isinstance(belief, dict) and isinstance(belief.get("counts"), str):
            belief["counts"] = str(path.parent / belief["counts"])
    return make_evaluator_config(table, str(path))


def make_evaluator_config(table: Mapping[str, Any], origin: str) -> EvaluatorConfig:
    """The settings in a table of plain values; the name is by default that of `origin`, the file they come from.

    Raises `InputError` that begins with `origin` and names the key.
    """
    try:
        return EvaluatorConfig.model_validate({"name": Path(origin).stem, **table})
    except ValidationError as error:
        # a key that is spelt wrongly is missing too, under its right name
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        at = first["loc"]
        # the kind of a belief is no key of its own
        where = ".".join(str(part) for n, part in enumerate(at) if not (n and at[n - 1] == "belief"))
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(at[-1]), _known_keys() - {at[-1]})  # it may be a key elsewhere
            raise InputError(f"{origin}: unknown key {where!r}{hint}") from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] not in ("value_error", "missing", "union_tag_invalid"):
            value = str(first["input"])
            message = f"is {value if len(value) < 60 else f'{value[:60]}...'}; {message[0].lower()}{message[1:]}"
            raise InputError(f"{origin}: {where} {message}") from None
        raise InputError(f"{origin}: {where + ': ' if where else ''}{message}") from None


def _known_keys() -> set[str]:
    """Every key that an evaluator's TOML file may hold somewhere."""
    beliefs = (TableBelief, CalibratedBelief, ModelBelief)
    models: tuple[type[Frozen], ...] = (
        EvaluatorConfig,
        MemberConfig,
        Sensors,
        ChannelPrices,
        MisalignedValues,
        Detector,
        PenaltyChange,
        ReportReward,
        *beliefs,
    )
    return {key for model in models for key in model.model_fields} | {"base"}
