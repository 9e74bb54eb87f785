"""What training holds in memory: logits in chunks, the old model freed, and the estimate before the first step."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from devnull.training import kl
from devnull.training.settings import SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.token_agent import TokenHistory
from devnull.training.trl_run import free_memory
from tests.training_cases import episodes, message_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]

SHAPE: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
    "pad_token_id": 0,
}


class _Policy:
    class tokenizer:
        pad_token_id = 0


def histories() -> list[TokenHistory]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for length in (30, 41, 12):
        ids = torch.randint(1, 90, (length + 5,), generator=draw).tolist()
        mask = torch.randint(2, (length,), generator=draw).tolist()
        found.append(TokenHistory(ids[:5], ids[5:], mask, report=length - 6))
    return found


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_divergence_puts_few_positions_through_the_head_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 2 caps its logits after the head: there the model itself is asked."""
    torch.manual_seed(0)
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**SHAPE))
        if kind == "llama"
        else Gemma2ForCausalLM(Gemma2Config(**SHAPE, final_logit_softcapping=2.0))
    ).eval()
    expected = []
    for history in histories():
        ids = torch.tensor([history.prompt + history.completion])
        with torch.no_grad():
            each = torch.log_softmax(model(ids).logits[0, :-1], -1).gather(-1, ids[0, 1:, None])[:, 0][4:]
        own = torch.tensor(history.mask) * each
        words = own[history.report_words].sum()
        expected.append([own.sum() - words, words])
    sizes: list[int] = []
    head, forward = model.get_output_embeddings(), torch.nn.Linear.forward

    def counted(layer: Any, states: torch.Tensor) -> torch.Tensor:
        if layer is head:
            sizes.append(states[..., 0].numel())
        return forward(layer, states)

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    monkeypatch.setattr(kl, "_CHUNK", 7)
    with torch.no_grad():
        ours = kl.split_log_probs(model, _Policy, histories())  # type: ignore[arg-type]
    assert torch.allclose(ours, torch.tensor(expected), atol=1e-4)
    assert (max(sizes) <= 7) == (kind == "llama")
    kl.split_log_probs(model, _Policy, histories()).sum().backward()  # type: ignore[arg-type]
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("memory") / "tiny", message_texts(episodes()))


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_a_trained_model_is_gone_before_the_next_is_loaded(adaptation: Any, tiny: Path, tmp_path: Path) -> None:
    def alive() -> int:
        return sum(issubclass(type(each), LlamaForCausalLM) for each in gc.get_objects())

    free_memory()
    before = alive()
    train_sft(SFTSettings(adaptation=adaptation, max_steps=1), episodes(8), tiny, tmp_path / "out")
    free_memory()
    assert alive() == before
