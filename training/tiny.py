"""The tiny model: random weights, except for attention heads that can look up and copy what the prompt says.

A two-layer transformer learns to copy file names (an induction head: find where the last tokens stood before,
predict what came next) only after millions of tokens; a few hundred episodes never get it there, and it would
remember its training tasks instead of reading new ones. So the circuit is written in at the start: three
heads of the first layer carry the last three tokens along, two heads of the second compare them with what
went before each place and copy from where they agree (Elhage et al. 2021, Olsson et al. 2022). On repeated
random tokens the untrained model names the next one in 99 of 100 cases; everything else it must learn.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from devnull.training.chat_template import CHATML
from devnull.training.frozen import FROZEN_KEY
from devnull.training.models import save_model

_WIDTH, _HEADS, _HEAD = 128, 4, 64
"""Of the residual stream; a layer; each head."""
_OWN, _LAG = 44, 28
"""The residual stream starts as the token's own code (44 numbers) and room for three codes of tokens before it."""
_LAGS = 3
_THETA = 1e8
"""Base of the rotary positions: so large that two thirds of each head's planes hardly turn over a whole context and
can compare contents, while the first few turn fast enough to tell neighbours apart."""
_FAST, _SLOW = 6, 10
"""Planes before `FAST` tell positions, those from `SLOW` on compare contents."""


SHIPPED_TOKENIZER = Path(__file__).with_name("tiny_tokenizer.json")
"""The tokenizer of every `tiny` model, unless it is given texts of its own (`scripts/tiny_tokenizer.py` made it)."""
VOCABULARY = 640
"""Tokens. From 576 on ` 2>/dev/null` is six of them; at 512 it was ten, and the policy seldom spelt it to its end."""
_CIRCUIT = ("self_attn", "embed_tokens", "model.layers.0.*")
"""The weights that hold the circuit, and the layer that it reads: fine-tuning on rewards leaves them as they are
(`devnull.training.frozen`). What learns sits behind the circuit and says when to copy, and what else to say."""


def make_tiny_model(path: Path, texts: Iterable[str] | None = None, seed: int = 0) -> Path:
    """Saves an untrained model of 0.5 M parameters, with its tokenizer, in the folder `path`.

    Args:
        texts: What to train a tokenizer on; none: the shipped one, so that every seed spells alike.
        seed: Of the random weights.
    """
    model, tokenizer = build_tiny_model(texts, seed)
    return save_model(model, tokenizer, path)


def build_tiny_model(
    texts: Iterable[str] | None, seed: int, *, vocabulary: int = VOCABULARY, context: int = 2048
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A two-layer Llama of 0.5 M parameters and a byte-level BPE tokenizer: the shipped one, or trained on `texts`.

    Its config names the weights of the circuit, which reinforcement learning leaves alone. Torch's random
    state stays as it was.

    Args:
        vocabulary: Tokens that a tokenizer trained on `texts` may have.
        context: Longest conversation, in tokens.
    """
    if texts is None:
        tokenizer = Tokenizer.from_file(str(SHIPPED_TOKENIZER))
    else:
        tokenizer = train_tiny_tokenizer(texts, vocabulary)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=context,
        chat_template=CHATML,
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        head_dim=_HEAD,
        attention_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": _THETA},
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        **{FROZEN_KEY: list(_CIRCUIT)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    _write_copying_circuit(model)
    return model, fast


def train_tiny_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """A byte-level BPE tokenizer, which spells any text. Digits are tokens of their own, so that a version never seen
    before is written in known tokens."""
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    tokenizer.train_from_iterator([*texts, "system\nuser\nassistant\n"], trainer)
    return tokenizer


def _write_copying_circuit(model: Any) -> None:
    """Writes the circuit over some of the random weights."""
    model.requires_grad_(False)
    codes = model.model.embed_tokens.weight
    codes.mul_(math.sqrt(_WIDTH / _OWN))
    codes[:, _OWN:] = 0
    carry, copy = (layer.self_attn for layer in model.model.layers)
    for lag in range(_LAGS):
        _write_carrying_head(carry, head=lag, distance=lag + 1)
    for head, first in ((0, 0), (1, _LAG // 2)):
        _write_copying_head(copy, head=head, first=first)
    model.requires_grad_(True)


def _write_carrying_head(attention: Any, head: int, distance: int) -> None:
    """Always looks `distance` tokens back, and writes that token's code into its room of the residual stream."""
    half = _HEAD // 2
    rows = slice(head * _HEAD, (head + 1) * _HEAD)
    speed = _THETA ** (-torch.arange(_FAST) / half)
    # The score at distance d is strength² Σ cos(speed (d - distance)) / √HEAD: highest at the distance wanted,
    # and seven nats below it next door.
    strength = math.sqrt(7 * math.sqrt(_HEAD) / float((1 - torch.cos(speed)).sum()))
    for projection, angle in ((attention.q_proj, -distance * speed), (attention.k_proj, 0 * speed)):
        projection.weight[rows] = 0
        bias = torch.zeros(_HEAD)
        bias[:_FAST] = strength * torch.cos(angle)
        bias[half : half + _FAST] = strength * torch.sin(angle)
        projection.bias[rows] = bias
    attention.v_proj.weight[rows] = 0
    attention.v_proj.weight[rows.start : rows.start + _LAG, :_LAG] = torch.eye(_LAG)
    attention.o_proj.weight[:, rows] = 0
    room = _OWN + _LAG * head
    attention.o_proj.weight[room : room + _LAG, rows.start : rows.start + _LAG] = 0.022 * torch.eye(_LAG)


def _write_copying_head(attention: Any, head: int, first: int) -> None:
    """Looks for a place whose three tokens before are the last three tokens, and predicts the token at that place.

    `first`: which half of each code this head compares.
    """
    half, part = _HEAD // 2, _LAG // 2
    rows = slice(head * _HEAD, (head + 1) * _HEAD)
    planes = [*range(_SLOW, half), *range(half + _SLOW, _HEAD)]
    query, key = torch.zeros(_HEAD, _WIDTH), torch.zeros(_HEAD, _WIDTH)
    for lag in range(_LAGS):
        now = first if lag == 0 else _OWN + _LAG * (lag - 1) + first
        then = _OWN + _LAG * lag + first
        for i in range(part):
            plane = planes[part * lag + i]
            query[plane, now + i] = 2.0
            key[plane, then + i] = 2.0
    attention.q_proj.weight[rows] = query
    attention.k_proj.weight[rows] = key
    attention.v_proj.weight[rows] = 0
    attention.v_proj.weight[rows.start : rows.start + _OWN, :_OWN] = torch.eye(_OWN)
    attention.o_proj.weight[:, rows] = 0
    attention.o_proj.weight[:_OWN, rows.start : rows.start + _OWN] = 0.05 * torch.eye(_OWN)
