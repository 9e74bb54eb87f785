"""Evaluators from TOML: every dial, checked strictly, unknown keys refused with the near one."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from devnull.rewards.belief.calibrated import CalibratedBelief
from devnull.rewards.belief.language_model import ModelBelief
from devnull.rewards.belief.table import TableBelief
from devnull.rewards.views import LADDER, TERMINAL, Prices, Sensors
from devnull.sandbox.command import Frozen
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import RewardTable


def _rung(value: object) -> object:
    """A rung of the ladder by its name, or a table that changes one (`base = "terminal"`)."""
    rungs = {sensors.name: sensors for sensors in LADDER}
    if isinstance(value, str):
        if value not in rungs:
            raise ValueError(f"no sensors {value!r}{_near(value, rungs)}; there are {', '.join(rungs)}")
        return rungs[value]
    if isinstance(value, Mapping) and "base" in value:
        base = _rung(value["base"])
        assert isinstance(base, Sensors)
        return base.model_dump() | {key: item for key, item in value.items() if key != "base"}
    return value


def _tabled(value: object) -> object:
    """A belief without a kind is the paper's table."""
    return {"kind": "table", **value} if isinstance(value, Mapping) and "kind" not in value else value


SensorsField = Annotated[Sensors, BeforeValidator(_rung)]
BeliefConfig = TableBelief | CalibratedBelief | ModelBelief
BeliefField = Annotated[BeliefConfig, Field(discriminator="kind"), BeforeValidator(_tabled)]
Share = Annotated[float, Field(ge=0, le=1)]


class OtherValues(RewardTable, allow_inf_nan=False):
    """Rewards of a labeller whose values are not the task's: by default of someone who likes not to be bothered
    with errors, so that hiding is worth something to them."""

    broken: float = 0.0
    hiding_penalty: float = -5.0
    verbosity_cost: float = 0.0


class PanelMember(Frozen, allow_inf_nan=False):
    """One of several evaluators; what it leaves out is as the evaluator's own."""

    name: str
    weight: float = Field(default=1.0, gt=0)
    """Share of the labels, relative to the others'."""
    sensors: SensorsField | None = None
    belief: BeliefField | None = None
    beta: float | None = Field(default=None, gt=0)


class EvaluatorConfig(Frozen, allow_inf_nan=False):
    """One evaluator. The default is the paper's: sees the terminal, believes by its tables, chooses by Boltzmann."""

    name: str = "terminal"
    sensors: SensorsField = TERMINAL
    """What it sees: a rung of the ladder, or a table of channels."""
    belief: BeliefField = TableBelief()
    """What it makes of that."""
    panel: tuple[PanelMember, ...] = ()
    """Several evaluators: each pair is labelled by one of them, drawn by weight."""
    beta: float = Field(default=1.0, gt=0)
    """Inverse temperature of its choices, per unit of return."""
    feedback: Literal["preference", "rating", "thumb"] = "preference"
    levels: int = Field(default=5, ge=2)
    """Of a rating."""
    rating_noise: float = Field(default=0.0, ge=0)
    """Standard deviation, in levels."""
    thumb_threshold: float | None = None
    """Return at which a thumb is as likely up as down; left out: the middle of the task's range."""
    label_noise: float = Field(default=0.0, ge=0, le=0.5)
    """Chance of any label being turned round by accident."""
    poisoned: Share = 0.0
    """Share of labels by someone who always names the one it thinks worse."""
    misaligned: Share = 0.0
    """Share of labels by someone with other values."""
    misaligned_values: OtherValues = OtherValues()
    """Those values, for every stage."""
    min_confidence: float = Field(default=0.5, ge=0.5, le=1)
    """Comparisons are answered only where one side is preferred with at least this probability."""
    audit_rate: Share = 0.0
    """Chance that the full view of both sides of a comparison is bought (complex labelling)."""
    shuffled: bool = False
    """The control: feedback that has nothing to do with what it is about."""
    pairs_within: Literal["instance", "instruction"] | None = None
    """Compare episodes of one instance (the same phrasing and the same fault), or of the same task and phrasing,
    whatever the fault. Left out: of one instance, where any was played more than once."""

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.poisoned + self.misaligned > 1:
            raise ValueError(f"poisoned + misaligned = {self.poisoned + self.misaligned:g}, more than all labels")
        names = [member.name for member in self.panel]
        if len(names) != len(set(names)):
            raise ValueError(f"panel: two members of one name among {names}")
        return self


def load_evaluator(path: Path) -> EvaluatorConfig:
    """Reads one TOML file. Raises `InputError` naming file, key and the near one."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; examples lie in examples/evaluators/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    for holder in (table, *(m for m in table.get("panel", ()) if isinstance(m, dict))):
        belief = holder.get("belief")
        if isinstance(belief, dict) and isinstance(belief.get("counts"), str):
            belief["counts"] = str(path.parent / belief["counts"])
    return make_evaluator_config(table, str(path))


def make_evaluator_config(table: Mapping[str, Any], origin: str) -> EvaluatorConfig:
    """From a table. Raises `InputError` that begins with `origin`."""
    try:
        return EvaluatorConfig.model_validate({"name": Path(origin).stem, **table})
    except ValidationError as error:
        first = error.errors()[0]
        at = first["loc"]
        # the kind of a belief is no key of its own
        where = ".".join(str(part) for n, part in enumerate(at) if not (n and at[n - 1] == "belief"))
        if first["type"] == "extra_forbidden":
            raise InputError(f"{origin}: unknown key {where!r}{_near(str(at[-1]), _known_keys())}") from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] not in ("value_error", "missing", "union_tag_invalid"):
            value = str(first["input"])
            message = f"is {value if len(value) < 60 else f'{value[:60]}...'}; {message[0].lower()}{message[1:]}"
            raise InputError(f"{origin}: {where} {message}") from None
        raise InputError(f"{origin}: {where + ': ' if where else ''}{message}") from None


def _known_keys() -> set[str]:
    """Every key that an evaluator's file may hold somewhere."""
    beliefs = (TableBelief, CalibratedBelief, ModelBelief)
    models: tuple[type[Frozen], ...] = (EvaluatorConfig, PanelMember, Sensors, Prices, OtherValues, *beliefs)
    return {key for model in models for key in model.model_fields} | {"base"}


def _near(word: str, known: Any) -> str:
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
