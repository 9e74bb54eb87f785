"""How to train: the settings of every trainer. Light, so that `--help` need not load torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from devnull.sandbox.errors import InputError

Adaptation = Literal["auto", "full", "lora", "qlora"]
"""Which weights learn: all, low-rank adapters, or adapters on a base held in 4 bits (bitsandbytes NF4).
`auto`: all of a model below ten million parameters, adapters otherwise."""

TooLong = Literal["error", "drop"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train; what every trainer takes."""

    adaptation: Adaptation = "auto"
    """Which weights learn: full (all), lora (adapters), qlora (adapters on a 4-bit base), auto (full below 10 M)."""
    lora_rank: int = 16
    """Rank of the adapters."""
    learning_rate: float | None = None
    """Peak of the optimiser's step size; unset: what was measured to work for this trainer and adaptation."""
    epochs: float = 1.0
    """Passes over the data."""
    max_steps: int = -1
    """Stop after this many optimiser steps; -1: after the epochs."""
    batch_size: int = 16
    """Examples a step and process."""
    gradient_accumulation: int = 1
    """Batches summed before each optimiser step."""
    max_length: int | None = None
    """Longest conversation in tokens, which grpo ends there; unset: the model's context."""
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    checkpoint_steps: int = 0
    """Write a checkpoint every so many steps, to resume from; 0: none."""
    logging_steps: int = 1
    """Log every so many steps."""
    report_to: tuple[Literal["wandb", "tensorboard", "trackio"], ...] = ()
    """Where logs go besides the run folder."""
    push_to_hub: str | None = None
    """Repository on the Hugging Face hub to push the result to (owner/name); made, private, before the first step."""
    seed: int = 0
    """Of data order, initial adapters and sampling."""


@dataclass(frozen=True, kw_only=True)
class OfflineSettings(Settings):
    """What those trainers take besides that learn from what was played before."""

    too_long: TooLong = "error"
    """What to do with longer conversations: stop, or leave them out. They are never cut."""


@dataclass(frozen=True, kw_only=True)
class SFTSettings(OfflineSettings):
    """Supervised fine-tuning: imitate what the agent said in a run's episodes."""

    epochs: float = 4.0
    """Passes over the data."""
    batch_size: int = 8
    """Examples a step and process."""
    warmup: float = 0.05
    """Share of the steps over which the step size rises; it then falls along a cosine."""


@dataclass(frozen=True, kw_only=True)
class DPOSettings(OfflineSettings):
    """Direct preference optimisation: prefer what the evaluator chose."""

    loss: tuple[Literal["sigmoid", "robust", "ipo", "hinge", "sft"], ...] = ("sigmoid", "sft")
    """Terms of the loss. Sigmoid alone drove the teacher-forced probability to 0.997 while samples were garbage;
    `sft` (the likelihood of the chosen side) holds them together. For an evaluator that errs: robust, sft."""
    label_noise: float = 0.0
    """Share of wrong preferences that `robust` assumes, below 0.5."""
    beta: float = 0.3
    """How dear it is to move away from the reference policy."""
    epochs: float = 2.0
    """Passes over the data."""
    batch_size: int = 8
    """Pairs a step and process."""


@dataclass(frozen=True, kw_only=True)
class RewardSettings(OfflineSettings):
    """A reward model from preferences."""

    epochs: float = 3.0
    """Passes over the data."""
    batch_size: int = 8
    """Pairs a step and process."""
    held_out: float = 0.2
    """Share of the pairs kept for measuring."""
    rationality: float = 1.0
    """The evaluator's β: how sharply it prefers the better side."""


@dataclass(frozen=True, kw_only=True)
class GRPOSettings(Settings):
    """Group-relative policy optimisation: act in boxes, learn from what each episode was worth against its group."""

    max_steps: int = 25
    """Optimiser steps."""
    batch_size: int = 32
    """Episodes that a process puts through the model at once, and, times `gradient_accumulation`, plays at once; a
    multiple of the group."""
    group: int = 4
    """Episodes of the same instance (prompt and fault) that are compared with each other."""
    iterations: int = 1
    """Optimiser steps on each batch of episodes; more where boxes are dearer than gradients."""
    baseline: Literal["group", "rloo"] = "group"
    """group: differences to the group's mean, over the batch's spread. rloo: the plain differences, every token
    weighing the same, which is REINFORCE with a leave-one-out baseline up to a constant factor."""
    beta: float = 0.0
    """Weight of the divergence from the reference policy in the loss."""
    kl_every: int = 5
    """Measure that divergence on the step's own episodes every so many steps; 0: never."""
    temperature: float = 1.0
    """Of sampling."""
    max_new_tokens: int = 96
    """A message."""
    invalid_cost: float = 0.5
    """Taken off for each message that holds no action, whoever judges; keeps the protocol alive."""
    workers: int = 16
    """Boxes at once."""
    max_turns: int | None = None
    """Messages an episode; unset: twice the task's stages plus two."""
    vllm: bool = False
    """Generate with vLLM inside each process (extra `vllm`; one process a GPU)."""


@dataclass(frozen=True, kw_only=True)
class KTOSettings(OfflineSettings):
    """Learning from thumbs."""

    beta: float = 0.1
    """How dear it is to move away from the reference policy."""
    epochs: float = 2.0
    """Passes over the data."""
    batch_size: int = 8
    """Episodes a step and process."""


_COUNTS = ("batch_size", "gradient_accumulation", "lora_rank", "logging_steps", "max_length", "workers", "iterations")
Rule = tuple[str, Callable[[Any], bool], str]
_RULES: tuple[Rule, ...] = (
    ("epochs", lambda value: 0 < value < math.inf, "above 0"),
    ("max_steps", lambda value: value == -1 or value > 0, "at least 1, or -1"),
    *((name, lambda value: value >= 1, "at least 1") for name in (*_COUNTS, "max_turns", "max_new_tokens")),
    *((name, lambda value: value >= 0, "at least 0") for name in ("checkpoint_steps", "kl_every")),
    *(
        (name, lambda value: 0 < value < math.inf, "above 0")
        for name in ("learning_rate", "rationality", "temperature")
    ),
    *((name, lambda value: 0 <= value < math.inf, "at least 0") for name in ("beta", "invalid_cost")),
    *((name, lambda value: 0 <= value < 1, "at least 0 and below 1") for name in ("warmup", "held_out")),
    ("group", lambda value: value >= 2, "at least 2, for episodes are compared within it"),
    ("seed", lambda value: 0 <= value < 2**32, "at least 0 and below 2**32"),
    ("loss", bool, "at least one term"),
)
"""What each setting must be, where a trainer has it and it is not unset."""


def check_ranges(settings: Settings) -> None:
    """Raises `InputError` for a setting that cannot be, before anything is loaded."""
    for name, fine, wanted in _RULES:
        value = getattr(settings, name, None)
        if value is not None and not fine(value):
            raise InputError(f"{name} is {value}; it must be {wanted}")
    for package in settings.report_to:
        if find_spec(package) is None:
            raise InputError(f"report_to {package} wants the package {package}; pip install {package}")
