"""Continuous batching: whoever joins when, each message is the one it would be alone; in fewer forward passes."""

import heapq
import random
from collections import deque

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from devnull.agents import local
from devnull.agents.decoding import STEPS_BETWEEN_JOINS
from devnull.agents.local import LocalModel
from tests.fakes import byte_tokenizer

TOKENIZER = byte_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
SHAPE = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def agent(batch_size: int = 64, **more) -> LocalModel:
    torch.manual_seed(0)
    model = more.pop("model", None) or LlamaForCausalLM(LlamaConfig(**SHAPE))
    return LocalModel.from_model(model, TOKENIZER, name="x", **{"max_new_tokens": 40, "batch_size": batch_size} | more)


def prompts(count: int) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(5, 200) for _ in range(draw.randrange(3, 40))] for _ in range(count)]


@pytest.mark.parametrize("cached", [0, 32])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_whoever_joins_when_says_what_it_would_alone(temperature: float, cached: int) -> None:
    """Conversations of three messages, which join whenever there is room; with what was read kept and without."""
    model, begun = agent(temperature=temperature, max_new_tokens=15), prompts(20)
    model.prefix_cache = deque(maxlen=cached)  # kept by itself only for a large model on a CPU
    decoder, owed, said, asked = model.open_decoder(), [(row, 0) for row in range(20)], {}, {}
    assert decoder is not None
    draw, joins = random.Random(1), 0
    while owed or len(decoder):
        if owed and decoder.room:
            joins += 1
            joining, owed = owed[: 1 + joins % 5], owed[1 + joins % 5 :]
            for row, turn in joining:
                before = asked[row, turn - 1] + said[row, turn - 1] if turn else begun[row]
                asked[row, turn] = [*before, *(draw.randrange(5, 200) for _ in range(draw.randrange(1, 12)))]
            decoder.add(joining, [asked[key] for key in joining], [3 * row + turn for row, turn in joining])
        for (row, turn), completion in decoder.step():
            said[row, turn] = completion
            owed += [(row, turn + 1)] if turn < 2 else []
    assert len(said) == 60 and joins > 8
    model.prefix_cache = deque(maxlen=0)
    for (row, turn), completion in said.items():
        assert completion == model.generate([asked[row, turn]], [3 * row + turn])[0], (row, turn)


@pytest.mark.parametrize(("rounding", "repeats"), [(2e-2, True), (0.0, False)])
def test_a_draw_that_rounding_may_decide_is_made_alone(
    monkeypatch: pytest.MonkeyPatch, rounding: float, repeats: bool
) -> None:
    """Rounding a thousand times as coarse as float32's, another in every batch: without a second look words differ."""
    forward, noise = LocalModel._forward, torch.Generator().manual_seed(0)

    def noisy(self, *rest):
        logits = forward(self, *rest)
        return logits + (1e-3 * torch.randn(logits.shape, generator=noise) if len(logits) > 1 else 0)

    monkeypatch.setattr(LocalModel, "_forward", noisy)
    monkeypatch.setattr(local, "ROUNDING", rounding)
    model, asked = agent(), prompts(6)
    once, again = (model.generate(asked, range(6)) for _ in range(2))
    assert (once == again) is repeats


def test_prompts_that_are_read_in_parts_are_read_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal ones once, each in its own place."""
    model, asked = agent(), prompts(9)
    asked = asked[:5] + asked[2:3] + asked[5:] + asked[:1]
    widths = []
    forward = LocalModel._forward

    def counted(self, tokens, *rest):
        widths.append(tuple(tokens.shape))
        return forward(self, tokens, *rest)

    monkeypatch.setattr(LocalModel, "_forward", counted)
    at_once = model.generate(asked, range(11))
    assert widths[0] == (9, max(map(len, asked)))
    widths.clear()
    monkeypatch.setattr(local, "TOKENS_READ_AT_ONCE", 100)
    assert model.generate(asked, range(11)) == at_once
    parts = widths[: widths.index((11, 1))]
    assert sum(rows for rows, _ in parts) == 9 and len(parts) > 2
    assert [width for _, width in parts] == sorted(width for _, width in parts)


def test_room_is_what_the_batch_has_left_and_not_at_every_token() -> None:
    decoder = agent(batch_size=4).open_decoder()
    assert decoder is not None and decoder.room == 4
    decoder.add("ab", prompts(2), [0, 1])
    rooms = [(decoder.step(), decoder.room)[1] for _ in range(STEPS_BETWEEN_JOINS)]
    assert rooms[:-1] == [0] * (STEPS_BETWEEN_JOINS - 1) and rooms[-1] == 4 - len(decoder)
    assert agent(batch_size=1).open_decoder() is None


def test_layers_that_forget_are_decoded_batch_by_batch() -> None:
    model = agent(model=MistralForCausalLM(MistralConfig(**SHAPE, head_dim=16, sliding_window=8)))
    decoder = model.open_decoder()
    assert decoder is not None
    decoder.add("abc", prompts(3), [0, 1, 2])
    while len(decoder):
        assert decoder.room == 0
        decoder.step()
    assert decoder.room == 64


def forwards_until_all_have_spoken(monkeypatch: pytest.MonkeyPatch, *, joining: bool) -> int:
    """16 episodes of 3 messages each, whose boxes take between 0 and 60 forward passes to answer: how many pass, idle
    ones included."""
    clock = [0]
    forward = LocalModel._forward

    def counted(self, *rest):
        clock[0] += 1
        return forward(self, *rest)

    monkeypatch.setattr(LocalModel, "_forward", counted)
    decoder, draw = agent().open_decoder(), random.Random(1)
    delays = {(row, turn): draw.choice([0, 5, 20, 60]) for row in range(16) for turn in range(3)}
    answered = [(delays[row, 0], row, 0) for row in range(16)]
    while answered or len(decoder):
        heapq.heapify(answered)
        ready = [each for each in answered if each[0] <= clock[0]]
        if ready and decoder.room and (joining or not len(decoder)):
            answered = [each for each in answered if each not in ready]
            decoder.add([each[1:] for each in ready], prompts(len(ready)), [each[1] * 3 + each[2] for each in ready])
        if not len(decoder):
            clock[0] = max(clock[0], answered[0][0])
        for (row, turn), _ in decoder.step():
            if turn < 2:
                answered.append((clock[0] + delays[row, turn + 1], row, turn + 1))
    monkeypatch.undo()
    return clock[0]


def test_rows_go_on_while_others_wait_for_their_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    joining = forwards_until_all_have_spoken(monkeypatch, joining=True)
    waiting = forwards_until_all_have_spoken(monkeypatch, joining=False)
    assert joining < 0.85 * waiting, (joining, waiting)
