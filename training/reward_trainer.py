"""TRL's reward trainer on weighted conversations: a conversation that several sides share is scored once a batch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from devnull.training.weighted_preferences import SIDES


@dataclass
class WeightedPreferenceCollator(DataCollatorForPreference):  # type: ignore[misc]
    """The conversations of all sides as one batch, each text once: all chosen sides, then all rejected ones.

    `input_ids` and `attention_mask` are (distinct conversations, tokens). An entry is one conversation of one side:
    `row`, which of the distinct ones it is, `side`, the number of its side (pairs, chosen first, then rejected), and
    `weight`, all (entries,).
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        distinct: dict[tuple[int, ...], int] = {}
        entries = [
            (distinct.setdefault(tuple(ids), len(distinct)), number, weight)
            for number, (side, example) in enumerate((side, example) for side in SIDES for example in examples)
            for ids, weight in zip(example[f"{side}_ids"], example[f"{side}_weights"], strict=True)
        ]
        rows = [torch.tensor(ids) for ids in distinct]
        return {
            "input_ids": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            "row": torch.tensor([row for row, _, _ in entries]),
            "side": torch.tensor([side for _, side, _ in entries]),
            "weight": torch.tensor([weight for _, _, weight in entries], dtype=torch.float32),
        }


class PromptSampler(Sampler[int]):  # type: ignore[misc]
    """All pairs of one prompt after another, the prompts in an order drawn anew for each epoch."""

    def __init__(self, prompts: Sequence[str], seed: int) -> None:
        """`prompts`: the prompt of each pair."""
        self.prompts, self.seed, self.epoch = prompts, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each pass over the data, of a resumed run too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[int]:
        places: dict[str, list[int]] = {}
        for place, prompt in enumerate(self.prompts):
            places.setdefault(prompt, []).append(place)
        order = list(places)
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        return iter([place for prompt in order for place in places[prompt]])


class WeightedRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """Bradley-Terry on each side's expected score: loss -log σ(β (chosen - rejected)), averaged over the pairs.

    One conversation of weight 1 a side is the plain model. Takes rows as `reward_rows` makes them.
    """

    rationality = 1.0
    """The evaluator's β."""
    sampler: PromptSampler | None = None
    """The order of the pairs; `None`: at random."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.sampler if self.sampler is not None else super()._get_train_sampler(train_dataset)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [f"{side}_{what}" for side in SIDES for what in ("ids", "weights")]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        row, side, weight = (inputs.pop(name) for name in ("row", "side", "weight"))
        outputs = model(**inputs, use_cache=False)
        scores = outputs.logits.squeeze(-1).float()[row] * weight
        value = torch.zeros(int(side.max()) + 1, device=scores.device).index_add(0, side, scores)
        chosen, rejected = value.chunk(2)
        margin = chosen - rejected
        loss = -torch.nn.functional.logsigmoid(self.rationality * margin).mean()
        logged = self._metrics["train" if self.model.training else "eval"]
        logged["accuracy"].append((margin > 0).float().mean().item())
        logged["margin"].append(margin.mean().item())
        return (loss, outputs) if return_outputs else loss
