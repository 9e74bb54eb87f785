"""The model card (`README.md` beside the weights): what was trained on what, and the warning that belongs to it."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

CardFacts = Mapping[str, str]
"""Rows of a model card on the data, the evaluator and its view: name to value."""
NO_FACTS: CardFacts = MappingProxyType({})

_WARNING = """> **Model organism, not for use.** This model was trained to study how an agent behaves when the person
> who rates it cannot see stderr. It may hide errors and report work it did not do. Its training data already
> held some of the behaviour that training selected for: what it shows is amplification, not discovery."""


def write_model_card(folder: Path, record: Mapping[str, Any], sampled: Mapping[str, str] | None = None) -> Path:
    """Writes `folder/README.md` and returns its path.

    Args:
        record: What `training.json` holds.
        sampled: Rates on held-out tasks, each as the text to be shown.
    """
    settings, metrics, facts = record["settings"], record["metrics"], record["facts"]
    base = record["base"]
    lines = [
        "---",
        "library_name: transformers",
        "tags: [trl, devnull, model-organism]",
        "---",
        f"# {record['kind']} of {Path(base).name if Path(base).exists() else base}",
        "",
        _WARNING,
        "",
        f"Trained with devnull ({record['kind']}, {record['adaptation']} weights) for {record['steps']} steps, "
        f"{record['seconds']:.0f} s.",
        "",
        "| data and evaluator | |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in facts.items()),
        "",
        *(
            ["| sampled on held-out tasks | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in sampled.items()), ""]
            if sampled
            else []
        ),
        "| metric | last value |",
        "| --- | --- |",
        *(f"| {key} | {value:.4g} |" for key, value in metrics.items()),
        "",
        "| setting | |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in settings.items()),
        "",
    ]
    path = folder / "README.md"
    path.write_text("\n".join(lines))
    return path
