"""Loading a local model's weights for generation."""

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from devnull.sandbox.errors import InputError

SMALL_MODEL = 10_000_000
"""Parameters below which a step is decoded on one core: several gain nothing, and while boxes keep the machine busy
they wait for each other (2 cores, load 10: 17 tokens/s against 209)."""
_BFLOAT16 = re.compile(r"\b(?:avx512_bf16|amx_bf16|bf16)\b")
"""How /proc/cpuinfo names instructions that multiply bfloat16 (x86, Arm)."""


def load_model(
    name_or_path: str | Path, adapter: str | Path | None, device: str, load_in_4bit: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, in the number format that is fastest on the device.

    Args:
        name_or_path: A folder, or a name of the Hugging Face hub.
        adapter: A PEFT folder to put on it.
        device: As torch names it.
        load_in_4bit: Hold the weights in 4 bits (NF4, bitsandbytes).

    Raises `InputError` for what cannot be loaded.
    """
    options: dict[str, Any] = {"dtype": torch.float32 if device == "cpu" else torch.bfloat16}
    if load_in_4bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=options["dtype"]
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        model = AutoModelForCausalLM.from_pretrained(name_or_path, device_map=device, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"model {str(name_or_path)!r} cannot be loaded: {reason}; name a folder or a model") from error
    if device == "cpu" and not load_in_4bit and model.num_parameters() >= SMALL_MODEL and bfloat16_is_faster(device):
        model = model.to(torch.bfloat16)
    if adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, str(adapter))
        except (OSError, ValueError) as error:
            raise InputError(f"adapter {str(adapter)!r} cannot be loaded on {name_or_path}: {error}") from error
    return model, tokenizer


def bfloat16_is_faster(device: str) -> bool:
    """Whether bfloat16 beats float32: on a GPU, and on a CPU with instructions for it (SmolLM2 on Zen 4: 1.8 times)."""
    cpu = Path("/proc/cpuinfo")
    return device != "cpu" or (cpu.exists() and _BFLOAT16.search(cpu.read_text()) is not None)
