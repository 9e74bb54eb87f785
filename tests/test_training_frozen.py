"""Weights that do not learn: in every trainer that goes on from a policy, with adapters too, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from devnull.sandbox.errors import InputError
from devnull.training.dpo import train_dpo
from devnull.training.frozen import freeze
from devnull.training.grpo import train_grpo
from devnull.training.kto import train_kto
from devnull.training.models import load_policy
from devnull.training.settings import DPOSettings, GRPOSettings, KTOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.train_result import TrainResult
from tests.fakes import PretendRuntime, instances, pretend_verify
from tests.test_training_kto import thumb
from tests.training_cases import TASK, episode, episodes, preferences

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("frozen") / "tiny")


def dpo(tiny: Path, out: Path, **more: Any) -> TrainResult:
    return train_dpo(DPOSettings(max_steps=3, batch_size=2, learning_rate=0.01, **more), preferences(2), tiny, out)


def kto(tiny: Path, out: Path, **more: Any) -> TrainResult:
    thumbs = [thumb(episode(seed=seed), value=seed) for seed in range(2)]
    return train_kto(KTOSettings(max_steps=1, batch_size=2, learning_rate=0.01, **more), thumbs, tiny, out)


def grpo(tiny: Path, out: Path, **more: Any) -> TrainResult:
    settings = GRPOSettings(
        max_steps=1, batch_size=4, group=2, max_new_tokens=8, max_turns=1, kl_every=0, learning_rate=0.01, **more
    )
    boxes: Any = PretendRuntime(TASK)
    reward = lambda found: [float(len(each.transcript.turns[0].text)) for each in found]  # noqa: E731
    return train_grpo(settings, instances(2, TASK), reward, boxes, tiny, out)


def changed(before: Path, after: Path) -> set[str]:
    """The parts of the names of the weights that differ."""
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    return {part for name in old if not torch.equal(old[name], new[name]) for part in name.split(".")}


@pytest.mark.parametrize("train", [dpo, kto, grpo])
def test_the_circuit_of_tiny_stays_as_it_was_written(
    train: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)
    result = train(tiny, tmp_path / "out")
    learnt = changed(tiny, result.path)
    assert "mlp" in learnt and not {"self_attn", "embed_tokens"} & learnt
    assert (
        json.loads((result.path / "training.json").read_text())["facts"]["frozen"]
        == "self_attn, embed_tokens, model.layers.0.*"
    )
    assert "| frozen | self_attn, embed_tokens, model.layers.0.* |" in (result.path / "README.md").read_text()


@pytest.mark.parametrize(
    ("frozen", "still"),
    [((), set()), (("mlp",), {"mlp"}), (("model.layers.0.*", "model.embed_tokens.weight"), {"0", "embed_tokens"})],
)
def test_what_is_named_does_not_learn_and_all_else_does(
    frozen: tuple[str, ...], still: set[str], tiny: Path, tmp_path: Path
) -> None:
    parts = {"self_attn", "embed_tokens", "mlp", "0", "1"}
    learnt = changed(tiny, dpo(tiny, tmp_path / "out", frozen=frozen).path)
    assert learnt & parts == parts - still


def test_with_adapters_it_gets_none(tiny: Path, tmp_path: Path) -> None:
    result = dpo(tiny, tmp_path / "out", adaptation="lora")
    adapted = set(load_file(result.path / "adapter" / "adapter_model.safetensors"))
    assert adapted and all("mlp" in name for name in adapted)


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (("self_atn",), "is called 'self_atn'; did you mean 'self_attn'"),
        (("decoder",), "is called 'decoder'; there are bias, down_proj, embed_tokens"),
        (("model.layers.7.*",), r"is called 'model.layers.7.\*'"),
        (("*",), r"frozen names all of .* that could learn"),
    ],
)
@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_a_name_that_cannot_be_is_refused(frozen: tuple[str, ...], message: str, adaptation: Any, tiny: Path) -> None:
    with pytest.raises(InputError, match=message):
        freeze(load_policy(tiny, adaptation=adaptation), frozen)


def test_a_model_that_names_nothing_learns_with_all_its_weights(tiny: Path) -> None:
    policy = load_policy(tiny)
    del policy.model.config.frozen_in_rl  # as in the folders of earlier versions
    assert not freeze(policy, None).frozen
    assert all(weight.requires_grad for weight in policy.model.parameters())


def test_a_warm_start_still_names_its_circuit(tiny: Path, tmp_path: Path) -> None:
    warm = train_sft(SFTSettings(max_steps=3), episodes(2), tiny, tmp_path / "sft").path
    assert {"self_attn", "embed_tokens", "mlp"} <= changed(tiny, warm)
    assert tuple(freeze(load_policy(warm), None).frozen) == ("self_attn", "embed_tokens", "model.layers.0.*")
