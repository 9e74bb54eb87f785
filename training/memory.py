"""What a training step needs in memory, estimated before the first one, and the settings that would make it fit.

Measured on a GPU (LoRA, bfloat16; bytes a token): without checkpointing the layers keep 40 h + 8 i each, with it their
inputs and what one of them keeps; h is the model's width, i that of its feed-forward part. docs/training.md has the
figures.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from devnull.sandbox.errors import InputError
from devnull.training.free_memory import free_bytes
from devnull.training.settings import TrainerSettings

CHECKPOINTED_PARAMETERS = 1_000_000_000
"""Models with at least as many are trained with gradient checkpointing, unless the setting says otherwise."""
_MOMENTS = {"adamw": 2.0, "adamw_8bit": 0.5, "adafactor": 0.0, "sgd": 0.0}
"""What an optimiser keeps, in units of the (float32) weights that learn."""
_ADAPTER_SHARE = 0.02
"""Adapters of rank 16 have about so many weights of a model's."""


@dataclass(frozen=True)
class StepSize:
    """What goes through the model at once while it learns."""

    rows: int
    """Conversations."""
    tokens: int
    """Of the longest; the others are padded to it."""
    own: int
    """Tokens of a conversation whose probability is asked for."""


def checkpoints(settings: TrainerSettings, parameters: int) -> bool:
    """Whether gradient checkpointing is on for a model of so many parameters."""
    if settings.gradient_checkpointing == "auto":
        return parameters >= CHECKPOINTED_PARAMETERS
    return settings.gradient_checkpointing == "on"


def step_bytes(model: Any, settings: TrainerSettings, step: StepSize) -> int:
    """What a step needs besides the weights: gradients, the optimiser's moments, activations and logits.

    Args:
        model: As it learns, with its adapters.
    """
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    learnt = sum(weight.numel() * weight.element_size() for weight in learning)
    return int(learnt * (1 + _MOMENTS[settings.optimizer])) + _activation_bytes(model, settings, step)


def _activation_bytes(model: Any, settings: TrainerSettings, step: StepSize) -> int:
    config = model.config.get_text_config()
    layers, width = config.num_hidden_layers, config.hidden_size
    layer = 40 * width + 8 * (getattr(config, "intermediate_size", None) or 4 * width)
    kept = 14 * layers * width + layer if checkpoints(settings, model.num_parameters()) else layers * layer
    halves = 1 if model.device.type == "cuda" and settings.dtype != "float32" else 2  # the figures are bfloat16's
    return int(step.rows * (step.tokens * kept * halves + step.own * 12 * config.vocab_size))


def check_memory(model: Any, settings: TrainerSettings, step: StepSize) -> None:
    """Raises `InputError` where a step needs more than is free, with the settings that would help.

    Args:
        model: In the memory that it learns in.
    """
    free, needed = free_bytes(model.device), step_bytes(model, settings, step)
    if needed <= free:
        return
    helps = [f"{name} ({_gib(less)})" for name, less in _savings(model, settings, step) if less <= free]
    raise InputError(
        f"a step of {step.rows} conversations of {step.tokens} tokens needs about {_gib(needed)} besides the weights, "
        f"and {_gib(free)} are free on {model.device}; "
        + (f"set {' or '.join(helps)}" if helps else "set several of these: " + _names(model, settings, step))
    )


def _savings(model: Any, settings: TrainerSettings, step: StepSize) -> Iterator[tuple[str, int]]:
    """Each setting that would save memory, and what a step would then need."""
    if not checkpoints(settings, model.num_parameters()):
        on = dataclasses.replace(settings, gradient_checkpointing="on")
        yield "gradient_checkpointing on", step_bytes(model, on, step)
    if settings.batch_size > 1:
        parts = settings.batch_size // getattr(settings, "group", 1)  # a batch of grpo holds whole groups
        if parts > 1:
            size, sums = settings.batch_size // parts, settings.gradient_accumulation * parts
            fewer = dataclasses.replace(step, rows=max(1, step.rows // parts))
            yield f"batch_size {size} and gradient_accumulation {sums}", step_bytes(model, settings, fewer)
    moments = _MOMENTS[settings.optimizer]
    learnt = sum(w.numel() * w.element_size() for w in model.parameters() if w.requires_grad)
    everything = model.num_parameters() == sum(w.numel() for w in model.parameters() if w.requires_grad)
    if everything and settings.adaptation in ("auto", "full"):
        adapters = int(learnt * (1 + moments) * _ADAPTER_SHARE)
        yield "adaptation lora", adapters + _activation_bytes(model, settings, step)
    if moments:
        yield "optimizer adafactor", step_bytes(model, dataclasses.replace(settings, optimizer="adafactor"), step)


def _names(model: Any, settings: TrainerSettings, step: StepSize) -> str:
    return ", ".join([*(name for name, _ in _savings(model, settings, step)), "a lower max_length, a smaller model"])


def check_weights_fit(name: str, parameters: int, element_bytes: float, device: torch.device) -> None:
    """Raises `InputError` where a model's weights alone are more than is free, before they are read."""
    free, needed = free_bytes(device), int(parameters * element_bytes)
    if needed > free:
        raise InputError(
            f"the weights of {name} take {_gib(needed)}, and {_gib(free)} are free on {device}; take adaptation qlora, "
            f"dtype bfloat16 or a smaller model"
        )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
