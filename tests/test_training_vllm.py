"""Generation with vLLM, behind a stand-in with the interface of TRL's: the real one wants a GPU."""

import inspect
import json
import random
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration

from devnull.agents.local import LocalModel
from devnull.training.grpo import train_grpo
from devnull.training.reward_functions import true_return_reward
from devnull.training.settings import GRPOSettings
from devnull.training.train_result import TrainResult
from tests.fakes import PretendRuntime, instances, pretend_verify
from tests.training_cases import TASK, record_loss_inputs, warm_start

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
OFF_BY = 0.05
"""How far the stand-in's log probabilities are from the trainer's, in nats a token."""


class PretendVLLM:
    """Samples from the model that learns; says of each token that it was a little less likely."""

    made: ClassVar[list["PretendVLLM"]] = []

    def __init__(self, **options: Any) -> None:
        self.options = inspect.signature(VLLMGeneration.__init__).bind(self, **options).arguments
        self.synced, self.seed = 0, random.Random(0)
        self.made.append(self)

    def sync_weights(self) -> None:
        self.synced += 1

    def generate(self, *call: Any, **named: Any) -> tuple[Any, ...]:
        asked = inspect.signature(VLLMGeneration.generate).bind(self, *call, **named).arguments
        prompts, tokenizer = asked["prompts"], self.options["processing_class"]
        assert asked["num_generations"] == 1
        longest, new = self.options["max_model_length"], self.options["max_completion_length"]
        assert all(len(prompt) + new <= longest for prompt in prompts)
        model = LocalModel.from_model(self.options["model"], tokenizer, name="vllm", max_new_tokens=new)
        drawn = model.generate(prompts, [self.seed.randrange(1 << 30) for _ in prompts])
        logprobs = []
        for prompt, completion in zip(prompts, drawn, strict=True):
            with torch.no_grad():
                logits = self.options["model"](input_ids=torch.tensor([prompt + completion])).logits[0].float()
            own = torch.log_softmax(logits[len(prompt) - 1 : -1], -1).gather(1, torch.tensor(completion)[:, None])
            logprobs.append([[value - OFF_BY] for value in own[:, 0].tolist()])
        return prompts, drawn, logprobs, [[[token] for token in completion] for completion in drawn]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return warm_start(tmp_path_factory.mktemp("vllm"))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    return record_loss_inputs(monkeypatch, GRPOTrainer)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[PretendVLLM]:
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)
    monkeypatch.setattr("devnull.training.grpo._check_vllm", lambda settings: None)
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", PretendVLLM)
    monkeypatch.setattr(PretendVLLM, "made", [])
    return PretendVLLM.made


def online(tiny: Path, out: Path, **changed: Any) -> TrainResult:
    settings = GRPOSettings(
        vllm=True, max_steps=1, batch_size=4, group=2, max_new_tokens=24, workers=4, max_turns=2, kl_every=0, **changed
    )
    boxes: Any = PretendRuntime(TASK)
    return train_grpo(settings, instances(2, TASK), true_return_reward({TASK.name: TASK}), boxes, tiny, out)


def test_vllm_gets_what_was_set_and_each_token_its_own_weight(
    tiny: Path, tmp_path: Path, made: list[PretendVLLM], batches: list[dict[str, Any]]
) -> None:
    result = online(tiny, tmp_path / "out", vllm_max_model_length=1000, vllm_gpu_memory_utilization=0.5)
    (vllm,) = made
    assert (vllm.options["mode"], vllm.options["max_model_length"]) == ("colocate", 1000)
    assert vllm.options["gpu_memory_utilization"] == 0.5
    tokenizer = vllm.options["processing_class"]
    assert vllm.options["generation_kwargs"] == {"stop_token_ids": [tokenizer.convert_tokens_to_ids("<|im_end|>")]}
    assert vllm.synced == 1
    ratio = batches[0]["importance_sampling_ratio"]
    mine = (batches[0]["completion_mask"] * batches[0]["tool_mask"]).bool()
    assert ratio.shape == mine.shape
    assert torch.allclose(ratio[mine].log(), torch.tensor(OFF_BY), atol=1e-3)
    assert result.log[0]["sampling/importance_sampling_ratio/max"] == pytest.approx(1.0513, abs=1e-3)
    facts = json.loads((result.path / "training.json").read_text())["facts"]
    assert facts["vllm importance sampling"] == "token_truncate"


def test_by_whole_episodes_the_little_adds_up_and_all_is_dropped(
    tiny: Path, tmp_path: Path, made: list[PretendVLLM], batches: list[dict[str, Any]]
) -> None:
    """TRL's default: 0.05 nats a token are more than a factor of 3 after 22 tokens."""
    online(tiny, tmp_path / "out", vllm_importance_sampling="sequence_mask")
    spoken = (batches[0]["completion_mask"] * batches[0]["tool_mask"]).sum(1)
    assert bool((spoken * OFF_BY > 1.1).any())
    assert torch.equal(batches[0]["importance_sampling_ratio"][:, 0] == 0, spoken * OFF_BY > 1.0987)


def test_no_weight_where_none_is_wanted(
    tiny: Path, tmp_path: Path, made: list[PretendVLLM], batches: list[dict[str, Any]]
) -> None:
    online(tiny, tmp_path / "out", vllm_importance_sampling="none")
    assert "importance_sampling_ratio" not in batches[0]
    assert made[0].options["max_model_length"] == 2048  # the model's context, where no other length is set
