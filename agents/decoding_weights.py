"""The weights of a model while it only samples: adapters merged into them, in the number format that is fastest.

An unmerged adapter costs three more kernels a layer and token than the product it adds, and four more where it is held
in float32 beside a bfloat16 base. Merged, that is gone; what the model learns from is another set of tensors, put aside
and put back as they were.

A bfloat16 weight of 0.02 moves in steps of 1.2e-4, and the first steps of training move it by less. Rounded to the
nearest, every such change would be lost and the base would play. So the sum is rounded up or down by chance, in
proportion: what the adapter adds survives in the mean, and a weight that no adapter moves stays as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from devnull.agents.model_loading import has_bfloat16


@contextmanager
def decoding_weights(model: Any, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within it `model`, in evaluation mode, has the weights to sample with; afterwards those it had, bit for bit, the
    same tensors.

    Takes as much memory more as the weights that it merges or casts. Not to be differentiated within.

    Args:
        model: With LoRA adapters (PEFT) or without. Those on weights in 4 or 8 bits stay beside them.
        dtype: What float32 weights become; unset: bfloat16 on a GPU that has it, else they stay.
    """
    kept: list[tuple[nn.Parameter, torch.Tensor]] = []
    merged: list[Any] = []
    training = model.training
    try:
        model.eval()
        _put_in(model, dtype or _fastest_dtype(model), kept, merged)
        yield
    finally:
        for weight, original in kept:
            weight.data = original
        for layer in merged:
            layer.merged_adapters.clear()
        model.train(training)


def merge_for_good(model: Any) -> None:
    """The same without a way back, for a model that only samples."""
    _put_in(model, _fastest_dtype(model), [], [])


def _fastest_dtype(model: Any) -> torch.dtype | None:
    return torch.bfloat16 if model.device.type == "cuda" and has_bfloat16() else None


def _put_in(
    model: Any, dtype: torch.dtype | None, kept: list[tuple[nn.Parameter, torch.Tensor]], merged: list[Any]
) -> None:
    """Merges what can be, then casts what is float32; whatever it replaces goes into `kept` first."""
    generator = torch.Generator(model.device).manual_seed(0)  # the same adapters, the same weights
    with torch.no_grad():
        for layer in _mergeable_layers(model):
            weight = layer.get_base_layer().weight
            total = weight.float() + sum(layer.get_delta_weight(name).float() for name in layer.active_adapters)
            kept.append((weight, weight.data))
            weight.data = _rounded(total, dtype if weight.dtype == torch.float32 and dtype else weight.dtype, generator)
            merged.append(layer)
            layer.merged_adapters.extend(layer.active_adapters)
        done = {id(weight) for weight, _ in kept}
        for weight in model.parameters() if dtype else ():
            if weight.dtype == torch.float32 and id(weight) not in done:
                kept.append((weight, weight.data))
                weight.data = weight.data.to(dtype)


def _mergeable_layers(model: Any) -> Iterator[Any]:
    """Linear layers with plain LoRA on weights that can be added to."""
    if not hasattr(model, "peft_config"):
        return
    from peft.tuners.lora.layer import Linear

    for layer in model.modules():
        if type(layer) is not Linear or type(layer.get_base_layer()) is not nn.Linear:
            continue
        active = layer.active_adapters
        plain = not layer.disable_adapters and not layer.merged and all(name in layer.lora_A for name in active)
        if plain and not any(name in layer.lora_variant or layer.lora_bias[name] for name in active):
            yield layer


def _rounded(total: torch.Tensor, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """float32 values in `dtype`; in bfloat16 up or down by chance, so that their mean is what they were."""
    if dtype != torch.bfloat16:
        return total.to(dtype)
    bits = total.view(torch.int32)  # bfloat16 is the upper half of float32
    chance = torch.randint(1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    return ((bits + chance) & -(1 << 16)).view(torch.float32).to(dtype)
