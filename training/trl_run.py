"""What all trainers share around TRL's: loading the policy, TRL's arguments, progress, resuming."""

import dataclasses
import gc
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from transformers import PrinterCallback, TrainerCallback, set_seed

from devnull.agents.model_loading import has_bfloat16
from devnull.agents.template_args import parse_template_args
from devnull.sandbox.errors import HostDiskFull, InputError
from devnull.sandbox.extras import require
from devnull.training.frozen import freeze
from devnull.training.learning_rates import choose_learning_rate
from devnull.training.memory import StepSize, check_memory, checkpoints
from devnull.training.models import LoadedPolicy, load_policy
from devnull.training.processes import check_launch
from devnull.training.result_folder import check_result_folder
from devnull.training.sampling import Sampling, SamplingCallback
from devnull.training.settings import Dtype, FineTuningSettings, TrainerSettings, check_ranges
from devnull.training.train_result import (
    TrainResult,
    last_checkpoint,
    make_hub_repository,
    partial_folder,
    write_result,
)

# Without Triton, TRL puts every position through the head and then drops those without a label: on a CPU a third
# of an SFT step with SmolLM2's 49,152 words. Its own fallback does as well with the labelled positions alone.
trl.trainer.utils._use_triton = lambda device: True

_OPTIMIZERS = {"adamw_8bit": "adamw_8bit", "adafactor": "adafactor", "sgd": "sgd"}
"""In transformers' words; AdamW is TRL's default."""
_SETTINGS = "settings.json"
"""File beside the checkpoints: settings and facts that the run was begun with."""
CHANGEABLE_ON_RESUME = (
    "checkpoint_steps",
    "logging_steps",
    "report_to",
    "push_to_hub",
    "workers",
    "gradient_checkpointing",
)
"""Settings that a resumed run may change, for no weight depends on them."""
_DEFAULTS_OF_NEWER_SETTINGS = {
    "template_args": [],
    "optimizer": "adamw",
    "dtype": "auto",
    "max_equal_batches": 10,
    "train_report": "all",
    "stratify_builds": False,
    "by_prompt": False,
    "fit_head": False,
    "head_ridge": 3e-5,
    "ending": "rater",
    "annotated return": False,
    "vllm_gpu_memory_utilization": 0.3,
    "vllm_importance_sampling": "token_truncate",
}
"""Of settings and facts that runs begun by earlier versions do not name, where the default is not `None`."""
StepCallback = Callable[[int, int, Mapping[str, float]], None]
"""Called after each optimiser step with (step from 1, number of steps, last value of each logged quantity)."""


class TrainingDiverged(InputError):
    """The loss or the gradient's norm is NaN or infinite; the message names the step and the learning rate."""


def free_memory() -> None:
    """Gives back what a finished training held: trainer, callbacks and model refer to each other, and would stay beside
    the model that is loaded next. For where nothing names them any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_for_training(settings: TrainerSettings, model_path: str | Path, dtype: Dtype | None = None) -> LoadedPolicy:
    """Seeds all random generators and loads the policy, so that fresh adapters are the same in every run of this seed.

    Args:
        dtype: Instead of the one that is set.

    Raises:
        InputError: A setting out of its range, processes launched as they cannot be, a model that cannot be
            loaded or whose weights are not finite, or `frozen` names what is not there.
    """
    check_ranges(settings)
    check_launch()
    free_memory()
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise InputError(
            f"{torch.cuda.device_count()} GPUs are visible to one process; run "
            f"`accelerate launch -m devnull train ...` to use them all, or set CUDA_VISIBLE_DEVICES=0"
        )
    set_seed(settings.seed)
    args = parse_template_args(settings.template_args)
    policy = load_policy(
        model_path,
        adaptation=settings.adaptation,
        dtype=dtype or settings.dtype,
        template_args=args,
        attention=settings.attention,
        revision=settings.revision,
    )
    _check_weights(policy)
    return freeze(policy, settings.frozen) if isinstance(settings, FineTuningSettings) else policy


def _check_weights(policy: LoadedPolicy) -> None:
    """Raises `InputError` if a weight is not finite: no loss would be either."""
    for name, weight in policy.model.named_parameters():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise InputError(
                f"model {policy.source!r} holds NaN or infinity in {name}; its training diverged, take another"
            )


def trl_arguments(settings: TrainerSettings, policy: LoadedPolicy, out: Path) -> dict[str, Any]:
    """The arguments that every TRL config shares.

    TRL's own defaults turn bf16 and gradient checkpointing on: here bf16 is for a GPU that has it, and where there is
    no GPU the CPU is asked for by name. NaN losses are logged as they are, so that they can stop the run.

    Args:
        out: Where the result will be; checkpoints go into `partial_folder(out)`.
    """
    on_gpu = torch.cuda.is_available()
    if settings.optimizer == "adamw_8bit":
        require("bitsandbytes", "qlora", "optimizer adamw_8bit")
    return {
        "output_dir": str(partial_folder(out)),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "learning_rate": choose_learning_rate(settings, policy.model, policy.adaptation),
        "lr_scheduler_type": settings.scheduler or settings.default_scheduler,
        **({"optim": _OPTIMIZERS[settings.optimizer]} if settings.optimizer in _OPTIMIZERS else {}),
        "bf16": has_bfloat16() and settings.dtype != "float32",
        "use_cpu": not on_gpu,
        "gradient_checkpointing": checkpoints(settings, policy.model.num_parameters()),
        "save_strategy": "steps" if settings.checkpoint_steps else "no",
        "save_steps": settings.checkpoint_steps or 500,
        "save_total_limit": 2,
        "logging_steps": settings.logging_steps,
        "logging_nan_inf_filter": False,
        "report_to": list(settings.report_to) or "none",
        "seed": settings.seed,
        "data_seed": settings.seed,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "ddp_find_unused_parameters": False,
    }


def context_limit(settings: TrainerSettings, policy: LoadedPolicy) -> int:
    """Longest conversation to train on, in tokens. Raises `InputError` where the model's context is shorter."""
    if settings.max_length is None:
        return policy.context
    if settings.max_length > policy.context:
        raise InputError(
            f"max_length={settings.max_length} is more than the context of {policy.source} ({policy.context} tokens)"
        )
    return settings.max_length


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Reports progress to `on_step`, and raises `TrainingDiverged` at the first loss that is not finite."""

    def __init__(self, on_step: StepCallback | None) -> None:
        self.on_step = on_step
        self.last: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        numbers = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, int | float)}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(numbers.get(name, 0.0)):
                raise TrainingDiverged(
                    f"{name} is {numbers[name]} at step {state.global_step}: training diverged; "
                    f"lower learning_rate (now {args.learning_rate:g})"
                )
        self.last |= numbers

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.on_step is not None and state.is_world_process_zero:
            self.on_step(state.global_step, state.max_steps, self.last)


def _check_unchanged(part: Path, now: Mapping[str, Any]) -> None:
    """Raises `InputError` where the run that left these checkpoints had other settings or facts."""
    newer = {name: value for name, value in _DEFAULTS_OF_NEWER_SETTINGS.items() if name in now}
    then = newer | json.loads((part / _SETTINGS).read_text())
    then = {name: value for name, value in then.items() if name not in CHANGEABLE_ON_RESUME}
    changed = [
        f"{key} ({then.get(key)} then, {now.get(key)} now)" for key in dict(now) | then if then.get(key) != now.get(key)
    ]
    if changed:
        raise InputError(
            f"{part} holds a run that was begun with another {', '.join(changed)}; go on with what it was, or remove it"
        )


def _check_disk(part: Path, model: torch.nn.Module, settings: TrainerSettings) -> None:
    """Raises `HostDiskFull` where the result and its checkpoints find no room, before anything is trained."""
    result = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    learnt = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    checkpoint = 3 * 4 * learnt  # the weights and Adam's two moments
    needed = result + (3 * checkpoint if settings.checkpoint_steps else 0)  # a third is written before the first goes
    free = shutil.disk_usage(part).free
    if free < needed:
        raise HostDiskFull(
            f"training writes about {needed / 1e6:.0f} MB to the disk of {part}, where {free / 1e6:.0f} MB are free; "
            f"free some, or pass another --out"
        )


def run_trainer(
    trainer: Any,
    settings: TrainerSettings,
    policy: LoadedPolicy,
    out: Path,
    *,
    kind: str,
    facts: Mapping[str, Any],
    step: StepSize,
    measure: Callable[[], Mapping[str, float]] | None = None,
    why_stopped: Callable[[], str] = str,
    sampling: Sampling | None = None,
    checkpoint_files: Sequence[str] = (),
) -> TrainResult:
    """Runs a TRL trainer, from its last checkpoint if there is one; the folder `out` then holds the result.

    With several processes all call this and the first one writes.

    Args:
        trainer: Made with `trl_arguments(settings, policy, out)`.
        kind: `sft`, `dpo`, `kto`, `reward` or `grpo`.
        facts: For the model card; a run whose facts or settings differ is not resumed.
        step: What goes through the model at once.
        measure: Further metrics of the final weights.
        why_stopped: Asked at the end: why training stopped before its time; empty where it did not.
        sampling: What to sample the policy on while it learns.
        checkpoint_files: Without which a checkpoint is not whole, besides TRL's own.

    Raises:
        InputError: `out` holds something else than a result, checkpoints of another run are in the way, the hub refuses
            the repository, or a step would not fit into memory.
        TrainingDiverged: The loss is not finite.
        InfrastructureError: The result is written, but could not be pushed to the hub.
    """
    check_result_folder(out)
    if policy.frozen:
        facts = {**facts, "frozen": ", ".join(policy.frozen)}
    check_memory(trainer.model, settings, step)
    part = partial_folder(out)
    checkpoint = last_checkpoint(part, checkpoint_files)
    begun = {"kind": kind, "base": policy.source, **dataclasses.asdict(settings), **facts}
    begun = {name: value for name, value in json.loads(json.dumps(begun)).items() if name not in CHANGEABLE_ON_RESUME}
    if checkpoint is not None:
        _check_unchanged(part, begun)
    elif trainer.accelerator.is_main_process:
        part.mkdir(parents=True, exist_ok=True)
        (part / _SETTINGS).write_text(json.dumps(begun))
    trainer.remove_callback(PrinterCallback)  # stdout belongs to the command
    if trainer.accelerator.is_main_process:
        _check_disk(part, trainer.model, settings)
    if settings.push_to_hub is not None and trainer.accelerator.is_main_process:
        make_hub_repository(settings.push_to_hub)
    if sampling is not None:
        trainer.add_callback(SamplingCallback(trainer, policy, sampling))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    begin = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = round(time.monotonic() - begin, 3)
    history = [
        {key: float(value) for key, value in entry.items() if isinstance(value, int | float)}
        for entry in trainer.state.log_history
    ]
    last: dict[str, float] = {}
    for entry in history:
        last |= entry
    steps = int(trainer.state.global_step)
    metrics = {key: value for key, value in last.items() if math.isfinite(value)}
    if torch.cuda.is_available():
        metrics["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    if measure is not None:
        metrics |= measure()
    stopped = why_stopped()
    if stopped:
        facts = {**facts, "stopped": stopped}
    result = TrainResult(out, steps, seconds, metrics, history, stopped)
    if trainer.accelerator.is_main_process:
        write_result(trainer, settings, policy, result, kind=kind, facts=facts)
    trainer.accelerator.wait_for_everyone()
    return result
