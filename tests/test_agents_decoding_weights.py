"""Weights while a model samples: the same policy in fewer kernels, and afterwards bit for bit what was trained."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from devnull.agents.decoding_weights import decoding_weights, merge_for_good
from devnull.agents.local import LocalModel
from tests.fakes import byte_tokenizer

TOKENIZER = byte_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
PROMPTS = [[5, 6, 7], [40, 41, 42, 43, 44, 45], [90, 9], [33] * 12]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft


def adapted(dtype: torch.dtype = torch.float32, scale: float = 0.1, hidden: int = 64, std: float = 0.4) -> Any:
    """A model with adapters whose B is `scale` wide."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=hidden,
        intermediate_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=std,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = get_peft_model(LlamaForCausalLM(config).to(dtype), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale)
    return model


def greedy(model: Any) -> list[list[int]]:
    agent = LocalModel.from_model(model, TOKENIZER, name="x", temperature=0, max_new_tokens=20)
    return agent.generate(PROMPTS, [0] * len(PROMPTS))


def bits(model: Any) -> dict[str, tuple[int, torch.dtype, bytes]]:
    return {
        name: (weight.data_ptr(), weight.dtype, weight.detach().flatten().view(torch.uint8).numpy().tobytes())
        for name, weight in model.named_parameters()
    }


class _Count(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def operations(model: Any) -> int:
    """Operators that one token takes."""
    with _Count() as count, torch.no_grad():
        model(torch.tensor([[5]]))
    return count.calls


def test_merged_it_says_the_same_in_fewer_operations_and_learns_from_what_it_was() -> None:
    model = adapted()
    before, said, apart = bits(model), greedy(model), operations(model)
    with model.disable_adapter():
        assert greedy(model) != said
    with decoding_weights(model):
        assert greedy(model) == said
        assert operations(model) < 0.7 * apart
    assert bits(model) == before and operations(model) == apart and greedy(model) == said
    model(torch.tensor([PROMPTS[0]])).logits.sum().backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "lora_" in name)


def test_weights_come_back_where_decoding_fails() -> None:
    model = adapted(torch.bfloat16)
    before = bits(model)
    with pytest.raises(RuntimeError, match="boxes"), decoding_weights(model):
        raise RuntimeError("boxes are gone")
    assert bits(model) == before and not any(getattr(layer, "merged", False) for layer in model.modules())


def test_on_a_gpu_all_is_bfloat16_meanwhile() -> None:
    for model in (adapted(), adapted().get_base_model()):
        before = bits(model)
        with decoding_weights(model, torch.bfloat16):
            base = {weight.dtype for name, weight in model.named_parameters()}
            assert base == {torch.bfloat16} and all(len(ids) >= 1 for ids in greedy(model))
        assert bits(model) == before


def test_small_changes_survive_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first steps an adapter moves each weight by less than bfloat16's step: to the nearest, most is lost."""
    model = adapted(torch.float32, scale=1e-4, hidden=512, std=0.02)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data = layer.weight.data.bfloat16().float()

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return model(torch.arange(5, 197).view(8, 24)).logits.flatten()

    def merged() -> torch.Tensor:
        with decoding_weights(model, torch.bfloat16):
            for weight in model.parameters():  # computed in float32: only the rounding of weights is under test
                weight.data = weight.data.float()
            return logits()

    with model.disable_adapter():
        base = logits()
    learnt = logits() - base
    kept = torch.dot(merged() - base, learnt) / learnt.square().sum()
    monkeypatch.setattr("devnull.agents.decoding_weights._rounded", lambda total, dtype, _: total.to(dtype))
    nearest = torch.dot(merged() - base, learnt) / learnt.square().sum()
    assert kept == pytest.approx(1.0, abs=0.2) and nearest < 0.6, (kept, nearest)


def test_weights_in_4_bits_keep_their_adapters_beside_them() -> None:
    bnb = pytest.importorskip("bitsandbytes", reason="wants the extra `qlora`")
    model = adapted()
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    layer.base_layer = bnb.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.float32)
    with decoding_weights(model):
        assert not layer.merged and model.get_base_model().model.layers[1].self_attn.q_proj.merged


def test_what_only_samples_is_merged_for_good() -> None:
    model = adapted()
    said, apart = greedy(model), operations(model)
    merge_for_good(model)
    assert greedy(model) == said and operations(model) < 0.7 * apart
