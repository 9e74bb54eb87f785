"""Which evaluator judges a run, and what hiding a failure costs: as asked, else as the run's own config says."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import devnull
from devnull.cli.runs.local_models import resolve_model
from devnull.cli.runs.run_folder import read_run_config
from devnull.rewards.belief.language_model import ModelBelief
from devnull.rewards.belief.table import TableBelief
from devnull.rewards.evaluator_config import BeliefConfig, EvaluatorConfig, load_evaluator, make_evaluator_config
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import find_task, load_tasks

_SHIPPED = Path(devnull.__file__).parent / "examples" / "evaluators"
"""Evaluators that come with the package, to be named without folder and ending."""


REWARD_KEYS = ("hiding_penalty", "verbosity_cost")
"""Names of these options, and of the keys in a run's config."""


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """What a command line says of the true rewards; `None`: as the run's config says, else as each task does."""

    hiding_penalty: float | None = None
    """What hiding a failure truly costs (example A's r); by default as the run says, else as each task does."""
    verbosity_cost: float | None = None
    """What a success shown by a long log truly costs (example B's r); by default likewise."""

    def __post_init__(self) -> None:
        for name in REWARD_KEYS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} is {value}; it must be a finite number, at least 0")

    def over(self, config: Mapping[str, Any]) -> dict[str, float]:
        """The rewards that differ from the tasks' own: those asked for, else those of a run's config."""
        values = {
            name: config.get(name) if getattr(self, name) is None else getattr(self, name) for name in REWARD_KEYS
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class EvaluatorChoice(RewardOptions):
    """What a command line says of the evaluator. What is `None` is taken from the run's config, else is the default."""

    evaluator: Path | None = None
    """TOML file, or the name of one that comes with the package (`shuffled`)."""
    p_hide: float | None = None
    """Its belief, seeing nothing, in a hidden failure (the paper's pH); not used where a file is named."""


def choose_evaluator(run: Path, choice: EvaluatorChoice = EvaluatorChoice()) -> EvaluatorConfig:
    """The evaluator of the file that was named; else one that sees the terminal, with the run's pH or the one asked.

    Raises `InputError` where the file or the run is not there or not valid.
    """
    if choice.evaluator is not None:
        return resolve_evaluator(choice.evaluator)
    p_hide = read_run_config(run).get("p_hide") if choice.p_hide is None else choice.p_hide
    return make_evaluator_config({} if p_hide is None else {"belief": {"p_hide": p_hide}}, "terminal")


def check_same_judge(runs: Iterable[Path], choice: EvaluatorChoice) -> None:
    """Raises `InputError` where runs that are compared would be judged by different beliefs or rewards, each by its own
    config: returns would differ by that alone."""
    for key in ("p_hide", *REWARD_KEYS):
        if getattr(choice, key) is not None or (key == "p_hide" and choice.evaluator is not None):
            continue
        default = TableBelief().p_hide if key == "p_hide" else None
        values = {run: default if (value := read_run_config(run).get(key)) is None else value for run in runs}
        if len(set(values.values())) > 1:
            option = f"--{key.replace('_', '-')}"
            there = ", ".join(f"{run} {_spell(value)}" for run, value in values.items())
            known = next(value for value in values.values() if value is not None)
            raise InputError(f"judged by their own {option} ({there}) they cannot be compared; add {option} {known:g}")


def _spell(value: float | None) -> str:
    return "each task's own" if value is None else f"{value:g}"


def resolve_evaluator(path: Path) -> EvaluatorConfig:
    """Loads an evaluator's file, ready to judge: its tasks are checked, its local language models fetched.

    Args:
        path: A TOML file, or the bare name of one that comes with the package.

    Raises `InputError` for a file, task or model that is not there.
    """
    path = _find_file(path)
    config = load_evaluator(path)
    tasks = load_tasks()
    names = {*tasks, *(task.family for task in tasks.values())}
    for belief in (config.belief, *(member.belief for member in config.panel)):
        for name in belief.tasks if isinstance(belief, TableBelief) else ():
            if name not in names:
                raise InputError(f"{path}: belief.tasks: no task or family {name!r}{did_you_mean(name, names)}")
    panel = tuple(member.model_copy(update={"belief": _resolve_belief(member.belief)}) for member in config.panel)
    return config.model_copy(update={"belief": _resolve_belief(config.belief), "panel": panel})


def _find_file(path: Path) -> Path:
    """`shuffled` is the package's own `shuffled.toml`, unless there is a file of that name here."""
    if path.name != str(path) or path.suffix or path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(_SHIPPED.glob("*.toml"))}
    if path.name not in shipped:
        hint = did_you_mean(path.name, shipped) or f"; there are {', '.join(shipped)}"
        raise InputError(f"--evaluator {path.name}: no such file, and no evaluator of that name{hint}")
    return shipped[path.name]


def _resolve_belief(belief: BeliefConfig | None) -> BeliefConfig | None:
    """A judge that is a local model, with the model found or fetched; any other belief as it is."""
    if not isinstance(belief, ModelBelief) or belief.endpoint is not None:
        return belief
    return belief.model_copy(update={"model": resolve_model(belief.model)})


def load_run_tasks(run: Path, choice: RewardOptions = RewardOptions(), needed: Iterable[str] = ()) -> dict[str, Task]:
    """Every task by name, with the hiding penalty and the cost of verbosity asked for, or those of the run.

    Raises `InputError` if a task of `needed` does not exist.
    """
    tasks = load_tasks()
    for name in sorted(set(needed)):
        find_task(name, tasks)
    rewards = choice.over(read_run_config(run))
    if (penalty := rewards.get("hiding_penalty")) is not None:
        tasks = {name: task.with_hiding_penalty(penalty) for name, task in tasks.items()}
    if (cost := rewards.get("verbosity_cost")) is not None:
        tasks = {name: task.with_verbosity_cost(cost) for name, task in tasks.items()}
    return tasks
