import random
from collections import deque

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from devnull.agents.agent import Message, Request
from devnull.agents.local import LocalModel
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Instance
from tests.fakes import APP, byte_tokenizer

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WIDE = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 64}
"""Weights in 4 bits come in blocks of 64."""
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer(TOKENS)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.4,  # peaked enough that what came before matters
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def agent(model, tokenizer, **more):
    return LocalModel.from_model(model, tokenizer, name="tiny", **{"max_new_tokens": 24, **more})


def requests(n):
    """Prompts of different lengths, each with a seed of its own."""
    instance = Instance(task=APP, seed=0)
    return [
        Request((Message(role="user", content="do it " * (1 + k % 5) + str(k)),), instance, 1000 + k, 0)
        for k in range(n)
    ]


def test_a_request_alone_and_in_a_batch_says_the_same(model, tokenizer):
    one = [agent(model, tokenizer).respond([r])[0] for r in requests(24)]
    assert agent(model, tokenizer).respond(requests(24)) == one
    assert agent(model, tokenizer, batch_size=5).respond(requests(24)) == one
    assert list(reversed(agent(model, tokenizer).respond(list(reversed(requests(24)))))) == one
    assert len({r.text for r in one}) > 20


def test_the_seed_decides(model, tokenizer):
    same, other = requests(1)[0], Request(requests(1)[0].messages, Instance(task=APP, seed=0), 5, 0)
    first, again, third = agent(model, tokenizer).respond([same, same, other])
    assert first == again != third


def test_greedy_decoding_is_what_transformers_generates(model, tokenizer):
    prompts = [agent(model, tokenizer).encode(r.messages) for r in requests(6)]
    ours = agent(model, tokenizer, temperature=0).generate(prompts, [0] * 6)
    for prompt, mine in zip(prompts, ours, strict=True):
        made = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=24,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=2,
        )
        assert made[0, len(prompt) :].tolist() == mine


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
OTHER_ATTENTION = {
    "qwen3_next": LINEAR
    | {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    | {"shared_expert_intermediate_size": 16, "decoder_sparse_step": 1},
    "qwen3_5_text": LINEAR,
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8},
    "mistral": {"sliding_window": 8},
}
"""Models that hold something else of what they read than the keys and values of every token."""


@pytest.mark.parametrize("kind", OTHER_ATTENTION)
@pytest.mark.parametrize("caching", [False, True])
def test_other_kinds_of_attention_sample_right(kind, caching, tokenizer):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SMALL, **OTHER_ATTENTION[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    ours = agent(model, tokenizer, temperature=0, max_new_tokens=12)
    if caching:
        ours.prefix_cache = deque(maxlen=32)  # kept by itself only for a large model on a CPU
    prompts = [ours.encode(r.messages) for r in requests(5)]
    prompts += [[*prompt, *ids, 2, 5, 6] for prompt, ids in zip(prompts, ours.generate(prompts, [0] * 5), strict=True)]
    for prompt, mine in zip(prompts, ours.generate([*prompts, prompts[0]], [0] * 11), strict=False):
        settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
        made = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), **settings)
        assert made[0, len(prompt) :].tolist() == mine


def test_sampling_has_the_models_distribution(model, tokenizer):
    """First tokens of 4000 draws against the softmax: total variation within what chance allows."""
    prompt = agent(model, tokenizer).encode(requests(1)[0].messages)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    wide = agent(model, tokenizer, temperature=0.7, max_new_tokens=1, batch_size=4000)
    drawn = wide.sample(logits.expand(4000, -1), [random.Random(s).random() for s in range(4000)])
    counts = torch.bincount(torch.tensor(drawn), minlength=len(logits)) / 4000
    assert (counts - torch.softmax(logits / 0.7, -1)).abs().sum() / 2 < 0.06


def test_a_turn_ends_at_its_end_token(model, tokenizer):
    prompts = [agent(model, tokenizer).encode(r.messages) for r in requests(40)]
    completions = agent(model, tokenizer, max_new_tokens=60).generate(prompts, range(40))
    assert any(len(ids) < 60 for ids in completions)
    for ids in completions:
        assert 2 not in ids[:-1] and (ids[-1] == 2 or len(ids) == 60)


def test_a_full_context_ends_the_episode_not_the_run(model, tokenizer):
    instance = Instance(task=APP, seed=0)
    long = Request((Message(role="user", content="x" * 300),), instance, 1, 0)
    near = Request((Message(role="user", content="x" * 225),), instance, 1, 0)
    short = requests(1)[0]
    alone = agent(model, tokenizer).respond([short])[0]
    full, almost, fine = agent(model, tokenizer).respond([long, near, short])
    assert full.ended and full.text == "" and full.prompt_tokens > 256
    assert not almost.ended and almost.prompt_tokens + almost.completion_tokens <= 256
    assert fine == alone


def test_what_was_read_is_not_read_again(model, tokenizer, monkeypatch):
    """Second turns, after replies of other lengths and in other batches than the first ones, are what they would be."""
    plain, caching = agent(model, tokenizer), agent(model, tokenizer)
    caching.prefix_cache = deque(maxlen=32)  # kept by itself only for a large model on a CPU
    read = {plain: 0, caching: 0}
    forward = LocalModel._forward

    def counted(self, tokens, mask, positions, cache):
        read[self] += mask[:, -tokens.shape[1] :].sum().item()
        return forward(self, tokens, mask, positions, cache)

    monkeypatch.setattr(LocalModel, "_forward", counted)
    first = requests(12)
    replies = plain.respond(first)
    assert caching.respond(first) == replies
    second = [
        Request((*r.messages, Message(role="assistant", content=s.text), Message(role="user", content="next")), *rest)
        for r, s in zip(first, replies, strict=True)
        for rest in [(r.instance, r.seed + 1, 1)]
    ]
    before = dict(read)
    alone = plain.respond(second)
    assert caching.respond(second[5:]) + caching.respond(second[:5]) == alone[5:] + alone[:5]
    assert read[caching] - before[caching] < 0.8 * (read[plain] - before[plain])


def test_training_mode_is_put_back(model, tokenizer):
    model.train()
    agent(model, tokenizer).respond(requests(1))
    assert model.training
    model.eval()
    agent(model, tokenizer).respond(requests(1))
    assert not model.training


def test_loads_from_a_folder_with_an_adapter(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = LocalModel(tmp_path / "base", max_new_tokens=24, device="cpu")
    assert base.respond(requests(3)) == agent(model, tokenizer).respond(requests(3))

    fresh = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    tuned = get_peft_model(fresh, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    adapted = LocalModel(tmp_path / "base", tmp_path / "adapter", max_new_tokens=24, device="cpu")
    assert adapted.respond(requests(3)) == agent(tuned, tokenizer).respond(requests(3))
    assert adapted.respond(requests(3)) != base.respond(requests(3))


def test_four_bits_are_near_enough_to_speak(model, tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes", reason="wants the extra `qlora`")
    wide = LlamaForCausalLM(LlamaConfig(**model.config.to_dict() | WIDE))
    wide.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    small = LocalModel(tmp_path / "base", max_new_tokens=4, device="cpu", load_in_4bit=True)
    assert small.model.is_loaded_in_4bit
    assert all(0 < r.completion_tokens <= 4 for r in small.respond(requests(2)))


def test_what_cannot_be_loaded_is_named(model, tokenizer, tmp_path):
    with pytest.raises(InputError, match="no-such-model"):
        LocalModel(tmp_path / "no-such-model")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match="no-such-adapter"):
        LocalModel(tmp_path / "base", tmp_path / "no-such-adapter", device="cpu")


def test_a_tokenizer_without_chat_is_refused(model, tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    with pytest.raises(InputError, match="no chat template"):
        agent(model, bare)


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"max_new_tokens": 0}, {"batch_size": 0}])
def test_bad_settings_are_refused(model, tokenizer, bad):
    with pytest.raises(InputError):
        agent(model, tokenizer, **bad)
