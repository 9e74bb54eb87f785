"""The folder that training leaves, whole or not at all: weights, adapter, model card and log."""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from peft import PeftModel

from devnull.agents.model_loading import first_line
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.training.learning_rates import choose_learning_rate
from devnull.training.model_card import describe_base, write_model_card
from devnull.training.models import LoadedPolicy, save_model
from devnull.training.settings import TrainerSettings

EPISODES_FOLDER = "episodes"
"""Folders beside the checkpoints whose names begin so go into the result, and are not pushed to the hub."""


@dataclass(frozen=True)
class TrainResult:
    """A finished training: where the model is, and what was logged."""

    path: Path
    """Folder of the merged model, its tokenizer, `README.md` and `training.json`; `adapter/` if adapters learnt."""
    steps: int
    """Optimiser steps."""
    seconds: float
    """Wall time; of a resumed run, since it went on."""
    metrics: dict[str, float]
    """The last value of each logged quantity, and totals; on a GPU `peak_memory_gib`, the most that tensors held."""
    log: list[dict[str, float]] = field(repr=False, default_factory=list)
    """The logged quantities of each step, in order."""
    stopped: str = ""
    """Why it ended before its last step; empty: it did not."""

    @classmethod
    def read(cls, path: Path) -> "TrainResult | None":
        """The result that the folder `path` holds, from its `training.json`; `None` if there is none."""
        file = path / "training.json"
        if not file.exists():
            return None
        record = json.loads(file.read_text())
        return cls(
            path,
            record["steps"],
            record["seconds"],
            record["metrics"],
            record["log"],
            record["facts"].get("stopped", ""),
        )


def partial_folder(out: Path) -> Path:
    """Folder of the checkpoints while training has not finished: `OUT.part`, beside the result's."""
    return out.with_name(out.name + ".part")


def last_checkpoint(part: Path, needs: Sequence[str] = ()) -> str | None:
    """Path of the newest whole checkpoint in `part`; `None` if there is none.

    One that was being written when the run was killed lacks its last file, or half of it, or one of those that it
    `needs` besides, and is passed over.
    """
    for folder in sorted(part.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        try:
            json.loads((folder / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        if all((folder / name).exists() for name in needs):
            return str(folder)
    return None


def write_result(
    trainer: Any,
    settings: TrainerSettings,
    policy: LoadedPolicy,
    result: TrainResult,
    *,
    kind: str,
    facts: Mapping[str, Any],
) -> None:
    """Writes weights, adapter, model card and log into `result.path`, removes the checkpoints, pushes if asked.

    `kind` and `facts` as in `devnull.training.trl_run.run_trainer`. Raises `InfrastructureError` if the push fails.
    """
    model, out = trainer.accelerator.unwrap_model(trainer.model), result.path
    part = partial_folder(out)
    shutil.rmtree(part / "model", ignore_errors=True)  # half of one, where the disk was full
    if policy.adaptation != "full":
        adapter = part / "adapter"
        model.save_pretrained(adapter)
        policy.tokenizer.save_pretrained(adapter)
        model = _merge_adapter(model, policy, adapter)
    folder = save_model(model, policy.tokenizer, part / "model")
    if policy.adaptation != "full":
        shutil.move(str(part / "adapter"), str(folder / "adapter"))
    record = {
        "kind": kind,
        "base": policy.source,
        "hub": describe_base(str(policy.source)),
        "dataset": _dataset_name(out),
        "learning_rate": choose_learning_rate(settings, policy.model, policy.adaptation),
        "adaptation": policy.adaptation,
        "settings": dataclasses.asdict(settings),
        "facts": dict(facts),
        "steps": result.steps,
        "seconds": result.seconds,
        "metrics": result.metrics,
        "log": result.log,
    }
    write_model_card(folder, record)
    (folder / "training.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    for beside in [*part.glob("runs"), *part.glob(f"{EPISODES_FOLDER}*")]:  # TensorBoard's, and what was played
        shutil.move(str(beside), str(folder / beside.name))
    if out.exists():
        shutil.rmtree(out)
    folder.rename(out)
    shutil.rmtree(part)
    if settings.push_to_hub is not None:
        try:
            HfApi().upload_folder(
                repo_id=settings.push_to_hub, folder_path=str(out), ignore_patterns=[f"{EPISODES_FOLDER}*"]
            )
        except Exception as error:  # the errors of whatever HTTP library the hub's client uses
            raise InfrastructureError(
                f"{out} is trained, but could not be pushed ({first_line(error)}); "
                f"hf upload {settings.push_to_hub} {out}"
            ) from error


def _dataset_name(out: Path) -> str | None:
    """Name of the run whose policy `out` is, as a dataset (`devnull export RUN --to hf`); `None`: it is of no run."""
    if out.parent.name != "checkpoints":
        return None
    return re.sub(r"[^\w.-]+", "-", out.resolve().parent.parent.name).strip("-.") or None


def make_hub_repository(name: str) -> None:
    """Makes the private repository to push to, so that a wrong name or missing login is known before hours of training.

    Raises `InputError` where the hub refuses it or cannot be reached.
    """
    try:
        HfApi().create_repo(name, exist_ok=True, private=True)
    except Exception as error:  # as above
        raise InputError(
            f"push_to_hub: {name} cannot be made on the Hugging Face hub ({first_line(error)}); log in: hf auth login"
        ) from error


def _merge_adapter(model: Any, policy: LoadedPolicy, adapter: Path) -> Any:
    """The adapters' product added to the weights that they were learnt on.

    Of a 4-bit base these are the ones that its 4 bits stand for, not those that were rounded to them: with the latter
    another policy would be saved than was trained. They are spelt out in main memory, where there is room for them.
    """
    if policy.adaptation == "qlora":
        model.state_dict()  # undoes how a CPU packs the 4 bits to multiply by them, which dequantize() would misread
        model = PeftModel.from_pretrained(model.unload().to("cpu").dequantize(), adapter)
    return model.merge_and_unload()
