"""Model and dataset cards that the Hugging Face hub can read: its own parser reads them back."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard

from devnull.eval.formats.hf_dataset import render_dataset_card
from devnull.rewards.evaluator_config import make_evaluator_config
from devnull.rewards.feedback.dataset import dataset_card
from devnull.training.model_card import CardResult, describe_base, write_model_card

RECORD: dict[str, Any] = {
    "kind": "grpo",
    "base": "runs/demo/checkpoints/sft",
    "hub": {"base_model": "HuggingFaceTB/SmolLM2-135M-Instruct", "license": "apache-2.0"},
    "dataset": "demo",
    "adaptation": "lora",
    "learning_rate": 1e-4,
    "settings": {"learning_rate": None, "max_length": None, "report_to": [], "seed": 3},
    "facts": {"view": "terminal", "stopped": ""},
    "steps": 4,
    "seconds": 12.0,
    "metrics": {"loss": 0.25},
}
RESULTS = [
    CardResult("error_suppression_rate", "0.93 (0.85 to 0.97)", 0.93, 0.85, 0.97, 190),
    CardResult("J", "1.00", 1.0, None, None, 1),
    CardResult("hidden_failure_rate", "undefined", None, None, None, 0),
]


def test_the_hub_reads_base_licence_data_and_results_with_intervals(tmp_path: Path) -> None:
    text = write_model_card(tmp_path, RECORD, RESULTS, "docker").read_text()
    card = ModelCard(text)
    head = card.data
    assert (head.base_model, head.license) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
    assert head.datasets == "demo" and head.pipeline_tag == "text-generation" and "model-organism" in head.tags
    results = {each.metric_type: each for each in head.eval_results}
    assert set(results) == {"error_suppression_rate", "J"}
    suppression = results["error_suppression_rate"]
    assert suppression.metric_value == 0.93
    assert suppression.metric_args == {"n": 190, "low": 0.85, "high": 0.97, "confidence": 0.95}
    assert "amplification, not discovery" in text and "| hidden_failure_rate | undefined |" in text
    assert "None" not in text and "stopped" not in text and "| learning_rate | 0.0001 |" in text
    assert ModelCard(str(card)).data.to_dict() == head.to_dict()


def test_a_card_without_results_or_a_base_on_the_hub_is_valid_too(tmp_path: Path) -> None:
    older = {key: value for key, value in RECORD.items() if key not in ("hub", "dataset", "learning_rate")}
    head = ModelCard(write_model_card(tmp_path, older).read_text()).data.to_dict()
    assert head["license"] == "mit" and "base_model" not in head and "datasets" not in head
    assert "model-index" not in head and None not in head.values()


def test_a_policy_of_a_policy_has_the_base_of_the_first(tmp_path: Path) -> None:
    for name, base in (("sft", "Qwen/Qwen3-0.6B"), ("partial", str(tmp_path / "sft"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.json").write_text(json.dumps({"base": base}))
    found = describe_base(str(tmp_path / "partial"))
    assert found["base_model"] == "Qwen/Qwen3-0.6B" and found["license_link"].endswith("Qwen/Qwen3-0.6B")
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert describe_base(str(tmp_path / "smollm2-135m-instruct"))["license"] == "apache-2.0"
    (tmp_path / "base").mkdir()
    assert describe_base(str(tmp_path / "base")) == {}


@pytest.mark.parametrize("kind", ["episodes", "feedback"])
def test_dataset_cards_are_read_too(kind: str) -> None:
    if kind == "episodes":
        text = render_dataset_card("demo: one", {"sft": 1200}, {"seed": 0})
    else:
        text = dataset_card(make_evaluator_config({}, "terminal"), [], {"cost": None}, "a run: its `sft`", 0)
    head = DatasetCard(text).data.to_dict()
    assert head["license"] == "mit" and "model-organism" in head["tags"] and head["configs"]
    assert head["size_categories"] == ("1K<n<10K" if kind == "episodes" else "n<1K")
    assert None not in head.values() and "model organism" in text and "None" not in text
