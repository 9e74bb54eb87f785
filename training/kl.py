"""Log probability of whole episodes, from which the divergence of two policies is estimated."""

from collections.abc import Sequence
from typing import Any

import torch

from devnull.training.models import LoadedPolicy
from devnull.training.token_agent import TokenHistory


def episode_log_probs(
    model: Any, policy: LoadedPolicy, histories: Sequence[TokenHistory], batch: int = 4
) -> torch.Tensor:
    """log π of each episode in nats, summed over the agent's own tokens: shape (episodes,), with gradients if enabled.

    Args:
        model: The one to ask; may differ from `policy.model` (with adapters, or a reference).
        batch: Episodes that go through the model at once.
    """
    return split_log_probs(model, policy, histories, batch).sum(1)


def split_log_probs(
    model: Any, policy: LoadedPolicy, histories: Sequence[TokenHistory], batch: int = 4
) -> torch.Tensor:
    """The same in two parts, shape (episodes, 2): the commands, with the decision to end the work; and the words of the
    final report (`TokenHistory.report_words`), on which nothing depends. Arguments as there."""
    sums = []
    pad = policy.tokenizer.pad_token_id
    for first in range(0, len(histories), batch):
        some = histories[first : first + batch]
        rows = [torch.tensor(history.prompt + history.completion) for history in some]
        masks = [torch.tensor([0] * len(history.prompt) + history.mask) for history in some]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True).to(model.device)
        attention = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        # Only positions before a token of the agent's get logits: with large vocabularies they are most of the work.
        before = mask[:, 1:].any(0).nonzero()[:, 0]
        output = model(input_ids=ids, attention_mask=attention.to(model.device), logits_to_keep=before)
        log_probs = torch.log_softmax(output.logits.float(), -1).gather(-1, ids[:, before + 1, None])[..., 0]
        words = torch.zeros_like(mask)
        for row, history in enumerate(some):
            begin = len(history.prompt)
            words[row, begin + history.report_words.start : begin + history.report_words.stop] = 1
        parts = torch.stack([mask * (1 - words), mask * words], -1)[:, before + 1]
        sums.append((log_probs[..., None] * parts).sum(1))
    return torch.cat(sums)


def log_ratios(model: Any, reference: Any, policy: LoadedPolicy, histories: Sequence[TokenHistory]) -> torch.Tensor:
    """Σ log π/π_ref over the agent's tokens of the model's own episodes, in the parts of `split_log_probs`, shape
    (episodes, 2), without gradients. Its mean is an unbiased estimate of KL(π || π_ref) of whole episodes.

    Args:
        reference: π_ref; `None`: the model with its adapters off.
    """
    with torch.no_grad():
        ours = split_log_probs(model, policy, histories)
        if reference is not None:
            return ours - split_log_probs(reference.to(model.device), policy, histories)
        with model.disable_adapter():
            return ours - split_log_probs(model, policy, histories)
