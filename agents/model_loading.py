"""Loading a local model's weights, with one clear line for what cannot be loaded."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

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
    if adapter is not None:
        adapter_base(adapter, name_or_path)
    options: dict[str, Any] = {"dtype": torch.bfloat16 if device != "cpu" and has_bfloat16() else torch.float32}
    if load_in_4bit:
        options["quantization_config"] = nf4_config(options["dtype"])
    with loading(name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        model = load_whole(AutoModelForCausalLM, name_or_path, device_map=device, **options)
    if device == "cpu" and not load_in_4bit and model.num_parameters() >= SMALL_MODEL and bfloat16_is_faster(device):
        model = model.to(torch.bfloat16)
    if adapter is not None:
        from peft import PeftModel

        with loading(adapter, f"adapter, on {str(name_or_path)!r},"):
            model = PeftModel.from_pretrained(model, str(adapter))
    return model, tokenizer


def load_whole(auto_class: Any, name_or_path: str | Path, **options: Any) -> Any:
    """`auto_class.from_pretrained`, which alone would fill what the files lack with random numbers.

    Raises `ValueError` for weights that are not there.
    """
    model, found = auto_class.from_pretrained(name_or_path, output_loading_info=True, **options)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"its files lack {len(missing)} of its weights, {missing[0]} among them")
    return model


@contextmanager
def loading(name: str | Path, what: str = "model") -> Iterator[None]:
    """Turns whatever the libraries raise while they load `name` into one line of `InputError`.

    An adapter that lacks weights for some layers of its model, of which PEFT only warns, cannot be loaded either.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")
            yield
    except Exception as error:  # half a file, another architecture, a bad config: each library has its own
        reason = first_line(error)
        if "missing adapter keys" in reason or "size mismatch" in str(error):
            reason = "it is of a model with other layers"
        raise InputError(f"{what} {str(name)!r} cannot be loaded: {reason}") from error


def adapter_base(adapter: str | Path, base: str | Path | None = None) -> str | None:
    """The model that a PEFT adapter was learnt on, a folder or a name, as the adapter's folder has it, if it has it.

    Args:
        base: The model to put it on; known by its last part, for folders move.

    Raises `InputError` where there is no adapter, or it was learnt on another model than `base`.
    """
    file = Path(adapter) / "adapter_config.json"
    if not file.is_file():
        raise InputError(f"adapter {str(adapter)!r} is no folder with adapter_config.json; name one, as OUT/adapter")
    try:
        own: str | None = json.loads(file.read_text()).get("base_model_name_or_path") or None
    except (ValueError, AttributeError) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}") from None
    if own and base is not None and Path(own).name != Path(base).resolve().name:
        raise InputError(
            f"adapter {str(adapter)!r} was learnt on {own!r}, not on {str(base)!r}; if these are the same, "
            f"write so under base_model_name_or_path in its adapter_config.json"
        )
    return own


def nf4_config(compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """Weights held in 4 bits (NF4, their scales quantised once more): training's and sampling's alike."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, to be quoted in another one."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def has_bfloat16() -> bool:
    """Whether the GPU multiplies bfloat16 itself: NVIDIA's do from Ampere on, and older ones only pretend to."""
    return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))


def bfloat16_is_faster(device: str) -> bool:
    """Whether bfloat16 beats float32: on a GPU that has it, on a CPU with instructions for it (SmolLM2, Zen 4: 1.8
    times)."""
    cpu = Path("/proc/cpuinfo")
    if device != "cpu":
        return has_bfloat16()
    return cpu.exists() and _BFLOAT16.search(cpu.read_text()) is not None
