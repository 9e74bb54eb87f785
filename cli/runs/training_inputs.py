"""What a trainer gets from a run: feedback, tasks, instances, a reward function; and their lines in the model card."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devnull.agents.episode import Episode
from devnull.cli.runs.json_lines import Record, read_lines
from devnull.cli.runs.rollouts import SEEDS_PER_RUN, TRAINING_SEEDS, draw_instances
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import AnnotationMode
from devnull.rewards.feedback.comparisons import Preference
from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Instance, Task
from devnull.training.endings import PaidEnding

if TYPE_CHECKING:
    from devnull.training.reward_functions import RewardFunction


def read_feedback(run: Path, kind: str, name: str, model: type[Record]) -> list[Record]:
    """Feedback that `devnull label` wrote into the run.

    Args:
        kind: `preferences` or `ratings`, the beginning of the file's name.
        name: What `devnull label --name` called it; empty for the one without a name.
        model: `Preference` or `Rating`.

    Raises `InputError`, naming the files that there are.
    """
    path = run / (f"{kind}-{name}.jsonl" if name else f"{kind}.jsonl")
    if not path.exists():
        others = sorted(file.name for file in run.glob(f"{kind}*.jsonl"))
        hint = f"; there are {', '.join(others)} (--feedback NAME)" if others else "; make some: devnull label"
        raise InputError(f"{path}: no such file{hint}")
    return list(read_lines(path, model))


def training_tasks(run: Path, episodes: Sequence[Episode], tasks: Mapping[str, Task]) -> list[Task]:
    """The run's tasks of the training split, by name. Raises `InputError` where there are none."""
    chosen = [tasks[name] for name in sorted({e.task for e in episodes if e.split == "train"})]
    if not chosen:
        raise InputError(f"{run} holds no episode of a training task; roll out on --split train first")
    return chosen


def training_instances(
    tasks: Sequence[Task], count: int, seed: int, first: int = 0, *, group: int = 1
) -> list[Instance]:
    """Instances for training online. None is one of `devnull rollout`, and no two seeds share one.

    Args:
        first: How many seeds earlier rounds have used up.
        group: Samples of each instance.
    """
    start = TRAINING_SEEDS + SEEDS_PER_RUN // 2 + seed * SEEDS_PER_RUN + first
    return draw_instances(tasks, count, start, group=group)


def make_reward_function(
    reward: str,
    annotations: AnnotationMode | None,
    tasks: Mapping[str, Task],
    evaluator: Evaluator,
    ending: PaidEnding | None = None,
) -> "RewardFunction":
    """The reward function that `--reward` names.

    Args:
        reward: `believed` (the evaluator's), `actual` (the verifier's), or the folder of a reward model.
        annotations: What a reward model reads at the end of a conversation; `None`: as it was trained.
        ending: What fills the slot of the ending of a marginalised one; `None`: the truth.

    Raises `InputError` for a folder without a reward model, and for annotations or an ending that nothing reads.
    """
    from devnull.training.reward_functions import believed_return_reward, reward_model_reward, true_return_reward
    from devnull.training.reward_model import RewardModel

    if annotations is not None and reward in ("believed", "actual"):
        raise InputError(f"--annotations are for a reward model, and --reward is {reward}; pass its folder")
    if ending is not None and reward in ("believed", "actual"):
        raise InputError(f"--ending is for a marginalised reward model, and --reward is {reward}; pass its folder")
    match reward:
        case "believed":
            return believed_return_reward(evaluator, tasks)
        case "actual":
            return true_return_reward(tasks)
        case folder:
            model = RewardModel(Path(folder))
            facts = _reward_model_facts(Path(folder))
            mode = annotations or facts.get("annotations", "none")
            marginalised = bool(facts.get("marginalised"))
            if ending is not None and not marginalised:
                raise InputError(
                    f"--ending {ending}: {folder} is no marginalised reward model and has no slot to fill; leave it out"
                )
            if annotations is not None and marginalised:
                raise InputError(
                    f"--annotations {annotations}: {folder} is marginalised, and reads an ending instead; pass --ending"
                )
            return reward_model_reward(
                model,
                tasks,
                mode,
                evaluator,
                marginalised=marginalised,
                with_return=bool(facts.get("annotated return", True)),  # every annotation had it, before this key
                ending=ending or "truth",
            )


def _reward_model_facts(folder: Path) -> dict[str, Any]:
    """What `devnull train reward` wrote about the model; empty where another program trained it."""
    file = folder / "training.json"
    facts: dict[str, Any] = json.loads(file.read_text())["facts"] if file.exists() else {}
    return facts


def describe_reward(
    reward: str,
    evaluator: Evaluator,
    annotations: AnnotationMode | None = None,
    ending: PaidEnding | None = None,
) -> dict[str, str]:
    """Lines of the model card about what `--reward` names, and what it is told besides. Their keys lie in
    `training.json` files: they stay."""
    match reward:
        case "believed":
            return {"paid by": reward, **describe_evaluator(evaluator)}
        case "actual":
            return {"paid by": reward}
        case folder:
            facts = _reward_model_facts(Path(folder))
            told = _FILLED["believed" if ending == "believed" else "truth"] if facts.get("marginalised") else ""
            if not told and (mode := annotations or facts.get("annotations", "none")) != "none":
                told = f" with annotations of what is {'true' if mode == 'truth' else 'believed'}"
            return {"paid by": Path(folder).name + told} | {
                key: facts[key] for key in ("evaluator", "view") if key in facts
            }


_FILLED = {"truth": " with the true ending", "believed": " with the raters' mean belief"}
"""What stood in the slot of a marginalised model, in the words of the model card."""


def describe_evaluator(evaluator: Evaluator) -> dict[str, str]:
    """Lines of the model card: the evaluator's name, the sensors it sees through, and what else is not the default."""
    views = {member.sensors.name for member in evaluator.members}
    own = {"name", "sensors", "belief", "panel", "misaligned_values"}
    dials = evaluator.config.model_dump(mode="json", exclude_defaults=True, exclude=own)
    settings = {"evaluator's settings": json.dumps(dials)} if dials else {}
    return {"evaluator": evaluator.name, "view": ", ".join(sorted(views)), **settings}


def describe_feedback(run: Path, feedback: Sequence[Preference] | Sequence[Rating]) -> dict[str, str]:
    """Lines of the model card: which run the feedback is on, who gave it, and what they saw."""
    evaluators, views = ({getattr(each, name) or "unknown" for each in feedback} for name in ("evaluator", "view"))
    return {
        "data": f"feedback on run {run.resolve().name}",
        "evaluator": ", ".join(sorted(evaluators)),
        "view": ", ".join(sorted(views)),
    }
