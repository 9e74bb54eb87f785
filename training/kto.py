"""Learning from thumbs (KTO, Ethayarajh et al. 2024): one episode at a time, the agent's tokens only."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.errors import InputError
from devnull.training.data import encode, keep_fitting, prompt_ids
from devnull.training.dpo import reference_of
from devnull.training.settings import KTOSettings as KTOSettings
from devnull.training.settings import TooLong
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

_LEARNING_RATE = {"full": 1e-4, "lora": 1e-4, "qlora": 1e-4}


@dataclass
class MaskedCollator(DataCollatorForUnpairedPreference):  # type: ignore[misc]
    """Keeps of both completion masks only the agent's own tokens."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        for prefix in ("", "KL_"):
            width = batch[f"{prefix}completion_mask"].shape[1]
            masks = [[0] * len(example["prompt_ids"]) + example[f"{prefix}mask"] for example in examples]
            batch[f"{prefix}completion_mask"] = torch.tensor([mask + [0] * (width - len(mask)) for mask in masks])
        return batch


class MaskedKTOTrainer(KTOTrainer):  # type: ignore[misc]
    """Takes rows that are tokens and masks already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "completion_ids", "KL_completion_ids", "mask", "KL_mask", "label"]


def thumb_dataset(thumbs: Iterable[Rating], tokenizer: Any, max_length: int, *, too_long: TooLong = "error") -> Dataset:
    """A row an episode, with another episode's completion beside it for the estimate of the divergence.

    Raises `InputError` where all thumbs point the same way, for then nothing is compared with anything.
    """
    rows: list[dict[str, Any]] = []
    for thumb in thumbs:
        if thumb.levels != 2:
            raise InputError(
                f"a rating of {thumb.levels} levels is no thumb; label with an evaluator that gives thumbs"
            )
        prompt = prompt_ids(tokenizer, thumb.prompt)
        encoded = encode(tokenizer, (*thumb.prompt, *thumb.completion))
        ids, mask = encoded.ids[len(prompt) :], encoded.mask[len(prompt) :]
        if not any(mask):
            raise InputError(f"the episode {thumb.key} holds no token of the agent")
        rows.append({"prompt_ids": prompt, "completion_ids": ids, "mask": mask, "label": bool(thumb.value)})
    if len({row["label"] for row in rows}) < 2:
        raise InputError(f"all {len(rows)} thumbs point the same way, so they say nothing; label more episodes")
    lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
    rows = keep_fitting(rows, lengths, max_length, too_long, "episodes")
    for row, other in zip(rows, [*rows[-1:], *rows[:-1]], strict=True):
        row["KL_completion_ids"], row["KL_mask"] = other["completion_ids"], other["mask"]
    return Dataset.from_list(rows)


def train_kto(
    settings: KTOSettings,
    thumbs: Iterable[Rating],
    model_path: str | Path,
    out: Path,
    *,
    about: About = NOTHING,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Trains on thumbs, the rarer kind weighing as much in all as the other; `out` then holds the model.

    `about` goes into its card.
    """
    policy = prepare(settings, model_path)
    dataset = thumb_dataset(thumbs, policy.tokenizer, context_limit(settings, policy), too_long=settings.too_long)
    up = sum(dataset["label"])
    down = len(dataset) - up
    trainer = MaskedKTOTrainer(
        model=policy.model,
        ref_model=reference_of(policy),
        args=KTOConfig(
            **trl_arguments(settings, policy, out, _LEARNING_RATE[policy.adaptation]),
            max_length=None,
            beta=settings.beta,
            desirable_weight=max(1.0, down / up),
            undesirable_weight=max(1.0, up / down),
            lr_scheduler_type="constant",
        ),
        train_dataset=dataset,
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings.lora_rank),
        data_collator=MaskedCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[Watch(on_step)],
    )
    return fit(trainer, settings, policy, out, kind="kto", facts={**about, "thumbs up": up, "thumbs down": down})
