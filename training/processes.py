"""The processes of one training: how they may be launched, and the device that each of them has.

Imports torch only where a device is asked for, so that a launch that cannot be is refused at once.
"""

import os
from typing import TYPE_CHECKING

from devnull.sandbox.errors import InputError

if TYPE_CHECKING:
    import torch

_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
}
"""Variables by which `accelerate launch` asks for weights that are shared out among the processes."""


def check_launch() -> None:
    """Raises `InputError` where the processes were launched so that nothing can be trained: with FSDP or ZeRO.

    They share the weights out, and the policy plays, is measured and is saved by single processes, at times of their
    own, each of which needs all weights.
    """
    for variable, name in _SHARDING.items():
        if os.environ.get(variable, "").lower() in ("true", "1"):
            raise InputError(
                f"{name} shares the weights out among processes, and each needs all of them to play, measure and save; "
                f"run `accelerate launch --multi_gpu` without it, and make the model fit with --adaptation lora or "
                f"qlora, or --gradient-checkpointing"
            )


def own_device() -> "torch.device":
    """The device of this process, which is torch's current one from then on: `cuda:LOCAL_RANK`, or the CPU."""
    import torch
    from accelerate import PartialState

    on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")
    device = PartialState(cpu=on_cpu).device
    if device.type == "cuda" and device.index is None:  # of a single process
        return torch.device("cuda", torch.cuda.current_device())
    return device
