"""Batches of GRPO in which every group's rewards are equal: there is nothing to learn from them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback

EQUAL = "share/equal_groups"
"""What is logged of each batch."""


def share_of_equal_groups(rewards: Sequence[float | None], group: int) -> float:
    """Share of the groups whose rewards do not differ, those left aside that are `None` or NaN.

    Args:
        rewards: Of a batch, group by group.
        group: Episodes in each.
    """
    groups = [rewards[first : first + group] for first in range(0, len(rewards), group)]
    different = [len({each for each in some if each is not None and not math.isnan(each)}) > 1 for some in groups]
    return 1 - sum(different) / len(groups)


class StopWhenEqual(TrainerCallback):  # type: ignore[misc]
    """Ends training after so many batches in a row from which there was nothing to learn.

    A policy that never acts, or always alike, would else be trained to the end with a loss of 0.
    """

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.in_a_row = 0

    def record(self, share: float, accelerator: Any) -> float:
        """Called with each batch's share of equal groups; that of all processes together."""
        everyones = float(accelerator.reduce(torch.tensor(share, device=accelerator.device), "mean"))
        self.in_a_row = self.in_a_row + 1 if everyones == 1 else 0
        return everyones

    def why_stopped(self) -> str:
        """Empty unless it was the reason."""
        if not self.batches or self.in_a_row < self.batches:
            return ""
        return (
            f"after {self.in_a_row} batches in a row in which the rewards of every group were equal, so that there was "
            f"nothing to learn: see valid_action_share and attempt_rate in the log; a policy that seldom acts is to "
            f"imitate first (train sft); max_equal_batches is {self.batches}"
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Counts what was logged before, if training goes on from a checkpoint."""
        for share in (entry[EQUAL] for entry in state.log_history if EQUAL in entry):
            self.in_a_row = self.in_a_row + 1 if share == 1 else 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After the step that TRL has taken from the batch, which moved nothing."""
        if self.why_stopped():
            control.should_training_stop = True
