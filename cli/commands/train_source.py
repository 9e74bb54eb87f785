"""What every trainer gets of the run that it learns from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PromptFormat
from devnull.cli.commands.train_options import TrainerArgs
from devnull.cli.runs.local_models import base_model
from devnull.cli.runs.policy_episodes import held_out_instances, sampling_on_the_way
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Task

if TYPE_CHECKING:
    from devnull.training.sampling import Sampling
    from devnull.training.trl_run import StepCallback


@dataclass(frozen=True)
class TrainingSource:
    """The run to learn from, as every trainer takes it."""

    episodes: list[Episode]
    tasks: Mapping[str, Task]
    evaluator: Evaluator
    on_step: "StepCallback"
    open_boxes: Callable[[], Runtime]
    """Makes the runtime that the command line names."""

    def sampling(self, args: TrainerArgs, prompt: PromptFormat) -> "Sampling | None":
        """What the policy is sampled on while it learns."""
        if not args.sample_every:
            return None
        both = args.builds == "both"
        instances = held_out_instances(self.episodes, self.tasks, args.samples, both_builds=both)
        return sampling_on_the_way(
            args.sample_every, args.folder, args.run, instances, self.open_boxes(), prompt, args.boxes, args
        )

    def base_model(self, args: TrainerArgs) -> Path | str:
        """Where the model lies that training starts from, or its name."""
        return base_model(args.model, args.run / "checkpoints" / "tiny", self.episodes)
