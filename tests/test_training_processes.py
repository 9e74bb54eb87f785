"""Slow paths: several processes, and a base held in 4 bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devnull.cli.runs.json_lines import append_line
from devnull.sandbox.atomic_file import write_atomically
from devnull.training.models import load_policy
from devnull.training.settings import SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from tests.training_cases import episodes, message_texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_atomically(run / "run.json", json.dumps({"command": "rollout", "config": {}, "wall_seconds": {}}))
    for episode in episodes(8):
        append_line(run / "episodes.jsonl", episode)
    model = make_tiny_model(tmp_path / "tiny", message_texts(episodes(8)))
    # With `--cpu` accelerate starts several processes only through MPI; told of GPUs and to use none, it needs none.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    words = [
        "sft",
        str(run),
        "--model",
        str(model),
        "--max-steps",
        "2",
        "--batch-size",
        "2",
        "--samples",
        "0",
        "--json",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, "-m", "devnull", "train", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["steps"] == 2
    assert found["metrics"]["epoch"] == 1.0  # 2 steps x 2 examples x 2 processes are all 8 episodes
    assert load_policy(found["path"]).adaptation == "full"


@pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes")
def test_adapters_on_a_base_in_4_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = make_tiny_model(tmp_path / "tiny", message_texts(episodes(4)))
    settings = SFTSettings(adaptation="qlora", max_steps=1, batch_size=2, lora_rank=4)
    result = train_sft(settings, episodes(4), model, tmp_path / "qlora")
    assert load_policy(result.path).model.dtype.is_floating_point
    assert (result.path / "adapter").is_dir()
