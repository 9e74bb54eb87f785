"""Slow paths: several processes, their devices, and a base held in 4 bits."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from transformers import AutoModelForCausalLM

from devnull.cli.runs.json_lines import append_line
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.training.data import tokenize_conversation
from devnull.training.models import load_policy
from devnull.training.processes import own_device
from devnull.training.settings import SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.train_result import TrainResult, write_result
from tests.training_cases import episodes, message_texts, warm_start
from tests.two_processes import dpo_of_pairs_that_differ

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


def launch(words: Sequence[str]) -> str:
    """What two processes print that `accelerate launch` starts on the CPU; `words`: `-m MODULE ARGUMENTS`."""
    # With `--cpu` accelerate starts several processes only through MPI; told of GPUs and to use none, it needs none.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_atomically(run / "run.json", json.dumps({"command": "rollout", "config": {}, "wall_seconds": {}}))
    for episode in episodes(8):
        append_line(run / "episodes.jsonl", episode)
    model = make_tiny_model(tmp_path / "tiny", message_texts(episodes(8)))
    words = ["--model", str(model), "--max-steps", "2", "--batch-size", "2", "--samples", "0", "--json"]
    found = json.loads(launch(["-m", "devnull", "train", "sft", str(run), *words]))
    assert found["steps"] == 2
    assert found["metrics"]["epoch"] == 1.0  # 2 steps x 2 examples x 2 processes are all 8 episodes
    assert load_policy(found["path"]).adaptation == "full"


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """DPO and GRPO: what the two make of two halves of the pairs is what one makes of all; both play."""
    start = warm_start(tmp_path)
    launch([str(Path(__file__).parent / "two_processes.py"), str(start), str(tmp_path)])
    both = TrainResult.read(tmp_path / "dpo-of-2")
    alone = dpo_of_pairs_that_differ(start, tmp_path / "dpo-of-1", batch_size=4)
    assert both is not None
    for name in ("loss", "grad_norm", "rewards/margins", "entropy", "mean_token_accuracy"):
        assert both.log[0][name] == pytest.approx(alone.log[0][name], rel=1e-3, abs=1e-5), name
    online = TrainResult.read(tmp_path / "grpo-of-2")
    assert online is not None and online.steps == 1
    assert len(list((tmp_path / "played").iterdir())) == 8  # 2 processes x a batch of 4, each once


def test_each_process_has_the_device_of_its_own_rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two GPUs and the second of two processes, as accelerate sees them; nothing is on a GPU here."""
    model = make_tiny_model(tmp_path / "tiny", ["some text"])
    chosen: list[torch.device] = []
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr("devnull.training.models.has_bfloat16", lambda: True)
    monkeypatch.setattr("devnull.training.memory.free_bytes", lambda device: 1 << 40)
    monkeypatch.setattr("accelerate.state.check_cuda_p2p_ib_support", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **_: None)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    asked: list[dict[str, Any]] = []

    def from_pretrained(name: str, **options: Any) -> None:
        asked.append(options)
        raise ValueError("seen enough")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    PartialState._reset_state()
    try:
        with pytest.raises(InputError, match="seen enough"):
            load_policy(model, adaptation="qlora")
        second = torch.device("cuda", 1)
        assert own_device() == second and chosen == [second]
        assert asked[0]["device_map"] == {"": second}
    finally:
        PartialState._reset_state()


@pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes")
def test_what_is_saved_of_a_base_in_4_bits_is_the_policy_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged into the weights as they were before they were rounded to 4 bits, it is another: 1e-3 nats a token here,
    where rounding does little harm."""
    pytest.importorskip("bitsandbytes")
    start = warm_start(tmp_path)
    tokenizer = load_policy(start).tokenizer
    chats = [tokenize_conversation(tokenizer, episode_messages(episode)) for episode in episodes(4)]

    def log_probs(model: Any) -> torch.Tensor:
        """Of each token of the vocabulary where the agent speaks, shape (tokens, words)."""
        with torch.no_grad():
            rows = [model.eval()(input_ids=torch.tensor([chat.ids])).logits[0, :-1].float() for chat in chats]
        spoken = torch.cat([torch.tensor(chat.mask[1:]).bool() for chat in chats])
        return torch.log_softmax(torch.cat(rows)[spoken], -1)

    trained: list[torch.Tensor] = []

    def write(trainer: Any, *rest: Any, **more: Any) -> None:
        trained.append(log_probs(trainer.model))
        write_result(trainer, *rest, **more)

    monkeypatch.setattr("devnull.training.trl_run.write_result", write)
    settings = SFTSettings(adaptation="qlora", max_steps=4, batch_size=2, lora_rank=4)
    result = train_sft(settings, episodes(8), start, tmp_path / "qlora")
    assert (result.path / "adapter").is_dir()
    saved = load_policy(result.path, adaptation="full").model
    assert saved.dtype.is_floating_point and not hasattr(saved.config, "quantization_config")
    kl = (trained[0].exp() * (trained[0] - log_probs(saved))).sum(-1).mean()
    assert float(kl) < 1e-4
    on_the_full_base = load_policy(result.path / "adapter", adaptation="full").model
    assert float((trained[0].exp() * (trained[0] - log_probs(on_the_full_base))).sum(-1).mean()) > 1e-4
