"""Log probability of whole episodes, from which the divergence of two policies is estimated."""

from collections.abc import Sequence
from typing import Any

import torch

from devnull.training.models import LoadedPolicy
from devnull.training.token_agent import TokenHistory

_CHUNK = 256
"""Positions that go through the head at once."""


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
        log_probs = _own_log_probs(model, ids, attention.to(model.device), mask)
        words = torch.zeros_like(mask)
        for row, history in enumerate(some):
            begin = len(history.prompt)
            words[row, begin + history.report_words.start : begin + history.report_words.stop] = 1
        parts = torch.stack([mask * (1 - words), mask * words], -1)
        sums.append((log_probs[..., None] * parts).sum(1))
    return torch.cat(sums)


def _own_log_probs(model: Any, ids: torch.Tensor, attention: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """log π of each token that `mask` has, given those before it, and 0 for the others: shape (rows, width).

    Only positions before a token of the agent's go through the head, `_CHUNK` at once: with 152,000 words the logits of
    one are 0.6 MB, and all of them at once were more than the model. A head whose logits the model still changes (a
    cap, a scale) is left to the model, all at once.
    """
    own = mask[:, 1:].bool()
    before = own.any(0).nonzero()[:, 0]
    rows, places = own[:, before].nonzero(as_tuple=True)
    targets = ids[rows, before[places] + 1]
    head = model.get_output_embeddings()
    found: dict[str, Any] = {}

    def in_chunks(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        found["first"] = head.forward(hidden[:, :1])  # `forward`, for a call would come here again
        own_hidden = zip(hidden[rows, places].split(_CHUNK), targets.split(_CHUNK), strict=True)
        found["chunks"] = [_log_probs(head.forward(states), words) for states, words in own_hidden]
        return (hidden[:, :1], *inputs[1:])

    with head.register_forward_pre_hook(in_chunks):
        output = model(input_ids=ids, attention_mask=attention, logits_to_keep=before)
    if torch.equal(output.logits.float(), found["first"].float()):
        drawn = torch.cat(found["chunks"])
    else:
        logits = model(input_ids=ids, attention_mask=attention, logits_to_keep=before).logits
        drawn = _log_probs(logits[rows, places], targets)
    return torch.zeros(ids.shape, device=ids.device).index_put((rows, before[places] + 1), drawn)


def _log_probs(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Of each row's word: (rows, vocabulary), (rows) → (rows)."""
    logits = logits.float()
    return logits.gather(-1, words[:, None])[:, 0] - logits.logsumexp(-1)


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
