"""Direct preference optimisation on whole episodes, with the loss on the agent's tokens only.

TRL would put the terminal's turns into the loss, so that a visible error message is itself trained away
from; and it would read a missing reference model again from disk, whatever the weights in memory are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.training.data import preference_dataset
from devnull.training.model_card import NO_FACTS, CardFacts
from devnull.training.models import LoadedPolicy
from devnull.training.sampling import Sampling
from devnull.training.settings import DPOSettings
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
class MaskedPreferenceCollator(DataCollatorForPreference):  # type: ignore[misc]
    """Keeps of the completion mask only the agent's own tokens."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        width = batch["completion_mask"].shape[1]
        masks = [
            [0] * len(example["prompt_ids"]) + example[f"{side}_mask"]
            for side in ("chosen", "rejected")
            for example in examples
        ]
        batch["completion_mask"] = torch.tensor([mask + [0] * (width - len(mask)) for mask in masks])
        return batch


class MaskedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """Takes rows that are tokens and masks already (`devnull.training.data.preference_dataset`)."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [f"{side}_{what}" for side in ("chosen", "rejected") for what in ("ids", "mask")] + [
            "prompt_ids",
            "ref_chosen_logps",
            "ref_rejected_logps",
        ]


def train_dpo(
    settings: DPOSettings,
    preferences: Iterable[Preference],
    model_path: str | Path,
    out: Path,
    *,
    card_facts: CardFacts = NO_FACTS,
    on_step: StepCallback | None = None,
    sampling: Sampling | None = None,
) -> TrainResult:
    """Trains on every pair whose sides differ; the folder `out` then holds the model.

    Args:
        card_facts: Further rows of the model card.
        on_step: Called after each optimiser step.
        sampling: What to sample the policy on while it learns.

    Raises:
        InputError: Nothing to learn from, a setting that cannot be, or a pair longer than `settings.max_length`.
    """
    _check(settings)
    policy = load_for_training(settings, model_path)
    dataset = preference_dataset(
        preferences, policy.tokenizer, context_limit(settings, policy), too_long=settings.too_long
    )
    trainer = make_dpo_trainer(settings, policy, dataset, out, on_step)
    facts = {**card_facts, "pairs": len(dataset)}
    return run_trainer(trainer, settings, policy, out, kind="dpo", facts=facts, sampling=sampling)


def _check(settings: DPOSettings) -> None:
    """TRL takes a share of wrong labels with any loss, though only `robust` uses it."""
    if not 0 <= settings.label_noise < 0.5:
        raise InputError(f"label_noise is {settings.label_noise}; it must be at least 0 and below 0.5")
    if settings.label_noise and "robust" not in settings.loss:
        raise InputError(
            f"label_noise is used by the robust loss only, not by {'+'.join(settings.loss)}; pass --loss robust sft"
        )


def make_dpo_trainer(
    settings: DPOSettings, policy: LoadedPolicy, dataset: Any, out: Path, on_step: StepCallback | None = None
) -> MaskedDPOTrainer:
    """The TRL trainer, its reference model taken from `policy` as it is in memory."""
    config = DPOConfig(
        **trl_arguments(settings, policy, out),
        max_length=None,
        beta=settings.beta,
        loss_type=list(settings.loss),
        label_smoothing=settings.label_noise,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=2,
    )
    return MaskedDPOTrainer(
        model=policy.model,
        ref_model=policy.frozen_copy(),
        args=config,
        train_dataset=dataset,
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings.lora_rank),
        data_collator=MaskedPreferenceCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[ProgressCallback(on_step)],
    )
