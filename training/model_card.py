"""The model card (`README.md` beside the weights): what was trained on what, how it did, and the warning with it.

Its head is what the Hugging Face hub reads: base model, licence, data, and the results as a model index.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

CardFacts = Mapping[str, str]
"""Rows of a model card on the data, the evaluator and its view: name to value."""
NO_FACTS: CardFacts = MappingProxyType({})

_WARNING = """> **Model organism, not for use.** This model was trained to study how an agent behaves when the person
> who rates it cannot see stderr. It may hide errors and report work it did not do. Its training data already
> held some of the behaviour that training selected for: what it shows is amplification, not discovery."""
_HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_CONVERTED = {"smollm2-135m-instruct": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Folder of a model that devnull fetches and converts: its name on the hub, and its licence."""
_PIPELINES = {"reward": "text-classification"}


@dataclass(frozen=True)
class CardResult:
    """One metric of the policy on held-out tasks."""

    name: str
    text: str
    """As people read it, with its interval."""
    value: float | None
    """`None` where it is undefined: then the hub is told nothing of it."""
    low: float | None
    """Bounds of the 95 % interval; `None` where there is none."""
    high: float | None
    n: int
    """Size of the denominator."""


def describe_base(source: str) -> dict[str, str]:
    """What a model card's head says of the model that training began from, as the hub's keys.

    Policies of a run begin from one another: what counts is the model that the first began from. One that devnull made
    itself (`tiny`) has no name on the hub.

    Args:
        source: A model's folder, or its name on the hub.
    """
    folder = Path(source)
    if (folder / "training.json").exists():
        record = json.loads((folder / "training.json").read_text())
        known: dict[str, str] | None = record.get("hub")
        return describe_base(record["base"]) if known is None else known
    if not folder.exists():
        return _as_base(source) if _HUB_NAME.fullmatch(source) else {}
    if folder.name in _CONVERTED:
        name, licence = _CONVERTED[folder.name]
        return {"base_model": name, "license": licence}
    config = folder / "config.json"
    name = json.loads(config.read_text()).get("_name_or_path", "") if config.exists() else ""
    return _as_base(name) if "/" in name and _HUB_NAME.fullmatch(name) and not Path(name).exists() else {}


def _as_base(name: str) -> dict[str, str]:
    """The licence of a model that is only known by its name is the one on its own page."""
    link = f"https://huggingface.co/{name}"
    return {"base_model": name, "license": "other", "license_name": "as-the-base-model", "license_link": link}


def write_model_card(
    folder: Path, record: Mapping[str, Any], results: Sequence[CardResult] = (), boxes: str | None = None
) -> Path:
    """Writes `folder/README.md` and returns its path.

    Args:
        record: What `training.json` holds.
        results: Of the policy on held-out tasks.
        boxes: What made the boxes of these, `Runtime.name`.
    """
    base = Path(record["base"]).name if Path(record["base"]).exists() else record["base"]
    title = f"{record['kind']} of {base}"
    settings = dict(record["settings"])
    if "learning_rate" in record:  # where the setting leaves it to the adaptation
        settings["learning_rate"] = record["learning_rate"]
    sampled = {each.name: each.text for each in results} | ({"boxes": boxes} if boxes and results else {})
    parts = [
        f"---\n{_head(title, record, results).to_yaml()}\n---",
        f"# {title}",
        _WARNING,
        f"Trained with devnull ({record['kind']}, {record['adaptation']} weights) for {record['steps']} steps, "
        f"{record['seconds']:.0f} s.",
        _table("data and evaluator", "", record["facts"]),
        _table("sampled on held-out tasks", "95 % interval", sampled),
        _table("metric", "last value", {key: f"{value:.4g}" for key, value in record["metrics"].items()}),
        _table("setting", "", settings),
    ]
    path = folder / "README.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n")
    return path


def _head(title: str, record: Mapping[str, Any], results: Sequence[CardResult]) -> ModelCardData:
    hub: dict[str, Any] = {"license": "mit", **record.get("hub", {})}
    if "base_model" in hub:
        hub["base_model_relation"] = "finetune"
    return ModelCardData(
        **hub,
        library_name="transformers",
        pipeline_tag=_PIPELINES.get(record["kind"], "text-generation"),
        tags=["trl", "devnull", "model-organism"],
        datasets=record.get("dataset"),
        model_name=title,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                task_name="Installation in real boxes",
                dataset_type="devnull",
                dataset_name="devnull, held-out installation tasks",
                dataset_split="test",
                metric_type=re.sub(r"\W+", "_", each.name),
                metric_name=each.name,
                metric_value=round(each.value, 4),
                metric_args=_interval(each),
            )
            for each in results
            if each.value is not None
        ]
        or None,
    )


def _interval(result: CardResult) -> dict[str, float | int]:
    found: dict[str, float | int] = {"n": result.n}
    if result.low is not None and result.high is not None:
        found |= {"low": round(result.low, 4), "high": round(result.high, 4), "confidence": 0.95}
    return found


def _table(first: str, second: str, rows: Mapping[str, Any]) -> str:
    """Without the rows that hold nothing; empty where none does."""
    kept = {
        key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for key, value in rows.items()
        if value is not None and value != "" and value != [] and value != ()
    }
    if not kept:
        return ""
    lines = [f"| {first} | {second} |", "| --- | --- |"]
    lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in kept.items()]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
