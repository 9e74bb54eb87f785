"""Model families are trained through the front door: what is sampled afterwards is what was trained.

`scripts/chat_families.py` does the same for all of them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from transformers import AutoTokenizer

from devnull.agents.agent import Message
from devnull.cli.main import main
from devnull.cli.runs.json_lines import append_line
from devnull.sandbox.atomic_file import write_atomically
from tests.chat_families import family_model, family_tokenizer, rollout_tokens, template_tokens
from tests.fakes import PretendRuntime, pretend_verify
from tests.training_cases import TASK, chat, episodes, message_texts, preferences

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")


def make_run(path: Path, count: int = 12) -> Path:
    """A run folder of scripted episodes and comparisons."""
    path.mkdir()
    write_atomically(path / "run.json", json.dumps({"command": "rollout", "config": {}, "wall_seconds": {}}))
    for episode in episodes(count):
        append_line(path / "episodes.jsonl", episode)
    write_atomically(path / "preferences.jsonl", "".join(pair.model_dump_json() + "\n" for pair in preferences(6)))
    return path


@contextmanager
def pretend_boxes() -> Iterator[None]:
    """Boxes that run nothing, for `devnull train`."""
    with (
        patch("devnull.cli.commands.train.open_boxes", lambda *_: PretendRuntime(TASK)),
        patch("devnull.agents.live_episode.verify", pretend_verify),
    ):
        yield


def train(trainer: str, run: Path, model: Path, out: Path, *words: str) -> dict[str, object]:
    """Trains by the command line, and gives what the result's `training.json` holds."""
    settings = ["--batch-size", "4", "--seed", "0", *words]
    if trainer == "grpo":
        settings += ["--group", "2", "--workers", "4", "--max-turns", "2", "--instances", "8"]
    assert main(["train", trainer, str(run), "--model", str(model), "--out", str(out), *settings]) == 0
    found: dict[str, object] = json.loads((out / "training.json").read_text())
    return found


@pytest.mark.parametrize("name", ["qwen3_6", "gptoss", "mistral1"])
def test_a_family_is_imitated_preferred_and_rewarded(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    model = family_model(name, tmp_path / "base", message_texts(episodes(12)))
    two = ("--max-steps", "2", "--samples", "0")
    with pretend_boxes():
        assert train("sft", run, model, tmp_path / "sft", *two)["steps"] == 2
        assert train("dpo", run, tmp_path / "sft", tmp_path / "dpo", *two)["steps"] == 2
        assert train("grpo", run, tmp_path / "dpo", tmp_path / "grpo", *two)["steps"] == 2
    trained = AutoTokenizer.from_pretrained(tmp_path / "grpo")
    talk = (*chat(episodes(1)[0]), Message(role="user", content="Thanks."))  # a last message looks different
    ids = rollout_tokens(trained, talk)
    assert ids == template_tokens(name, trained, talk)[: len(ids)]


def test_the_templates_arguments_are_kept_with_the_policy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 8)
    model = family_model("qwen3", tmp_path / "base", message_texts(episodes(8)))
    (tmp_path / "sft.toml").write_text('template_args = ["enable_thinking=false"]\nmax_steps = 1\nsamples = 0\n')
    record = train("sft", run, model, tmp_path / "sft", "--config", str(tmp_path / "sft.toml"))
    assert record["settings"]["template_args"] == ["enable_thinking=false"]  # type: ignore[index]
    trained, own = AutoTokenizer.from_pretrained(tmp_path / "sft"), family_tokenizer("qwen3")
    talk = list(chat(episodes(1)[0])[:2])
    asked = own.apply_chat_template(talk, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert trained.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) == asked
    wrong = ["train", "sft", str(run), "--model", str(model), "--out", str(tmp_path / "x")]
    assert main([*wrong, "--template-args", "enable_thinkng=false"]) == 2
