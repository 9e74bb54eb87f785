"""A language model with a head of one number, and the scores that it gives whole conversations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from devnull.theory.pomdp import Array
from devnull.training.data import tokenize_conversation
from devnull.training.models import LoadedPolicy
from devnull.training.weighted_preferences import WeightedConversations


def make_scoring_model(policy: LoadedPolicy) -> Any:
    """The policy's body with a new head of one number, read at the last token before the padding."""
    model = AutoModelForSequenceClassification.from_pretrained(
        policy.model.config._name_or_path, num_labels=1, dtype=policy.model.dtype, **policy.loaded_with
    )
    model.model.load_state_dict(policy.model.model.state_dict())
    model.config.pad_token_id = policy.tokenizer.pad_token_id
    return model


@dataclass(frozen=True, eq=False)
class DistinctConversations:
    """The conversations of many sides, each text once."""

    ids: tuple[tuple[int, ...], ...]
    """Token ids of each distinct conversation."""
    sides: int
    """How many sides there are."""
    entries: tuple[tuple[int, int, float], ...]
    """Side, conversation and weight of each conversation of each side."""

    def expected(self, values: Array) -> Array:
        """Σ weight · value of each side, `(sides, width)`; `values`: `(conversations, width)`."""
        side, at, weight = (np.array(column) for column in zip(*self.entries, strict=True))
        total = np.zeros((self.sides, values.shape[1]))
        np.add.at(total, side, weight[:, None] * values[at])
        return total


def distinct_conversations(tokenizer: Any, sides: Sequence[WeightedConversations]) -> DistinctConversations:
    """Tokenises each text once, whatever the number of sides that it stands on."""
    texts: dict[tuple[tuple[str, str], ...], int] = {}
    ids: list[tuple[int, ...]] = []
    entries = []
    for number, side in enumerate(sides):
        for chat, weight in side:
            text = tuple((message["role"], message["content"]) for message in chat)
            if text not in texts:
                texts[text] = len(ids)
                ids.append(tuple(tokenize_conversation(tokenizer, chat).ids))
            entries.append((number, texts[text], weight))
    return DistinctConversations(tuple(ids), len(sides), tuple(entries))


def expected_scores(model: Any, tokenizer: Any, sides: Sequence[WeightedConversations], batch: int = 16) -> list[float]:
    """Σ weight · score of each side. Runs `batch` distinct conversations at once, without gradients."""
    if not sides:
        return []
    found = distinct_conversations(tokenizer, sides)
    return [float(value) for value in found.expected(_run(model, tokenizer, found, batch, features=False))[:, 0]]


def last_features(model: Any, tokenizer: Any, found: DistinctConversations, batch: int = 16) -> Array:
    """What the head reads of each distinct conversation, `(conversations, width)`: its last token's hidden state."""
    return _run(model, tokenizer, found, batch, features=True)


def _run(model: Any, tokenizer: Any, found: DistinctConversations, batch: int, *, features: bool) -> Array:
    """A row a conversation: its score, or what the head reads. Conversations of like length share a batch."""
    order = sorted(range(len(found.ids)), key=lambda at: len(found.ids[at]))
    parts = []
    training = model.training
    model.eval()
    for first in range(0, len(order), batch):
        rows = [torch.tensor(found.ids[at]) for at in order[first : first + batch]]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        with torch.no_grad():
            out = model(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), output_hidden_states=features
            )
        last = torch.arange(len(rows)), mask.sum(1) - 1
        parts.append((out.hidden_states[-1][last] if features else out.logits).double().cpu().numpy())
    model.train(training)
    values = np.concatenate(parts)
    placed = np.empty_like(values)
    placed[order] = values
    return placed
