"""A reward model fitted again, as it was the first time, to other comparisons."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from devnull.agents.episode import Episode
from devnull.cli.runs.json_lines import read_lines
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import AnnotationMode
from devnull.rewards.feedback.comparisons import Preference, make_preferences
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.training.endings import LearntEnding
from devnull.training.settings import RewardSettings

if TYPE_CHECKING:
    from devnull.training.weighted_preferences import WeightedPreference


@dataclass(frozen=True)
class FittedReward:
    """How a reward model was fitted."""

    base: str
    """Folder or name of the model that it started from."""
    settings: RewardSettings
    annotations: AnnotationMode
    with_return: bool
    """Its annotations end with the return as a number."""
    marginalised: bool
    ending: LearntEnding
    """What filled the slot of a marginalised model while it learnt."""

    @classmethod
    def read(cls, folder: Path) -> "FittedReward":
        """From the folder that `devnull train reward` left. Raises `InputError` where another program made it."""
        try:
            record = json.loads((folder / "training.json").read_text())
            facts, names = record["facts"], {field.name for field in fields(RewardSettings)}
            kept = {name: value for name, value in record["settings"].items() if name in names}
            kept |= {"report_to": (), "push_to_hub": None}
            marginalised = bool(facts.get("marginalised"))
            ending = facts.get("ending", "rater")
            annotations, with_return = facts.get("annotations", "none"), bool(facts.get("annotated return", True))
            return cls(record["base"], RewardSettings(**kept), annotations, with_return, marginalised, ending)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} does not say how it was fitted ({error!r}); train it with devnull train reward"
            ) from None

    def prepare(
        self,
        pairs: Sequence[Preference],
        episodes: Sequence[Episode],
        evaluator: Evaluator,
        tasks: Mapping[str, Task],
    ) -> "list[WeightedPreference]":
        """The comparisons as it learns from them: plain, annotated or marginalised.

        Args:
            episodes: Those that are compared.
            evaluator: The one who compared them.
        """
        from devnull.rewards.feedback.annotated_preferences import annotate_preferences
        from devnull.training.weighted_preferences import marginalised_preferences, plain_preferences

        if self.marginalised:
            return marginalised_preferences(pairs, episodes, evaluator, tasks, self.ending)
        if self.annotations != "none":
            bare = [pair for pair in pairs if pair.annotations == "none"]
            annotated, _ = annotate_preferences(
                bare, episodes, evaluator, tasks, self.annotations, with_return=self.with_return
            )
            pairs = [*(pair for pair in pairs if pair.annotations != "none"), *annotated]
        return plain_preferences(pairs)


def compare_once(
    file: Path, episodes: Sequence[Episode], evaluator: Evaluator, tasks: Mapping[str, Task], seed: int, count: int
) -> list[Preference]:
    """The evaluator's comparisons among these episodes, from `file`, or made and kept there."""
    if not file.exists():
        pairs = make_preferences(episodes, evaluator, tasks, seed, count)
        write_atomically(file, "".join(pair.model_dump_json() + "\n" for pair in pairs))
    return list(read_lines(file, Preference))
