"""What a trainer learns from: feedback, tasks, pay, the model to start from; and what its model card tells of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devnull.agents.episode import Episode
from devnull.agents.protocol import messages
from devnull.cli.runs.folder import Record, read_lines
from devnull.cli.runs.rolling_out import SEEDS_PER_RUN, TRAINING_SEEDS, draw_instances
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import Mode
from devnull.rewards.feedback.comparisons import Preference
from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.errors import InputError
from devnull.sandbox.recipe import cache_folder
from devnull.sandbox.task import Instance, Task

if TYPE_CHECKING:
    from devnull.training.grpo import RewardFunction


def base(model: str, run: Path, episodes: Sequence[Episode]) -> Path | str:
    """The model that `model` names; `tiny` is made from the run."""
    from devnull.training.models import make_tiny, smollm2

    match model:
        case "tiny":
            path = run / "checkpoints" / "tiny"
            if not path.exists():
                chats = [messages(e.transcript.instruction, e.transcript.turns) for e in episodes]
                make_tiny(path, [message["content"] for chat in chats for message in chat])
            return path
        case "smollm2":
            return smollm2(cache_folder())
        case name:
            return name


def feedback(run: Path, kind: str, name: str, model: type[Record]) -> list[Record]:
    """What `devnull label` left in the run."""
    path = run / (f"{kind}-{name}.jsonl" if name else f"{kind}.jsonl")
    if not path.exists():
        found = sorted(file.name for file in run.glob(f"{kind}*.jsonl"))
        hint = f"; there are {', '.join(found)} (--feedback NAME)" if found else "; make some: devnull label"
        raise InputError(f"{path}: no such file{hint}")
    return list(read_lines(path, model))


def training_tasks(run: Path, episodes: Sequence[Episode], tasks: Mapping[str, Task]) -> list[Task]:
    chosen = [tasks[name] for name in sorted({e.task for e in episodes if e.split == "train"})]
    if not chosen:
        raise InputError(f"{run} holds no episode of a training task; roll out on --split train first")
    return chosen


def training_instances(
    tasks: Sequence[Task], count: int, seed: int, first: int = 0, *, group: int = 1
) -> list[Instance]:
    """Others than a run's own, and for each seed others."""
    start = TRAINING_SEEDS + SEEDS_PER_RUN // 2 + seed * SEEDS_PER_RUN + first
    return draw_instances(tasks, count, start, group=group)


def payment(pay: str, annotations: Mode | None, tasks: Mapping[str, Task], evaluator: Evaluator) -> "RewardFunction":
    """`believed`, `actual`, or the folder of a reward model."""
    from devnull.training.reward_functions import actual, believed, scored
    from devnull.training.reward_model import RewardModel

    if annotations is not None and pay in ("believed", "actual"):
        raise InputError(f"--annotations are for a reward model, and --pay is {pay}; pass its folder")
    match pay:
        case "believed":
            return believed(evaluator, tasks)
        case "actual":
            return actual(tasks)
        case folder:
            model = RewardModel(Path(folder))
            facts = _reward_facts(Path(folder))
            mode = annotations or facts.get("annotations", "none")
            return scored(model, tasks, mode, evaluator, marginalised=bool(facts.get("marginalised")))


def _reward_facts(path: Path) -> dict[str, Any]:
    """What the trainer of a reward model wrote of it; nothing where another made it."""
    file = path / "training.json"
    found: dict[str, Any] = json.loads(file.read_text())["facts"] if file.exists() else {}
    return found


def paid_by(pay: str, evaluator: Evaluator) -> dict[str, str]:
    match pay:
        case "believed":
            return {"paid by": pay, **seen_by(evaluator)}
        case "actual":
            return {"paid by": pay}
        case folder:
            facts = _reward_facts(Path(folder))
            return {"paid by": Path(folder).name} | {key: facts[key] for key in ("evaluator", "view") if key in facts}


def seen_by(evaluator: Evaluator) -> dict[str, str]:
    views = {member.sensors.name for member in evaluator.members}
    return {"evaluator": evaluator.name, "view": ", ".join(sorted(views))}


def given_by(run: Path, given: Sequence[Preference] | Sequence[Rating]) -> dict[str, str]:
    evaluators, views = ({getattr(each, name) or "unknown" for each in given} for name in ("evaluator", "view"))
    return {
        "data": f"feedback on run {run.resolve().name}",
        "evaluator": ", ".join(sorted(evaluators)),
        "view": ", ".join(sorted(views)),
    }
