"""Continuous batching: rows join a batch while it is being decoded, and leave it as they end.

A batch that is decoded to its end keeps every box waiting for the longest message, and the model for the slowest box.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

STEPS_BETWEEN_JOINS = 8
"""Reading new prompts is a forward pass of its own: those that come meanwhile are read together."""


@dataclass(frozen=True)
class DecodingFunctions:
    """What a `Decoder` asks of its model."""

    prefill: Callable[[Sequence[list[int]]], tuple[torch.Tensor, torch.Tensor, DynamicCache]]
    """prompts → logits after each (rows, vocabulary), padding mask (rows, width), keys and values."""
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
        self._state: tuple[torch.Tensor, torch.Tensor, DynamicCache] | None = None
        self._steps = 0

    def __len__(self) -> int:
        """Rows that are being generated."""
        return len(self._rows)

    @property
    def room(self) -> int:
        """How many rows may join now."""
        if self._state is None:
            return self._capacity
        if self._steps < STEPS_BETWEEN_JOINS or not _can_grow(self._state[2]):
            return 0
        return self._capacity - len(self._rows)

    def add(self, keys: Sequence[Hashable], prompts: Sequence[list[int]], seeds: Sequence[int]) -> None:
        """Reads prompts, at most `room` of them; each draws from its own seed."""
        rows = [_Row(key, prompt, random.Random(seed)) for key, prompt, seed in zip(keys, prompts, seeds, strict=True)]
        with self._model.sampling():
            new = self._model.prefill(prompts)
            self._state = new if self._state is None else _join(self._state, new)
        self._rows += rows
        self._steps = 0

    def step(self) -> list[tuple[Hashable, list[int]]]:
        """Draws one token a row; returns key and token ids, the last one included, of the rows that it ends."""
        if self._state is None:
            return []
        with self._model.sampling():
            return self._step(*self._state)

    def _step(self, logits: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> list[tuple[Hashable, list[int]]]:
        self._steps += 1
        keep: list[int] = []
        ended: list[_Row] = []
        for place, token in enumerate(self._draw(logits)):
            row = self._rows[place]
            row.completion.append(token)
            if self._model.is_over(row.prompt, row.completion):
                self._model.on_end(cache, place, mask, row.prompt + row.completion)
                ended.append(row)
            else:
                keep.append(place)
        if ended:
            self._rows = [self._rows[place] for place in keep]
            if keep:
                chosen = torch.tensor(keep, device=mask.device)
                cache.reorder_cache(chosen)
                mask = mask[chosen]
        self._state = None
        if keep:
            tokens = torch.tensor([[row.completion[-1]] for row in self._rows], device=mask.device)
            mask = torch.cat([mask, mask.new_ones(len(keep), 1)], dim=1)
            logits = self._model.forward(tokens, mask, mask.sum(1, keepdim=True) - 1, cache)
            self._state = logits, mask, cache
        return [(row.key, row.completion) for row in ended]

    def _draw(self, logits: torch.Tensor) -> list[int]:
        numbers = [row.generator.random() for row in self._rows]
        drawn = self._model.draw(logits, numbers)
        for place in self._model.unsure(logits, numbers):
            row = self._rows[place]
            alone, _, _ = self._model.prefill([row.prompt + row.completion])
            drawn[place] = self._model.draw(alone, numbers[place : place + 1])[0]
        return drawn


def _can_grow(cache: DynamicCache) -> bool:
    """Whether rows can join: not with layers that forget tokens (a sliding window) or hold none (linear attention)."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _join(
    one: tuple[torch.Tensor, torch.Tensor, DynamicCache], other: tuple[torch.Tensor, torch.Tensor, DynamicCache]
) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
    """Both batches' rows in one, padded on the left to the same width."""
    widths = [int(mask.sum(1).max()) for _, mask, _ in (one, other)]  # columns that are padding in all rows are cut
    width = max(widths)

    def fitted(values: Any, own: int, dimension: int) -> Any:
        values = values.narrow(dimension, values.shape[dimension] - own, own)
        return pad(values, [0, 0] * (values.dim() - 1 - dimension) + [width - own, 0])

    def joined(first: Any, second: Any, dimension: int) -> Any:
        return torch.cat([fitted(first, widths[0], dimension), fitted(second, widths[1], dimension)])

    cache = one[2]
    for mine, theirs in zip(cache.layers, other[2].layers, strict=True):
        mine.keys, mine.values = joined(mine.keys, theirs.keys, 2), joined(mine.values, theirs.values, 2)
    return torch.cat([one[0], other[0]]), joined(one[1], other[1], 1), cache
