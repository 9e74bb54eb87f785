"""Keys and values with room hold what transformers' own layers would, and copy it no oftener than they must."""

import random

import pytest
import torch
from transformers import LlamaConfig, MistralConfig
from transformers.cache_utils import DynamicLayer

from devnull.agents.key_value_cache import ROOM, BatchState, RoomyLayer, join_batches, keeps_all_tokens, roomy_cache

CONFIG = LlamaConfig(num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3, hidden_size=24)


def states(rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 3, tokens, 4), torch.randn(rows, 3, tokens, 2)  # values may be narrower than keys


def batch(lengths: list[int]) -> BatchState:
    """Rows of these lengths, padded on the left; what stands in the padding is no number."""
    width = max(lengths)
    mask = torch.tensor([[0] * (width - length) + [1] * length for length in lengths])
    cache = roomy_cache(CONFIG)
    for layer in range(2):
        padding = (mask == 0)[:, None, :, None]
        cache.update(*(each.masked_fill(padding, torch.nan) for each in states(len(lengths), width)), layer)
    return BatchState(torch.randn(len(lengths), 7), mask, cache)


def rows_of(state: BatchState) -> list[tuple[torch.Tensor, ...]]:
    """Of each row, the keys and values of its tokens in each layer."""
    return [
        tuple(held[row][:, mask.bool()] for layer in state.cache.layers for held in (layer.keys, layer.values))
        for row, mask in enumerate(state.mask)
    ]


def equal(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_it_holds_what_a_layer_of_transformers_holds() -> None:
    ours, theirs, draw = RoomyLayer(), DynamicLayer(), random.Random(0)
    torch.manual_seed(0)
    for _ in range(3 * ROOM):
        new = states(5, draw.choice([1, 1, 1, 1, 30]))
        returned = ours.update(*new)
        assert all(map(torch.equal, returned, theirs.update(*new)))
        assert ours.get_seq_length() == theirs.get_seq_length()
        if draw.random() < 0.1:
            order = torch.tensor([draw.randrange(5) for _ in range(5)])
            ours.reorder_cache(order)
            theirs.reorder_cache(order)
    assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


def test_tokens_are_written_beside_the_others() -> None:
    layer = RoomyLayer()
    layer.update(*states(4, 10))
    places = set()
    for _ in range(ROOM):
        layer.update(*states(4, 1))
        layer.close_up(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long), 4)
        places.add((layer.keys.data_ptr(), layer.values.data_ptr()))
    assert len(places) == 1
    layer.update(*states(4, 1))
    assert (layer.keys.data_ptr(), layer.values.data_ptr()) not in places


@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4], [0, 2], [4], [1, 3, 4], [0, 1, 4], [3, 4]])
def test_rows_that_stay_are_moved_whole(places: list[int]) -> None:
    torch.manual_seed(0)
    state = batch([3, 9, 4, 7, 5])
    before = rows_of(state)
    order = state.keep(places)
    assert sorted(order) == places and len(state.mask) == len(places)
    for found, place in zip(rows_of(state), order, strict=True):
        assert equal(found, before[place])


def test_joined_rows_are_what_they_were_and_their_padding_is_a_number() -> None:
    torch.manual_seed(0)
    parts = [batch([3, 9]), batch([12]), batch([2, 4, 6])]
    parts[1].keep([0])
    before = [row for part in parts for row in rows_of(part)]
    logits = torch.cat([part.logits for part in parts])
    joined = join_batches(parts)
    assert joined.mask.sum(1).tolist() == [3, 9, 12, 2, 4, 6] and torch.equal(joined.logits, logits)
    assert all(map(equal, rows_of(joined), before))
    layer = joined.cache.layers[0]
    assert layer.keys[3:, :, :6].isfinite().all()  # what the wider batch made them be padded with
    held = layer.keys.data_ptr()
    joined.cache.update(*states(6, 1), 0)
    assert layer.keys.data_ptr() == held


def test_columns_that_are_padding_in_all_rows_are_cut_where_batches_join() -> None:
    one = batch([3, 20])
    one.keep([0])
    assert join_batches([one, batch([5])]).mask.tolist() == [[0, 0, 1, 1, 1], [1] * 5]


def test_layers_that_forget_stay_those_of_transformers() -> None:
    assert keeps_all_tokens(roomy_cache(CONFIG))
    sliding = roomy_cache(MistralConfig(num_hidden_layers=2, sliding_window=8))
    assert not keeps_all_tokens(sliding) and not any(isinstance(layer, RoomyLayer) for layer in sliding.layers)
