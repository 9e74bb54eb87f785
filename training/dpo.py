"""Direct preference optimisation on whole episodes, with the loss on the agent's tokens only.

TRL would put the terminal's turns into the loss, so that a visible error message is itself trained away
from; and it would read a missing reference model again from disk, whatever the weights in memory are.
"""

import copy
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
from devnull.training.models import Policy
from devnull.training.settings import DPOSettings as DPOSettings
from devnull.training.trl_run import (
    NOTHING,
    About,
    OnStep,
    TrainResult,
    Watch,
    context_limit,
    fit,
    prepare,
    trl_arguments,
)

_LEARNING_RATE = {"full": 1.5e-4, "lora": 2e-4, "qlora": 2e-4}


@dataclass
class MaskedCollator(DataCollatorForPreference):  # type: ignore[misc]
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


def reference_of(policy: Policy) -> Any:
    """The frozen policy to stay near: a copy of the weights in memory; `None` where adapters can be switched off."""
    return copy.deepcopy(policy.model).eval() if policy.adaptation == "full" else None


def train_dpo(
    settings: DPOSettings,
    preferences: Iterable[Preference],
    model_path: str | Path,
    out: Path,
    *,
    about: About = NOTHING,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Trains on every pair whose sides differ; `out` then holds the model. `about` goes into its card."""
    _check(settings)
    policy = prepare(settings, model_path)
    dataset = preference_dataset(
        preferences, policy.tokenizer, context_limit(settings, policy), too_long=settings.too_long
    )
    trainer = make_trainer(settings, policy, dataset, out, on_step)
    return fit(trainer, settings, policy, out, kind="dpo", facts={**about, "pairs": len(dataset)})


def _check(settings: DPOSettings) -> None:
    """TRL takes a share of wrong labels with any loss, and only `robust` heeds it."""
    if not 0 <= settings.label_noise < 0.5:
        raise InputError(f"label_noise is {settings.label_noise}; it must be at least 0 and below 0.5")
    if settings.label_noise and "robust" not in settings.loss:
        raise InputError(
            f"label_noise is heeded by the robust loss only, not by {'+'.join(settings.loss)}; pass --loss robust sft"
        )


def make_trainer(
    settings: DPOSettings, policy: Policy, dataset: Any, out: Path, on_step: OnStep | None = None
) -> MaskedDPOTrainer:
    """The TRL trainer, its reference model taken from `policy` as it is in memory."""
    config = DPOConfig(
        **trl_arguments(settings, policy, out, _LEARNING_RATE[policy.adaptation]),
        max_length=None,
        beta=settings.beta,
        loss_type=list(settings.loss),
        label_smoothing=settings.label_noise,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=2,
    )
    return MaskedDPOTrainer(
        model=policy.model,
        ref_model=reference_of(policy),
        args=config,
        train_dataset=dataset,
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings.lora_rank),
        data_collator=MaskedCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[Watch(on_step)],
    )
