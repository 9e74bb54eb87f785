"""Keys and values of the conversations of a batch, in tensors with room: a new token's are written beside the others.

A layer of transformers copies all that it holds for every token, and again for every row that leaves. Of 64
conversations of SmolLM2 on a CPU that was half of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Tokens that fit beside what is held before it is copied into larger tensors."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """The keys and values of one layer, (rows, heads, tokens, dimensions): views of the beginning of larger tensors."""

    keys: torch.Tensor
    values: torch.Tensor
    _with_room: tuple[torch.Tensor | None, torch.Tensor | None] = None, None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds what was read. Returns all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self._with_room
        keys, self.keys = _append(keys, self.keys, key_states)
        values, self.values = _append(values, self.values, value_states)
        self._with_room = keys, values
        return self.keys, self.values

    def close_up(self, holes: torch.Tensor, movers: torch.Tensor, rows: int) -> None:
        """Puts the rows `movers` into the places `holes`, and keeps the first `rows`."""
        for states in (self.keys, self.values):
            states[holes.to(states.device)] = states[movers.to(states.device)]
        self.keys, self.values = self.keys[:rows], self.values[:rows]

    def join(self, others: Sequence["RoomyLayer"], widths: Sequence[int]) -> None:
        """Puts the others' rows below these. Of each only the last so many tokens are kept, padded on the left."""
        keys, self.keys = _join([layer.keys for layer in (self, *others)], widths)
        values, self.values = _join([layer.values for layer in (self, *others)], widths)
        self._with_room = keys, values


def _append(with_room: torch.Tensor | None, held: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The tensor with room, another one if there was too little, and the view of what it holds."""
    rows, begin = len(new), held.shape[-2] if held.numel() else 0
    end = begin + new.shape[-2]
    if with_room is None or with_room.data_ptr() != held.data_ptr() or with_room.shape[-2] < end:
        with_room = new.new_empty(rows, new.shape[1], end + ROOM, new.shape[-1])
        if begin:
            with_room[:, :, :begin] = held
    with_room[:rows, :, begin:end] = new
    return with_room, with_room[:rows, :, :end]


def _join(states: Sequence[torch.Tensor], widths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor with room for the rows of all, and the view of what it holds."""
    first, width, rows = states[0], max(widths), list(accumulate(map(len, states)))
    with_room = first.new_empty(rows[-1], first.shape[1], width + ROOM, first.shape[-1])
    for end, part, own in zip(rows, states, widths, strict=True):
        place = with_room[end - len(part) : end]
        place[:, :, : width - own] = 0
        place[:, :, width - own : width] = part[:, :, part.shape[2] - own :]
    return with_room, with_room[:, :, :width]


def roomy_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of this configuration. Layers that forget tokens (a sliding window) or hold none
    (linear attention) are those of transformers."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def keeps_all_tokens(cache: DynamicCache) -> bool:
    """Whether each layer holds all that was read, so that rows can join and what was read can be used again."""
    return all(isinstance(layer, RoomyLayer) for layer in cache.layers)


@dataclass
class BatchState:
    """Where a batch is: its conversations are read, and their next tokens are to be drawn."""

    logits: torch.Tensor
    """Of the next token, (rows, vocabulary)."""
    mask: torch.Tensor
    """1 for a token, 0 for padding: (rows, tokens). Padding is on the left, and between a beginning that was known and
    what was read after it."""
    cache: DynamicCache

    def keep(self, places: Sequence[int]) -> list[int]:
        """Drops the other rows, of cache and mask. Returns which row is now where: the last ones fill the holes."""
        order = list(range(len(places)))
        movers = [place for place in places if place >= len(places)]
        holes = sorted(set(order) - set(places))
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        chosen, holes_at, movers_at = (
            torch.tensor(rows, device=self.mask.device, dtype=torch.long) for rows in (order, holes, movers)
        )
        self.mask = self.mask[chosen]
        if keeps_all_tokens(self.cache):
            for layer in self.cache.layers:
                layer.close_up(holes_at, movers_at, len(places))
        else:
            self.cache.reorder_cache(chosen)
        return order


def join_batches(states: Sequence[BatchState]) -> BatchState:
    """All rows in one batch, padded on the left to the same width; of caches that keep all tokens only. Columns on the
    left that are padding in all rows of a batch are cut."""
    widths = [state.mask.shape[1] - int(state.mask.any(0).int().argmax()) for state in states]
    width = max(widths)
    masks = [
        torch.nn.functional.pad(state.mask[:, state.mask.shape[1] - own :], (width - own, 0))
        for state, own in zip(states, widths, strict=True)
    ]
    cache = states[0].cache
    for layers in zip(*(state.cache.layers for state in states), strict=True):
        layers[0].join(layers[1:], widths)
    return BatchState(torch.cat([state.logits for state in states]), torch.cat(masks), cache)
