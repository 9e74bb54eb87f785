"""Finds tasks: the families of the corpus, and of the folder that `DEVNULL_TASKS` names."""

import os
from collections.abc import Mapping
from pathlib import Path

from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.family_file import load_family
from devnull.sandbox.task import Task

CORPUS = Path(__file__).parent / "corpus"
"""The families that come with the package."""


def _folders() -> tuple[Path, ...]:
    """The corpus, and the folder that `DEVNULL_TASKS` names, where users keep tasks of their own."""
    own = os.environ.get("DEVNULL_TASKS")
    return (CORPUS, Path(own)) if own else (CORPUS,)


def family_files(directory: Path | None = None) -> list[Path]:
    """The TOML files of a folder; by default of the corpus and of `DEVNULL_TASKS`.

    Raises `InputError` for a folder that is not there or holds none, and for a family that is there twice.
    """
    paths: dict[str, Path] = {}
    for folder in (directory,) if directory else _folders():
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of tasks")
        files = sorted(folder.glob("*.toml"))
        if not files:
            raise InputError(f"{folder}: holds no task file (FAMILY.toml)")
        for path in files:
            if path.stem in paths:
                raise InputError(f"{path}: the family {path.stem!r} is there already: {paths[path.stem]}")
            paths[path.stem] = path
    return list(paths.values())


def load_tasks(directory: Path | None = None) -> dict[str, Task]:
    """All tasks of a folder of family files (default: as `family_files`), by name, in the files' order.

    Raises `InputError` with file and line for anything that a task file may not hold.
    """
    tasks: dict[str, Task] = {}
    for path in family_files(directory):
        for task in load_family(path):
            if task.name in tasks:
                raise InputError(f"{path}: the name {task.name!r} is taken by family {tasks[task.name].family!r}")
            tasks[task.name] = task
    return tasks


def find_task(name: str, tasks: Mapping[str, Task]) -> Task:
    """The task of that name. Raises `InputError`, with the nearest name, for one that is not there."""
    if name not in tasks:
        raise InputError(f"no task {name!r}; `devnull tasks list` lists them{did_you_mean(name, tasks)}")
    return tasks[name]
