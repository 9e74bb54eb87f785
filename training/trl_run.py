"""What all trainers share around TRL's loop: settings, progress, checkpoints, the result on disk."""

import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import trl.trainer.utils
from huggingface_hub import HfApi
from peft import AutoPeftModelForCausalLM
from transformers import PrinterCallback, TrainerCallback, set_seed

from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.training.model_card import write_card
from devnull.training.models import Dtype, Policy, load_policy, save
from devnull.training.settings import Settings, check_ranges

# Without Triton, TRL puts every position through the head and then drops those without a label: on a CPU a third
# of an SFT step with SmolLM2's 49,152 words. Its own fallback does as well with the labelled positions alone.
trl.trainer.utils._use_triton = lambda device: True

_SETTINGS = "settings.json"
"""Beside the checkpoints: what the run was begun with."""
EPISODES = "episodes"
"""Folders beside the checkpoints of which the names begin so go into the result, and are not pushed to the hub."""
FREE = ("checkpoint_steps", "logging_steps", "report_to", "push_to_hub", "workers")
"""Settings that a resumed run may change, for they move no weight."""
About = Mapping[str, str]
"""What a model card tells of the data, the evaluator and its view: name to value."""
NOTHING: About = MappingProxyType({})
OnStep = Callable[[int, int, Mapping[str, float]], None]
"""Called after each step with the step, the number of steps and what was logged last."""


class Diverged(InputError):
    """The loss is no number any more; the message names the step and the learning rate."""


@dataclass(frozen=True)
class TrainResult:
    """What training left: `path` holds weights that load as any model does."""

    path: Path
    """Folder of the merged model, its tokenizer, `README.md` and `training.json`; `adapter/` if adapters learnt."""
    steps: int
    seconds: float
    metrics: dict[str, float]
    """The last of each logged quantity, and totals."""
    log: list[dict[str, float]] = field(repr=False, default_factory=list)
    """What was logged, by step."""

    @classmethod
    def read(cls, path: Path) -> "TrainResult | None":
        """The result in a folder that training finished; `None` if there is none."""
        file = path / "training.json"
        if not file.exists():
            return None
        found = json.loads(file.read_text())
        return cls(path, found["steps"], found["seconds"], found["metrics"], found["log"])


def prepare(settings: Settings, model_path: str | Path, dtype: Dtype = "auto") -> Policy:
    """Seeds everything and loads the policy, which then holds the same fresh adapters in every run of this seed."""
    check_ranges(settings)
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise InputError(
            f"{torch.cuda.device_count()} GPUs are visible to one process; run "
            f"`accelerate launch -m devnull train ...` to use them all, or set CUDA_VISIBLE_DEVICES=0"
        )
    set_seed(settings.seed)
    policy = load_policy(model_path, adaptation=settings.adaptation, dtype=dtype)
    _check_weights(policy)
    return policy


def _check_weights(policy: Policy) -> None:
    """Raises `InputError` if a weight is no number: every loss would be none either."""
    for name, weight in policy.model.named_parameters():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise InputError(
                f"model {policy.source!r} holds NaN or infinity in {name}; its training diverged, take another"
            )


def trl_arguments(settings: Settings, policy: Policy, out: Path, learning_rate: float) -> dict[str, Any]:
    """The arguments that every TRL config shares.

    bf16 only on a GPU that has it, and the CPU by name where there is none: TRL's own defaults turn bf16 and
    gradient checkpointing on. NaN losses are logged as they are, so that they can stop the run.
    """
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(part_of(out)),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "learning_rate": learning_rate if settings.learning_rate is None else settings.learning_rate,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "use_cpu": not on_gpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
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


def context_limit(settings: Settings, policy: Policy) -> int:
    """Longest conversation to train on. Raises `InputError` where it is more than the model can attend to."""
    if settings.max_length is None:
        return policy.context
    if settings.max_length > policy.context:
        raise InputError(
            f"max_length={settings.max_length} is more than the context of {policy.source} ({policy.context} tokens)"
        )
    return settings.max_length


class Watch(TrainerCallback):  # type: ignore[misc]
    """Reports progress, and stops at the first loss that is no number."""

    def __init__(self, on_step: OnStep | None) -> None:
        self.on_step = on_step
        self.last: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        numbers = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, int | float)}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(numbers.get(name, 0.0)):
                raise Diverged(
                    f"{name} is {numbers[name]} at step {state.global_step}: training diverged; "
                    f"lower learning_rate (now {args.learning_rate:g})"
                )
        self.last |= numbers

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.on_step is not None and state.is_world_process_zero:
            self.on_step(state.global_step, state.max_steps, self.last)


def part_of(out: Path) -> Path:
    """Where a run that has not finished keeps its checkpoints, beside where the result will be."""
    return out.with_name(out.name + ".part")


def last_checkpoint(part: Path) -> str | None:
    """The newest whole one: what was being written when the run was killed lacks its last file, or half of it."""
    for folder in sorted(part.glob("checkpoint-*"), key=lambda found: -int(found.name.rpartition("-")[2])):
        try:
            json.loads((folder / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(folder)
    return None


def _check_same(part: Path, meant: Mapping[str, Any]) -> None:
    """Raises `InputError` where the run that left these checkpoints was another one."""
    began = json.loads((part / _SETTINGS).read_text())
    changed = [
        f"{key} ({began.get(key)} then, {meant.get(key)} now)"
        for key in meant | began
        if began.get(key) != meant.get(key)
    ]
    if changed:
        raise InputError(
            f"{part} holds a run that was begun with another {', '.join(changed)}; go on with what it was, or remove it"
        )


def fit(
    trainer: Any,
    settings: Settings,
    policy: Policy,
    out: Path,
    *,
    kind: str,
    facts: Mapping[str, Any],
    measure: Callable[[], Mapping[str, float]] | None = None,
) -> TrainResult:
    """Runs the trainer, from its last checkpoint if there is one, and leaves the result in `out`, whole or not at all.

    `facts` go into the model card, and so does what `measure` finds once the weights are final. With several
    processes all call this and the first one writes.
    """
    part = part_of(out)
    checkpoint = last_checkpoint(part) if settings.checkpoint_steps else None
    meant = {"kind": kind, "base": policy.source, **dataclasses.asdict(settings), **facts}
    meant = {name: value for name, value in json.loads(json.dumps(meant)).items() if name not in FREE}
    if checkpoint is not None:
        _check_same(part, meant)
    elif trainer.accelerator.is_main_process:
        part.mkdir(parents=True, exist_ok=True)
        (part / _SETTINGS).write_text(json.dumps(meant))
    trainer.remove_callback(PrinterCallback)  # stdout belongs to the command
    if settings.push_to_hub is not None and trainer.accelerator.is_main_process:
        _make_repository(settings.push_to_hub)
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
    if measure is not None:
        metrics |= measure()
    result = TrainResult(out, steps, seconds, metrics, history)
    if trainer.accelerator.is_main_process:
        _leave(trainer, settings, policy, result, kind=kind, facts=facts)
    trainer.accelerator.wait_for_everyone()
    return result


def _leave(
    trainer: Any, settings: Settings, policy: Policy, result: TrainResult, *, kind: str, facts: Mapping[str, Any]
) -> None:
    """Writes weights, adapter, card and log, and pushes them if asked."""
    model, out = trainer.accelerator.unwrap_model(trainer.model), result.path
    part = part_of(out)
    if policy.adaptation != "full":
        adapter = part / "adapter"
        model.save_pretrained(adapter)
        policy.tokenizer.save_pretrained(adapter)
        model = _merged(model, policy, adapter)
    folder = save(model, policy.tokenizer, part / "model")
    if policy.adaptation != "full":
        shutil.move(str(part / "adapter"), str(folder / "adapter"))
    for beside in [*part.glob("runs"), *part.glob(f"{EPISODES}*")]:  # TensorBoard's, and what was played
        shutil.move(str(beside), str(folder / beside.name))
    record = {
        "kind": kind,
        "base": policy.source,
        "adaptation": policy.adaptation,
        "settings": dataclasses.asdict(settings),
        "facts": dict(facts),
        "steps": result.steps,
        "seconds": result.seconds,
        "metrics": result.metrics,
        "log": result.log,
    }
    write_card(folder, record)
    (folder / "training.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    if out.exists():
        shutil.rmtree(out)
    folder.rename(out)
    shutil.rmtree(part)
    if settings.push_to_hub is not None:
        try:
            HfApi().upload_folder(repo_id=settings.push_to_hub, folder_path=str(out), ignore_patterns=[f"{EPISODES}*"])
        except Exception as error:  # the errors of whatever HTTP library the hub's client uses
            raise InfrastructureError(
                f"{out} is trained, but could not be pushed ({_one_line(error)}); "
                f"hf upload {settings.push_to_hub} {out}"
            ) from error


def _make_repository(name: str) -> None:
    """So that a wrong name, a missing login or network is known before hours of training."""
    try:
        HfApi().create_repo(name, exist_ok=True, private=True)
    except Exception as error:  # as above
        raise InputError(
            f"push_to_hub: {name} cannot be made on the Hugging Face hub ({_one_line(error)}); log in: hf auth login"
        ) from error


def _one_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _merged(model: Any, policy: Policy, adapter: Path) -> Any:
    """The adapters' product added to the weights. A 4-bit base is read again in full: merging would round twice."""
    if policy.adaptation == "qlora":
        base_dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        return AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=base_dtype).merge_and_unload()
    return model.merge_and_unload()
