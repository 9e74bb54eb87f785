"""Models to train: any causal language model of a folder or the Hugging Face hub, with its tokenizer."""

import copy
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
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
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from devnull.agents.chat_layout import NO_ARGS, TemplateArgs
from devnull.agents.model_loading import adapter_base, bfloat16_is_faster, has_bfloat16, load_whole, loading, nf4_config
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.extras import require
from devnull.training.chat_template import prepare_tokenizer
from devnull.training.learning_rates import SMALL_MODEL_PARAMETERS
from devnull.training.memory import check_weights_fit
from devnull.training.processes import own_device
from devnull.training.settings import Adaptation, Dtype, TrainerSettings

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


_NF4_BYTES = 0.6
"""Of a weight in 4 bits, with the scales and what stays in 16 bits."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy in memory: a causal language model with its tokenizer, ready for a TRL trainer."""

    model: Any
    """A `PreTrainedModel`, without adapters."""
    tokenizer: Any
    """Its chat template prompts as training does; its pad token is not its end token."""
    source: str
    """The name or path it was loaded from."""
    adaptation: Literal["full", "lora", "qlora"]
    merged: bool
    """An adapter was merged into the weights in memory: no folder on disk holds them as they are."""
    frozen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The weights that do not learn, by the name or pattern that chose them (`devnull.training.frozen`)."""
    loaded_with: Mapping[str, Any] = field(default_factory=dict)
    """What `from_pretrained` was told besides the number format: revision and attention, where they are set."""

    @property
    def context(self) -> int:
        """Longest conversation that the model can attend to, in tokens."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    def adapter(self, settings: TrainerSettings, task_type: str = "CAUSAL_LM") -> Any:
        """The `LoraConfig` to train with; `None` where all weights learn. `task_type` as PEFT has it.

        Raises `InputError` for targets that the model has no linear layer of, or that are all frozen.
        """
        if self.adaptation == "full":
            if settings.lora_targets:
                raise InputError(
                    f"lora_targets is for adapters, and all weights of {self.source} learn; set adaptation"
                )
            return None
        kept = sorted({name.rpartition(".")[0] for names in self.frozen.values() for name in names}) or None
        for target in settings.lora_targets or ():
            self._check_target(target, kept or [])
        return LoraConfig(
            r=settings.lora_rank,
            lora_alpha=2 * settings.lora_rank,
            target_modules=list(settings.lora_targets or ()) or "all-linear",
            exclude_modules=kept,
            task_type=task_type,
        )

    def _check_target(self, target: str, kept: Sequence[str]) -> None:
        layers = [name for name, module in self.model.named_modules() if isinstance(module, torch.nn.Linear)]
        found = [layer for layer in layers if f".{layer}".endswith(f".{target}")]
        if not found:
            names = sorted({layer.rpartition(".")[2] for layer in layers})
            hint = did_you_mean(target, names) or f"; there are {', '.join(names)}"
            raise InputError(f"lora_targets: no linear layer of {self.source} is called {target!r}{hint}")
        if set(found) <= set(kept):
            raise InputError(f"lora_targets: {target} is frozen in {self.source}; name others, or set frozen")

    def frozen_copy(self) -> Any:
        """The reference model: a copy of the weights in memory; `None` where adapters can be switched off instead."""
        if self.adaptation != "full":
            return None
        copied = copy.deepcopy(self.model).eval()
        copied.__dict__.pop("forward", None)  # one that TRL put there would ask the model that it was made for
        return copied


def load_policy(
    name_or_path: str | Path,
    *,
    adaptation: Adaptation = "auto",
    dtype: Dtype = "auto",
    template_args: TemplateArgs = NO_ARGS,
    attention: str | None = None,
    revision: str | None = None,
) -> LoadedPolicy:
    """Loads a causal language model and prepares its tokenizer for training.

    Sampling defaults of the model's own (top-k, top-p, temperature) are switched off.

    Args:
        name_or_path: A folder (of a model, or of a LoRA adapter, which is merged into its base) or a name on the
            Hugging Face hub.
        adaptation: Which weights will learn.
        dtype: Of the weights, from the start.
        template_args: What the chat template is told.
        attention: Implementation of attention, as transformers names it.
        revision: Of a model on the hub.

    Raises:
        InputError: The model cannot be loaded, does not fit into memory, has no usable chat template or no token to
            pad with, a GPU lacks bfloat16, or `qlora` or the attention lacks its package.
    """
    name = str(name_or_path)
    if adaptation == "qlora":
        require("bitsandbytes", "qlora", "adaptation qlora")
    if attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise InputError("attention flash_attention_2 wants the package flash-attn; pip install it, or leave it out")
    if revision is not None and Path(name).is_dir():
        raise InputError(f"revision is for models of the Hugging Face hub, and {name} is a folder; leave it out")
    check_model_available(name)
    loaded_with = {"revision": revision, "attn_implementation": attention}
    loaded_with = {option: value for option, value in loaded_with.items() if value is not None}
    merged = (Path(name) / "adapter_config.json").exists()
    if merged and adaptation == "qlora":
        raise InputError(f"{name} is an adapter; merge it before training another in 4 bits on top of it")
    if merged and (base := adapter_base(name)):
        _check_base_available(name, base)
    parameters = count_parameters(adapter_base(name) or name if merged else name, revision)
    if adaptation == "auto":
        adaptation = "full" if parameters < SMALL_MODEL_PARAMETERS else "lora"
    chosen = _number_format(dtype, adaptation, parameters)
    element = _NF4_BYTES if adaptation == "qlora" else chosen.itemsize
    check_weights_fit(name, parameters, element, own_device())
    if adaptation != "qlora":  # read into main memory first
        check_weights_fit(name, parameters, element, torch.device("cpu"))
    options: dict[str, Any] = {"dtype": chosen, **loaded_with}
    if adaptation == "qlora":  # it is put there at once; others the trainer moves
        options |= {"quantization_config": nf4_config(chosen), "device_map": {"": own_device()}}
    with loading(name):
        if merged:
            model = AutoPeftModelForCausalLM.from_pretrained(name, **options)
        else:
            model = load_whole(AutoModelForCausalLM, name, **options)
        tokenizer = AutoTokenizer.from_pretrained(name, **({"revision": revision} if revision else {}))
    if merged:
        model = model.merge_and_unload().requires_grad_(True)  # its base came frozen
    prepare_tokenizer(tokenizer, name, template_args)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # A model's own sampling defaults (top-k, top-p) would make rollouts another policy than the one trained.
    model.generation_config.update(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    return LoadedPolicy(model, tokenizer, name, adaptation, merged, loaded_with=loaded_with)


def count_parameters(name: str, revision: str | None = None) -> int:
    """How many parameters a model has, from its config alone: no weight is read. Raises `InputError` for none."""
    with loading(name), torch.random.fork_rng(devices=[]), torch.device("meta"):
        config = AutoConfig.from_pretrained(name, **({"revision": revision} if revision else {}))
        return int(AutoModelForCausalLM.from_config(config).num_parameters())


def _number_format(dtype: Dtype, adaptation: str, parameters: int) -> torch.dtype:
    """Of a model's weights. Raises `InputError` where that is bfloat16 and the GPU has none."""
    on_gpu, small = torch.cuda.is_available(), parameters < SMALL_MODEL_PARAMETERS
    faster = adaptation != "full" and on_gpu
    faster = faster or (adaptation == "lora" and not small and bfloat16_is_faster("cpu"))
    if dtype == "float32" or (dtype == "auto" and not faster):
        return torch.float32
    if on_gpu and not has_bfloat16():
        raise InputError(
            f"the GPU {torch.cuda.get_device_name()} has no bfloat16; set dtype float32, which takes twice the memory"
        )
    return torch.bfloat16


def check_model_available(name: str) -> None:
    """Raises `InputError` where `name` is no model that can be loaded from here, without minutes of retries.

    Args:
        name: A folder, or a name on the Hugging Face hub.
    """
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


def _check_base_available(adapter: str, base: str) -> None:
    try:
        check_model_available(base)
    except InputError as error:
        raise InputError(f"adapter {adapter!r} was learnt on another model: {error}") from None


def save_model(model: Any, tokenizer: Any, path: Path) -> Path:
    """Writes model and tokenizer into the folder `path`, which appears whole or not at all; returns `path`."""
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
