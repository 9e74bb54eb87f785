"""Kahneman-Tversky optimisation (KTO, Ethayarajh et al. 2024) from thumbs, with the loss on the agent's tokens only."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.errors import InputError
from devnull.training.data import kto_dataset
from devnull.training.memory import StepSize
from devnull.training.model_card import NO_FACTS, CardFacts
from devnull.training.sampling import Sampling
from devnull.training.settings import KTOSettings
from devnull.training.train_result import TrainResult
from devnull.training.trl_run import (
    ProgressCallback,
    StepCallback,
    context_limit,
    load_for_training,
    run_trainer,
    trl_arguments,
)


@dataclass
class MaskedUnpairedCollator(DataCollatorForUnpairedPreference):  # type: ignore[misc]
    """Keeps of both completion masks only the agent's own tokens."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        for prefix in ("", "KL_"):
            width = batch[f"{prefix}completion_mask"].shape[1]
            masks = [[0] * len(example["prompt_ids"]) + example[f"{prefix}mask"] for example in examples]
            batch[f"{prefix}completion_mask"] = torch.tensor([mask + [0] * (width - len(mask)) for mask in masks])
        return batch


class MaskedKTOTrainer(KTOTrainer):  # type: ignore[misc]
    """Takes rows that are tokens and masks already (`devnull.training.data.kto_dataset`)."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "completion_ids", "KL_completion_ids", "mask", "KL_mask", "label"]


def train_kto(
    settings: KTOSettings,
    ratings: Iterable[Rating],
    model_path: str | Path,
    out: Path,
    *,
    card_facts: CardFacts = NO_FACTS,
    on_step: StepCallback | None = None,
    sampling: Sampling | None = None,
) -> TrainResult:
    """Trains on thumbs, the rarer kind weighing as much in all as the other; the folder `out` then holds the model.

    `card_facts` goes into its model card; on `sampling` the policy is sampled while it learns.
    """
    if settings.batch_size < 2:
        raise InputError(
            f"batch_size is {settings.batch_size}; kto estimates its KL reference point from the other episodes of a "
            f"batch, so it must be at least 2"
        )
    policy = load_for_training(settings, model_path)
    dataset = kto_dataset(
        ratings,
        policy.tokenizer,
        context_limit(settings, policy),
        too_long=settings.too_long,
        seed=settings.seed,
    )
    up = sum(dataset["label"])
    down = len(dataset) - up
    trainer = MaskedKTOTrainer(
        model=policy.model,
        ref_model=policy.frozen_copy(),
        args=KTOConfig(
            **trl_arguments(settings, policy, out),
            max_length=None,
            beta=settings.beta,
            desirable_weight=max(1.0, down / up),
            undesirable_weight=max(1.0, up / down),
        ),
        train_dataset=dataset,
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings),
        data_collator=MaskedUnpairedCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[ProgressCallback(on_step)],
    )
    lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in dataset]
    step = StepSize(min(settings.batch_size, len(dataset)), max(lengths), int(fmean(map(sum, dataset["mask"]))))
    facts = {**card_facts, "thumbs up": up, "thumbs down": down}
    return run_trainer(trainer, settings, policy, out, kind="kto", facts=facts, step=step, sampling=sampling)
