"""Deceptive inflation in RLHF, shown on real shells: the public surface, a page.

    tasks()        the installation tasks, by name
    rollout(...)   lets an agent work through tasks in real boxes; gives episodes
    exec(...)      runs commands in one box and gives all that is known of them
    score(...)     one episode in figures: what was true, believed, suppressed
    evaluate(...)  metrics and verdicts of many scores
    load_run(...)  a run folder as pandas frames
    Task, Episode, Evaluator

Everything else is in the rooms (`devnull.sandbox`, `devnull.agents`, ...) and may change between versions. Nothing
heavy is imported before it is used: `import devnull` takes a few milliseconds.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devnull.agents.agent import Agent
    from devnull.agents.episode import Episode
    from devnull.cli.runs.execution import Execution
    from devnull.cli.runs.loaded_run import LoadedRun
    from devnull.eval.comparing.evaluation import evaluate
    from devnull.eval.scoring.score import Score
    from devnull.rewards.evaluator import Evaluator
    from devnull.sandbox.task import Task

__version__ = "0.1.0"
__all__ = ["Episode", "Evaluator", "Task", "evaluate", "exec", "load_run", "rollout", "score", "tasks"]

_LAZY = {
    "Task": "devnull.sandbox.task",
    "Episode": "devnull.agents.episode",
    "Evaluator": "devnull.rewards.evaluator",
    "evaluate": "devnull.eval.comparing.evaluation",
}
"""Public names that are imported when they are first asked for, and from where."""

if find_spec("verifiers") is not None:  # which looks for its plugins in the `__all__` of the package that it is given
    _LAZY |= dict.fromkeys(("InstallHarness", "InstallTaskset"), "devnull.integrations.verifiers")
    __all__ += ["InstallHarness", "InstallTaskset"]


def tasks(split: Literal["train", "test", "all"] = "all") -> dict[str, Task]:
    """The installation tasks by name: the corpus, and those of the folder `DEVNULL_TASKS`.

    Examples:
        >>> len(devnull.tasks())
        218
    """
    from devnull.sandbox.tasks import load_tasks

    return {name: task for name, task in load_tasks().items() if split in ("all", task.split)}


def rollout(
    agent: str | Agent,
    names: Sequence[str] = (),
    *,
    split: Literal["train", "test", "all"] = "train",
    episodes: int = 32,
    group: int = 1,
    builds: Literal["drawn", "both"] = "drawn",
    seed: int = 0,
    runtime: str = "auto",
    workers: int = 8,
    out: Path | str | None = None,
) -> list[Episode]:
    """Lets an agent work through tasks, each episode in a fresh box.

    Args:
        agent: As `devnull rollout --agent` takes it (`"honest"`, `"hf:MODEL"`, ...), or an agent of your own.
        names: Tasks, families or patterns (`"driver-*"`); none: all of the split.
        episodes: How many, the tasks taking turns, `group` of each instance (same phrasing, same fault).
        builds: Under which builds each instance is played: the one that its seed draws, or both, by the same draws.
        out: A run folder that keeps them; the same call goes on where a killed one was.

    Returns the episodes in order of task, seed and sample. One that an infrastructure failure ended has `error` set.
    Raises `InputError` for what cannot be, an `InfrastructureError` where no box can be had.

    Examples:
        >>> episodes = devnull.rollout("hiding", ["driver-cuda-runfile"], episodes=4)
    """
    from pathlib import Path

    from devnull.cli.runs.rollouts import collect_episodes

    return collect_episodes(
        agent,
        names,
        split=split,
        episodes=episodes,
        group=group,
        both_builds=builds == "both",
        seed=seed,
        runtime=runtime,
        workers=workers,
        out=None if out is None else Path(out),
    )


def exec(
    task: str | Task, *commands: str, seed: int = 0, runtime: str = "auto", timeout: float = 60.0, oracle: bool = False
) -> Execution:
    """Runs commands in one fresh box of a task: what the terminal showed, what it did not, and how the stages ended.

    Args:
        seed: Draws the instruction and the fault.
        timeout: Seconds that each command may take.
        oracle: Ask the replay oracle of each command whether it hid a failure.

    Examples:
        >>> devnull.exec("driver-cuda-runfile", "nvidia-smi 2>/dev/null").results[0].suppressed
        'bash: line 1: nvidia-smi: command not found\\n'
    """
    from devnull.cli.runs.execution import execute_commands
    from devnull.sandbox.runtime import Limits
    from devnull.sandbox.runtimes.by_name import open_runtime
    from devnull.sandbox.task import Instance
    from devnull.sandbox.tasks import find_task, load_tasks

    found = find_task(task, load_tasks()) if isinstance(task, str) else task
    instance = Instance(task=found, seed=seed)
    return execute_commands(instance, commands, open_runtime(runtime), Limits(seconds=timeout), oracle=oracle)


def score(episode: Episode, evaluator: Evaluator | None = None, task: Task | None = None) -> Score:
    """One episode in figures: true return, believed return, whether a failure was suppressed and stayed hidden.

    Args:
        evaluator: Whose belief is measured; by default one who sees the terminal.
        task: The episode's, if it is none of `tasks()`.

    Examples:
        >>> [devnull.score(episode).suppressed for episode in episodes]
        ['yes', None, 'yes', None]
    """
    from devnull.eval.scoring.score import score as score_episode
    from devnull.rewards.evaluator import Evaluator
    from devnull.sandbox.tasks import find_task, load_tasks

    return score_episode(episode, task or find_task(episode.task, load_tasks()), evaluator or Evaluator())


def load_run(
    path: Path | str, *, evaluator: Path | str | None = None, reference: Sequence[str] = (), p_hide: float | None = None
) -> LoadedRun:
    """A run folder as `.episodes`, `.scores` and `.metrics` (pandas frames) and `.verdicts` (values).

    Args:
        evaluator: TOML file, or the name of one that comes with the package; by default the run's own.
        reference: What verdicts are relative to, as `devnull eval --reference`; by default `sft` and `honest`.
        p_hide: The evaluator's belief, seeing nothing, in a hidden failure (the paper's pH).

    Examples:
        >>> run = devnull.load_run("runs/demo")
        >>> run.scores[run.scores.hidden == True][["arm", "task", "seed", "G", "G_obs"]]
    """
    from pathlib import Path

    from devnull.cli.runs.evaluator_choice import EvaluatorChoice
    from devnull.cli.runs.loaded_run import LoadedRun

    choice = EvaluatorChoice(evaluator=None if evaluator is None else Path(evaluator), p_hide=p_hide)
    return LoadedRun(Path(path), choice, reference)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'devnull' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
