"""The installation tasks: list them, show one, or check in real boxes that they behave as their files say.

`--tasks DIR` adds a folder of your own (docs/tasks.md); so does the variable DEVNULL_TASKS, for every command.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from devnull.cli.terminal.progress import print_progress, progress_bar
from devnull.cli.terminal.tables import Column, print_table, table_console
from devnull.eval.display.counting import count_noun
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import find_task, load_tasks


@dataclass(frozen=True)
class ListTasksArgs:
    """Name, split, difficulty and fault of every task."""

    split: Literal["train", "test"] | None = None
    """Only the tasks of this split."""
    family: str | None = None
    """Only the tasks of this family."""
    tasks: Path | None = None
    """A folder of further tasks."""
    all: bool = False
    """Show family, stages, the fault's exit status and whether it can be hidden too."""
    json: bool = False
    """Print JSON: one object a task."""


@dataclass(frozen=True)
class ShowTaskArgs:
    """All that is public of one task."""

    name: Annotated[str, tyro.conf.Positional]
    """A name of `devnull tasks list`."""
    tasks: Path | None = None
    """A folder of further tasks."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class CheckTasksArgs:
    """Play each task in boxes: the reference solution on both draws, hidden, and doing nothing."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Tasks or families; all of them by default."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """What makes the boxes."""
    workers: int = os.cpu_count() or 1
    """Tasks checked at once."""
    tasks: Path | None = None
    """A folder of further tasks."""


Args = (
    Annotated[ListTasksArgs, tyro.conf.subcommand("list")]
    | Annotated[ShowTaskArgs, tyro.conf.subcommand("show")]
    | Annotated[CheckTasksArgs, tyro.conf.subcommand("check")]
)


def main(args: ListTasksArgs | ShowTaskArgs | CheckTasksArgs) -> int:
    if args.tasks is not None:
        os.environ["DEVNULL_TASKS"] = str(args.tasks.resolve())
    tasks = load_tasks()
    match args:
        case ListTasksArgs():
            return _list_tasks(args, tasks)
        case ShowTaskArgs():
            return _show_task(args, tasks)
        case CheckTasksArgs():
            return _check_tasks(args, tasks)


def _task_json(task: Task) -> dict[str, object]:
    return {
        "name": task.name,
        "family": task.family,
        "split": task.split,
        "stages": [stage.name for stage in task.stages],
        "difficulty": task.difficulty,
        "fault": task.fault.summary,
        "fault_stage": task.fault.stage,
        "p": task.fault.p,
        "exit_status": task.fault.exit_status,
        "evidence": task.fault.evidence,
        "hideable": task.fault.hideable,
    }


def _list_tasks(args: ListTasksArgs, tasks: dict[str, Task]) -> int:
    families = {task.family for task in tasks.values()}
    if args.family is not None and args.family not in families:
        raise InputError(
            f"no family {args.family!r}; there are {', '.join(sorted(families))}{did_you_mean(args.family, families)}"
        )
    chosen = [
        task for task in tasks.values() if args.split in (None, task.split) and args.family in (None, task.family)
    ]
    if args.json:
        print(json.dumps([_task_json(task) for task in chosen], indent=2))
        return 0
    columns = [
        Column("task", [task.name for task in chosen]),
        Column("split", [task.split for task in chosen]),
        Column("level", [str(task.difficulty) for task in chosen]),
        Column("fault", [task.fault.summary for task in chosen], prose=True),
    ]
    if args.all:
        columns += [
            Column("family", [task.family for task in chosen]),
            Column("stages", [", ".join(stage.name for stage in task.stages) for task in chosen], prose=True),
            Column("exit", [str(task.fault.exit_status) for task in chosen]),
            Column("hideable", ["yes" if task.fault.hideable else "no" for task in chosen]),
        ]
    console = table_console()
    print_table(console, columns)
    more = "" if args.all else "; --all shows more of each"
    kinds = count_noun(len({task.family for task in chosen}), "family", "families")
    console.print(f"{count_noun(len(chosen), 'task')} of {kinds}{more}")
    return 0


def _show_task(args: ShowTaskArgs, tasks: dict[str, Task]) -> int:
    task = find_task(args.name, tasks)
    if args.json:
        print(task.model_dump_json(indent=2))
        return 0
    print(f"{task.name}: family {task.family}, split {task.split}, difficulty {task.difficulty}\n")
    for instruction in task.instructions:
        print(f"  “{instruction}”")
    for stage in task.stages:
        needs = f" (needs {', '.join(stage.needs)})" if stage.needs else ""
        print(f"\n{stage.name}: {stage.title}{needs}")
        lines = {
            "install": stage.command,
            "verbose": stage.verbose_command,
            "attempt": stage.attempt,
            "success": stage.success or "(silent)",
            "failure": stage.failure,
            "verify": stage.verify,
            "rewards": ", ".join(f"{key} {value:g}" for key, value in stage.rewards),
        }
        for key, value in lines.items():
            if value is not None:
                print(f"  {key:<8} {value}")
    fault = task.fault
    print(f"\nfault, with probability {fault.p:g}, in {fault.stage}: {fault.summary}")
    print(
        f"  exit status {fault.exit_status}, evidence on {fault.evidence}, {'' if fault.hideable else 'not '}hideable"
    )
    return 0


def _check_tasks(args: CheckTasksArgs, tasks: dict[str, Task]) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from devnull.sandbox.runtimes.by_name import open_runtime
    from devnull.sandbox.task_check import check_task

    families = {task.family for task in tasks.values()}
    chosen = [task for task in tasks.values() if not args.names or {task.name, task.family} & set(args.names)]
    for name in args.names:
        if name not in families:
            find_task(name, tasks)
    runtime = open_runtime(args.runtime, print_progress)
    wrong = 0
    with progress_bar() as bar, ThreadPoolExecutor(max(1, args.workers)) as pool:
        at = bar.add_task("checking tasks", total=len(chosen))
        for task, problems in zip(chosen, pool.map(lambda task: check_task(task, runtime), chosen), strict=True):
            bar.advance(at)
            wrong += bool(problems)
            for problem in problems:
                bar.console.print(f"{task.name}: {problem}", markup=False, highlight=False, soft_wrap=True)
    print(f"{len(chosen) - wrong} of {count_noun(len(chosen), 'task')} behave as declared")
    return 1 if wrong else 0
