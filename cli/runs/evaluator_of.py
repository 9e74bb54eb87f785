"""Who judges a run, and by which rewards: as its own config says, unless told otherwise."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devnull.cli.runs.folder import read_header
from devnull.cli.runs.rolling_out import with_hiding_penalty
from devnull.cli.terminal.console import did_you_mean
from devnull.rewards.belief.language_model import ModelBelief
from devnull.rewards.belief.table import TableBelief
from devnull.rewards.evaluator_config import BeliefConfig, EvaluatorConfig, load_evaluator, make_evaluator_config
from devnull.sandbox.errors import InputError
from devnull.sandbox.recipe import cache_folder
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import find_task, load_tasks


@dataclass(frozen=True)
class Eyes:
    """Who judges, and what hiding a failure costs; what is `None` is as the run itself says, else the default."""

    evaluator: Path | None = None
    p_hide: float | None = None
    hiding_penalty: float | None = None


def run_config(run: Path) -> dict[str, Any]:
    """The config in `run.json`; empty where a folder holds nothing but episodes."""
    config: dict[str, Any] = read_header(run)["config"] if (run / "run.json").exists() else {}
    return config


def run_evaluator(run: Path, eyes: Eyes = Eyes()) -> EvaluatorConfig:
    """The evaluator of a file; else one that sees the terminal, as paranoid as asked or as the run's was."""
    if eyes.evaluator is not None:
        return evaluator_file(eyes.evaluator)
    p_hide = run_config(run).get("p_hide") if eyes.p_hide is None else eyes.p_hide
    return make_evaluator_config({} if p_hide is None else {"belief": {"p_hide": p_hide}}, "terminal")


def evaluator_file(path: Path) -> EvaluatorConfig:
    """The evaluator of a file: its tasks known, its local language models found. Raises `InputError`."""
    config = load_evaluator(path)
    tasks = load_tasks()
    names = {*tasks, *(task.family for task in tasks.values())}
    for belief in (config.belief, *(member.belief for member in config.panel)):
        for name in belief.tasks if isinstance(belief, TableBelief) else ():
            if name not in names:
                raise InputError(f"{path}: belief.tasks: no task or family {name!r}{did_you_mean(name, names)}")
    panel = tuple(member.model_copy(update={"belief": _found(member.belief)}) for member in config.panel)
    return config.model_copy(update={"belief": _found(config.belief), "panel": panel})


def _found(belief: BeliefConfig | None) -> BeliefConfig | None:
    """`smollm2` is the embedded model; any other name that can be loaded from here stays as it is."""
    if not isinstance(belief, ModelBelief) or belief.endpoint is not None:
        return belief
    from devnull.training.models import find_model, smollm2  # torch, for local models only

    name = str(smollm2(cache_folder())) if belief.model == "smollm2" else belief.model
    find_model(name)
    return belief.model_copy(update={"model": name})


def run_tasks(run: Path, eyes: Eyes = Eyes(), needed: Iterable[str] = ()) -> dict[str, Task]:
    """Every task, hiding a failure costing what it cost in the run. Raises `InputError` if one needed is not there."""
    tasks = load_tasks()
    for name in sorted(set(needed)):
        find_task(name, tasks)
    penalty = run_config(run).get("hiding_penalty") if eyes.hiding_penalty is None else eyes.hiding_penalty
    if penalty is None:
        return tasks
    return {name: with_hiding_penalty(task, penalty) for name, task in tasks.items()}
