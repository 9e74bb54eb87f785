"""The processes of one training: how they may be launched, and the device that each of them has."""

import os

import torch
from accelerate import PartialState

from devnull.sandbox.errors import InputError

_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
}
"""Variables by which `accelerate launch` asks for weights that are shared out among the processes."""


def check_launch() -> None:
    """Raises `InputError` where the processes were launched in a way in which nothing can be trained.

    Weights that are shared out (FSDP, ZeRO) are refused: the policy plays, is measured and is saved by single
    processes, at times of their own, each of which needs all weights.
    """
    for variable, name in _SHARDING.items():
        if os.environ.get(variable, "").lower() in ("true", "1"):
            raise InputError(
                f"{name} shares the weights out among processes, and each needs all of them to play, measure and save; "
                f"run `accelerate launch --multi_gpu` without it, and make the model fit with --adaptation lora or "
                f"qlora, or --gradient-checkpointing"
            )
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise InputError(
            f"{torch.cuda.device_count()} GPUs are visible to one process; run "
            f"`accelerate launch -m devnull train ...` to use them all, or set CUDA_VISIBLE_DEVICES=0"
        )


def own_device() -> torch.device:
    """The device of this process, which is torch's current one from then on: `cuda:LOCAL_RANK`, or the CPU."""
    on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")
    device = PartialState(cpu=on_cpu).device
    if device.type == "cuda" and device.index is None:  # of a single process
        return torch.device("cuda", torch.cuda.current_device())
    return device
