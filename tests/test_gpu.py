"""What only a GPU can show: number formats, 4-bit bases, and that memory settings change no figure."""

import copy
from pathlib import Path

import pytest
import torch
from peft import get_peft_model

from devnull.agents.local import LocalModel
from devnull.agents.model_loading import load_model
from devnull.training.dpo import train_dpo
from devnull.training.models import LoadedPolicy, load_policy
from devnull.training.reward_model import RewardModel, train_reward
from devnull.training.settings import Adaptation, DPOSettings, RewardSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.weighted_preferences import plain_preferences
from tests.training_cases import chat, episode, episodes, message_texts, preferences

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("gpu") / "tiny", message_texts(episodes()))


def test_a_policy_samples_in_bfloat16(tiny: Path) -> None:
    agent = LocalModel(tiny)
    assert agent.model.device.type == "cuda" and agent.model.dtype == torch.bfloat16
    prompts = [agent.encode(chat(episode(seed=seed))[:2]) for seed in range(40)]
    agent.max_new_tokens = 8
    assert agent.generate(prompts, range(40)) == agent.generate(prompts, range(40))


def test_float32_gives_the_same_logits_as_a_cpu(tiny: Path) -> None:
    model, tokenizer = load_model(tiny, None, "cpu", False)
    ids = torch.tensor([LocalModel.from_model(model, tokenizer, name="tiny").encode(chat(episode())[:2])])
    with torch.no_grad():
        here = model(ids).logits
        there = copy.deepcopy(model).to("cuda")(ids.to("cuda")).logits.cpu()
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("adaptation", ["full", "lora", "qlora"])
def test_sft_learns(tiny: Path, tmp_path: Path, adaptation: Adaptation) -> None:
    if adaptation == "qlora":
        pytest.importorskip("bitsandbytes")
    settings = SFTSettings(adaptation=adaptation, max_steps=6, batch_size=8, learning_rate=2e-3)
    result = train_sft(settings, episodes(24), tiny, tmp_path / "sft")
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    assert losses[-1] < losses[0]
    assert 0 < result.metrics["peak_memory_gib"] < 8
    assert LocalModel(result.path, max_new_tokens=2).model.device.type == "cuda"


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_gradient_checkpointing_changes_no_loss(tiny: Path, tmp_path: Path, adaptation: Adaptation) -> None:
    logs = []
    for checkpointing in ("off", "on"):
        settings = SFTSettings(
            adaptation=adaptation, max_steps=3, batch_size=4, gradient_checkpointing=checkpointing, seed=1
        )
        result = train_sft(settings, episodes(12), tiny, tmp_path / f"{checkpointing}")
        logs.append([entry["loss"] for entry in result.log if "loss" in entry])
    assert logs[0] == pytest.approx(logs[1], rel=0.02)


def test_dpo_takes_steps_on_adapters(tiny: Path, tmp_path: Path) -> None:
    settings = DPOSettings(adaptation="lora", max_steps=2, batch_size=4)
    assert train_dpo(settings, preferences(8), tiny, tmp_path / "dpo").steps == 2


def test_a_reward_model_scores_on_the_gpu(tiny: Path, tmp_path: Path) -> None:
    compared = plain_preferences(preferences(8))
    model = RewardModel(train_reward(RewardSettings(max_steps=2, batch_size=4), compared, tiny, tmp_path / "r").path)
    assert model.model.device.type == "cuda"
    sides = [((chat(episode(seed=seed)), 1.0),) for seed in range(3)]
    there = model.scores(sides)
    model.model.to("cpu")
    assert model.scores(sides) == pytest.approx(there, abs=1e-2)


def test_merged_adapters_decode_the_same(tiny: Path) -> None:
    policy = load_policy(tiny, adaptation="lora", dtype="float32")
    model = get_peft_model(policy.model.to("cuda"), policy.adapter(SFTSettings(lora_rank=4)))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    adapted = LoadedPolicy(model, policy.tokenizer, "tiny", "lora", False)
    agent = LocalModel.from_model(adapted.model, policy.tokenizer, name="tiny", temperature=0, max_new_tokens=16)
    prompts = [agent.encode(chat(episode(seed=seed))[:2]) for seed in range(8)]
    apart = agent.generate(prompts, range(8))
    model.merge_adapter()
    assert agent.generate(prompts, range(8)) == apart
