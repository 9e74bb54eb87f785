"""Direct preference optimisation on whole episodes, with the loss on the agent's tokens only.

TRL would put the terminal's turns into the loss, so that a visible error message is itself trained away
from; it would read a missing reference model again from disk, whatever the weights in memory are; and a step would
depend on how its batch is split (`gradient_accumulation`), for it takes the mean of the parts' means.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.training.data import preference_dataset
from devnull.training.memory import StepSize
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


_UNITS = ("pairs", "chosen", "rejected", "tokens")
"""What a batch can be counted in: its pairs; the agent's tokens of either side; those of both."""
_UNIT_OF_METRIC = {
    **dict.fromkeys(("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"), "pairs"),
    **dict.fromkeys(("logps/chosen", "logps/rejected"), "pairs"),
    **dict.fromkeys(("logits/chosen", "mean_token_accuracy"), "chosen"),
    "logits/rejected": "rejected",
    "entropy": "tokens",
}
"""Over what TRL's metrics are means."""


class MaskedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """Takes rows that are tokens and masks already (`devnull.training.data.preference_dataset`).

    Each part of a batch weighs by what it holds of the whole, over all accumulated parts and processes: by pairs, and
    in the `sft` term by the chosen sides' tokens.
    """

    _of_step: torch.Tensor
    """The step's counts by `_UNITS`, of all parts and processes."""
    loss_weights: list[float]
    """TRL's, one a term of the loss."""
    _parts = 1
    """How many parts the step has in this process."""

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The parts of the next step, counted."""
        parts, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if parts:
            self._parts = len(parts)
            self._of_step = self.accelerator.reduce(sum(map(_counts, parts)).to(device), "sum")
        return parts, items

    def compute_loss(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        """TRL's loss and metrics of one part, times its share of the step: what follows takes plain means."""
        mine = _counts(inputs)
        everyones = self.accelerator.reduce(mine, "sum")
        of_loss = mine * self._parts * self.accelerator.num_processes / self._of_step
        of_metric = dict(zip(_UNITS, (everyones * self._parts / self._of_step).tolist(), strict=True))
        plain = self.loss_weights
        pairs, chosen, *_ = of_loss.tolist()
        self.loss_weights = [
            weight * (chosen if kind == "sft" else pairs) for kind, weight in zip(self.loss_types, plain, strict=True)
        ]
        try:
            loss = super().compute_loss(model, inputs, *rest, **more)
        finally:
            self.loss_weights = plain
        for name, unit in _UNIT_OF_METRIC.items():
            self._metrics["train"][name][-1] *= of_metric[unit]
        return loss

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [f"{side}_{what}" for side in ("chosen", "rejected") for what in ("ids", "mask")] + [
            "prompt_ids",
            "ref_chosen_logps",
            "ref_rejected_logps",
        ]


def _counts(batch: dict[str, Any]) -> torch.Tensor:
    """How much a batch holds, by `_UNITS`, shape (4,)."""
    chosen, rejected = batch["completion_mask"].sum(1).chunk(2)
    pairs = torch.tensor(len(chosen), device=chosen.device)
    return torch.stack([pairs, chosen.sum(), rejected.sum(), chosen.sum() + rejected.sum()]).float()


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
    sides = [dataset["chosen_ids"], dataset["rejected_ids"]]
    longest = max(len(prompt) + max(map(len, two)) for prompt, *two in zip(dataset["prompt_ids"], *sides, strict=True))
    own = fmean(sum(mask) for mask in dataset["chosen_mask"])
    step = StepSize(2 * min(settings.batch_size, len(dataset)), longest, int(own))
    facts = {**card_facts, "pairs": len(dataset)}
    return run_trainer(trainer, settings, policy, out, kind="dpo", facts=facts, step=step, sampling=sampling)


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
        warmup_steps=2,
    )
    return MaskedDPOTrainer(
        model=policy.model,
        ref_model=policy.frozen_copy(),
        args=config,
        train_dataset=dataset,
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings),
        data_collator=MaskedPreferenceCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[ProgressCallback(on_step)],
    )
