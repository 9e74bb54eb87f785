"""A cap on how far GRPO may take a policy: `kl_limit`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from devnull.sandbox.atomic_file import replace_when_whole

KEPT_FILE = "within_limit.pt"
"""In a checkpoint's folder, so that a resumed run can go back as far as an uninterrupted one. Where there is a limit,
a checkpoint without it is not whole."""


@dataclass(frozen=True)
class _Measured:
    """A policy, and how far it was found to be from the first one."""

    batch: int
    """That it played, from 1."""
    drift: dict[str, float]
    """`kl_commands` and the like: nats an episode."""
    weights: dict[str, torch.Tensor]
    """Copies of those that learn."""


class KLLimit(TrainerCallback):  # type: ignore[misc]
    """Ends training at the first batch whose policy is too far away, and goes back to the last that was not.

    One step can take a policy from 1 nat to 12: where training ends is then no policy that anybody asked for.
    """

    def __init__(self, nats: float) -> None:
        self.nats = nats
        self._kept: _Measured | None = None
        self._passed: _Measured | None = None
        self._batches = 0

    def record(self, drift: Mapping[str, float], model: Any) -> None:
        """Called with what was measured of each batch, before anything is learnt from it.

        Args:
            drift: `kl_commands`, which is held against the limit, and what else to report of the policy that is kept.
        """
        self._batches += 1
        learning = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        weights = {name: weight.detach().to("cpu", copy=True) for name, weight in learning}
        measured = _Measured(self._batches, dict(drift), weights)
        if drift["kl_commands"] <= self.nats:
            self._kept = measured
        else:
            self._passed = measured

    def why_stopped(self) -> str:
        """Empty unless the limit was passed."""
        if self._passed is None:
            return ""
        kept = self._kept or self._passed
        return (
            f"at batch {self._passed.batch}, whose commands were {self._passed.drift['kl_commands']:.2f} nats an "
            f"episode from the first policy's; kl_limit is {self.nats:g}; this is the policy that played batch "
            f"{kept.batch}, at {kept.drift['kl_commands']:.2f}"
        )

    def drift_of_kept(self) -> dict[str, float]:
        """What was measured of the policy that training gave, where the limit was passed."""
        return {} if self._passed is None else (self._kept or self._passed).drift

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Takes up what the checkpoint kept, if training goes on from one."""
        path = _checkpoint(args, state) / KEPT_FILE
        if state.global_step and path.is_file():
            kept = torch.load(path, map_location="cpu", weights_only=True)
            self._kept = _Measured(kept["batch"], kept["drift"], kept["weights"])
            self._batches = kept["batch"]

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Lays what is kept beside the checkpoint."""
        if self._kept is not None and state.is_world_process_zero:
            kept = {"batch": self._kept.batch, "drift": self._kept.drift, "weights": self._kept.weights}
            with replace_when_whole(_checkpoint(args, state) / KEPT_FILE) as part:
                torch.save(kept, part)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """TRL has taken a step from the batch by now: with it, those that led too far are undone."""
        if self._passed is None:
            return
        kept = (self._kept or self._passed).weights
        with torch.no_grad():
            for name, weight in getattr(model, "module", model).named_parameters():  # DDP wraps it
                if name in kept:
                    weight.copy_(kept[name])
        control.should_training_stop = True


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
