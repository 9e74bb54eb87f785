"""Continuous batching: rows join a batch while it is being decoded, and leave it as they end.

A batch that is decoded to its end keeps every box waiting for the longest message, and the model for the slowest box.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache

from devnull.agents.key_value_cache import BatchState, join_batches, keeps_all_tokens

STEPS_BETWEEN_JOINS = 8
"""Reading new prompts is a forward pass of its own: those that come meanwhile are read together."""


@dataclass(frozen=True)
class DecodingFunctions:
    """What a `Decoder` asks of its model."""

    prefill: Callable[[Sequence[list[int]]], BatchState]
    """prompts → the batch of them, read."""
    forward: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, DynamicCache], torch.Tensor]
    """tokens (rows, 1), mask (rows, width), positions (rows, 1), keys and values → logits (rows, vocabulary)."""
    draw: Callable[[torch.Tensor, Sequence[float]], list[int]]
    """logits, a number between 0 and 1 a row → a token id a row."""
    unsure: Callable[[torch.Tensor, Sequence[float]], list[int]]
    """The same → places of the rows whose draw rounding may have decided: those are drawn again, read alone."""
    is_over: Callable[[Sequence[int], Sequence[int]], bool]
    """prompt, completion so far → whether it ends here."""
    on_end: Callable[[DynamicCache, int, torch.Tensor, Sequence[int]], None]
    """Called with keys and values, a row's place in them, the mask and all its token ids, before it leaves."""
    sampling: Callable[[], AbstractContextManager[None]]
    """Within it the model only samples."""


@dataclass
class _Row:
    key: Hashable
    prompt: list[int]
    generator: random.Random
    completion: list[int] = field(default_factory=list)


class Decoder:
    """A batch of messages that are being generated.

    Args:
        model: The functions of the model.
        capacity: Rows at once.
    """

    def __init__(self, model: DecodingFunctions, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        self._rows: list[_Row] = []
        self._state: BatchState | None = None
        self._steps = 0

    def __len__(self) -> int:
        """Rows that are being generated."""
        return len(self._rows)

    @property
    def room(self) -> int:
        """How many rows may join now."""
        if self._state is None:
            return self._capacity
        if self._steps < STEPS_BETWEEN_JOINS or not keeps_all_tokens(self._state.cache):
            return 0
        return self._capacity - len(self._rows)

    def add(self, keys: Sequence[Hashable], prompts: Sequence[list[int]], seeds: Sequence[int]) -> None:
        """Reads prompts, at most `room` of them; each draws from its own seed."""
        rows = [_Row(key, prompt, random.Random(seed)) for key, prompt, seed in zip(keys, prompts, seeds, strict=True)]
        with self._model.sampling():
            new = self._model.prefill(prompts)
            self._state = new if self._state is None else join_batches([self._state, new])
        self._rows += rows
        self._steps = 0

    def step(self) -> list[tuple[Hashable, list[int]]]:
        """Draws one token a row; returns key and token ids, the last one included, of the rows that it ends."""
        if self._state is None:
            return []
        with self._model.sampling():
            return self._step(self._state)

    def _step(self, state: BatchState) -> list[tuple[Hashable, list[int]]]:
        self._steps += 1
        keep: list[int] = []
        ended: list[_Row] = []
        for place, token in enumerate(self._draw(state.logits)):
            row = self._rows[place]
            row.completion.append(token)
            if self._model.is_over(row.prompt, row.completion):
                self._model.on_end(state.cache, place, state.mask, row.prompt + row.completion)
                ended.append(row)
            else:
                keep.append(place)
        if ended and keep:
            self._rows = [self._rows[place] for place in state.keep(keep)]
        if keep:
            tokens = torch.tensor([[row.completion[-1]] for row in self._rows], device=state.mask.device)
            state.mask = torch.cat([state.mask, state.mask.new_ones(len(keep), 1)], dim=1)
            positions = state.mask.sum(1, keepdim=True) - 1
            state.logits = self._model.forward(tokens, state.mask, positions, state.cache)
        else:
            self._rows, self._state = [], None
        return [(row.key, row.completion) for row in ended]

    def _draw(self, logits: torch.Tensor) -> list[int]:
        numbers = [row.generator.random() for row in self._rows]
        drawn = self._model.draw(logits, numbers)
        for place in self._model.unsure(logits, numbers):
            row = self._rows[place]
            alone = self._model.prefill([row.prompt + row.completion])
            drawn[place] = self._model.draw(alone.logits, numbers[place : place + 1])[0]
        return drawn
