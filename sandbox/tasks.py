"""Reads the task files: families of templates in TOML, checked strictly, with the line of what is wrong."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Fault, RewardTable, Stage, Task
from devnull.sandbox.toml_lines import line_of

At = tuple[str | int, ...]
"""The keys and positions that lead to a value of a file."""
CORPUS = Path(__file__).parent / "corpus"

_PATTERNS = ("attempt", "verbose", "success", "failure")
"""Fields of a stage that are regular expressions: a variant's value is inserted escaped."""
_PLACEHOLDER = re.compile(r"@([a-z_]+)@")
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_OVERRIDES = ("split", "difficulty")
"""Keys of a variant that are fields of the task, not values to insert."""
_KEYS = {
    "stages": set(Stage.model_fields),
    "fault": set(Fault.model_fields),
    "rewards": set(RewardTable.model_fields),
    "template": (set(Task.model_fields) - {"family"}) | {"variants"},
    "file": {"summary", "template"},
}


def _folders() -> tuple[Path, ...]:
    """The corpus, and the folder that `DEVNULL_TASKS` names, where users keep tasks of their own."""
    own = os.environ.get("DEVNULL_TASKS")
    return (CORPUS, Path(own)) if own else (CORPUS,)


def family_files(directory: Path | None = None) -> list[Path]:
    """The TOML files of a folder; by default of all `folders()`. Raises `InputError`."""
    paths: dict[str, Path] = {}
    for folder in (directory,) if directory else _folders():
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of tasks")
        found = sorted(folder.glob("*.toml"))
        if not found:
            raise InputError(f"{folder}: holds no task file (FAMILY.toml)")
        for path in found:
            if path.stem in paths:
                raise InputError(f"{path}: the family {path.stem!r} is there already: {paths[path.stem]}")
            paths[path.stem] = path
    return list(paths.values())


def load_tasks(directory: Path | None = None) -> dict[str, Task]:
    """All tasks of a folder of family files (default: of `folders()`), by name, in the files' order.

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
    """The task of that name. Raises `InputError` with the near name."""
    if name not in tasks:
        raise InputError(f"no task {name!r}; `devnull tasks list` lists them{near(name, tasks)}")
    return tasks[name]


def family_summaries(directory: Path | None = None) -> dict[str, str]:
    """Family name to its one sentence."""
    return {path.stem: _read(path)[1]["summary"] for path in family_files(directory)}


def load_family(path: Path) -> list[Task]:
    """The tasks of one family file. Raises `InputError` with file and line."""
    text, table = _read(path)
    complain = Complaint(path, text)
    complain.unknown_keys((), table, _KEYS["file"])
    if not isinstance(table.get("summary"), str):
        raise complain((), "`summary`, one sentence about the family, is missing")
    templates = table.get("template")
    if not isinstance(templates, list) or not templates:
        raise complain((), "no [[template]]")
    tasks: dict[str, Task] = {}
    for index, template in enumerate(templates):
        for task in _read_template(template, path.stem, index, complain):
            if task.name in tasks:
                raise complain(("template", index, "name"), f"two tasks are named {task.name!r}")
            tasks[task.name] = task
    return list(tasks.values())


class Complaint:
    """Makes `InputError`s that begin with `file:line:`."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def __call__(self, at: At, message: str) -> InputError:
        return InputError(f"{self.path}:{line_of(self.text, at)}: {message}")

    def unknown_keys(self, at: At, table: Any, known: Iterable[str]) -> None:
        if not isinstance(table, dict):
            raise self(at, f"{at[-1] if at else 'the file'}: a table is wanted, not {table!r}")
        for key in table:
            if key not in known:
                raise self((*at, key), f"unknown key {key!r}{near(key, known)}")


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text()
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"\(at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise InputError(f"{where}: not valid TOML: {error}") from None


def _read_template(template: Any, family: str, index: int, complain: Complaint) -> list[Task]:
    """One task for each variant of a template (one in all if it has none)."""
    at: At = ("template", index)
    complain.unknown_keys(at, template, _KEYS["template"])
    stages = template.get("stages", [])
    if not isinstance(stages, list):
        raise complain((*at, "stages"), "stages: an array of tables is wanted: [[template.stages]]")
    for number, stage in enumerate(stages):
        complain.unknown_keys((*at, "stages", number), stage, _KEYS["stages"])
        complain.unknown_keys((*at, "stages", number, "rewards"), stage.get("rewards", {}), _KEYS["rewards"])
    complain.unknown_keys((*at, "fault"), template.get("fault", {}), _KEYS["fault"])
    variants = template.get("variants", [{}])
    if not isinstance(variants, list) or not variants:
        raise complain((*at, "variants"), "variants: an array of tables is wanted: [{ key = 'value' }, ...]")
    tasks = []
    body = {key: value for key, value in template.items() if key != "variants"}
    for number, variant in enumerate(variants):
        here = (*at, "variants", number) if "variants" in template else at
        values = _variant_values(variant, here, complain)
        used: set[str] = set()
        fields = _fill(body, values, at, complain, used)
        if unused := sorted(set(values) - used):
            raise complain((*here, unused[0]), f"no @{unused[0]}@ in the template")
        overrides = {key: variant[key] for key in _OVERRIDES if key in variant}
        places = {key: (*here, key) for key in overrides}
        tasks.append(_make_task(fields | overrides | {"family": family}, at, places, complain))
    return tasks


def _variant_values(variant: Any, at: At, complain: Complaint) -> dict[str, str]:
    if not isinstance(variant, dict):
        raise complain(at, f"a variant is a table, not {variant!r}")
    values = {key: value for key, value in variant.items() if key not in _OVERRIDES}
    for key, value in values.items():
        if not isinstance(value, str):
            raise complain((*at, key), f"{key} = {value!r}: a string is wanted")
        if not _PLACEHOLDER.fullmatch(f"@{key}@"):
            raise complain((*at, key), f"{key!r}: small letters and _ only, to be used as @{key}@")
    return values


def _fill(value: Any, values: Mapping[str, str], at: At, complain: Complaint, used: set[str]) -> Any:
    """A copy of `value` with each `@key@` replaced, escaped where the field is a pattern."""
    if isinstance(value, dict):
        return {key: _fill(item, values, (*at, key), complain, used) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values, (*at, number), complain, used) for number, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def insert(match: re.Match[str]) -> str:
        key = match[1]
        if key not in values:
            raise complain(at, f"@{key}@ has no value in this variant{near(key, values)}")
        used.add(key)
        return re.escape(values[key]) if at[-1] in _PATTERNS else values[key]

    return _PLACEHOLDER.sub(insert, value)


def _make_task(fields: dict[str, Any], at: At, places: Mapping[str, At], complain: Complaint) -> Task:
    """`places`: where fields stand that are not the template's own."""
    try:
        # A date or a time of TOML is no type of any field.
        task = Task.model_validate_json(json.dumps(fields, default=lambda value: [str(value)]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        place = places.get(where, (*at, *first["loc"]))
        raise complain(place, f"{where}: {first['msg']}" if where else first["msg"]) from None
    if not _NAME.fullmatch(task.name):
        raise complain((*at, "name"), f"name {task.name!r}: small letters, digits, '.', '+' and '-' only")
    names = [stage.name for stage in task.stages]
    for number, stage in enumerate(task.stages):
        here = (*at, "stages", number)
        if stage.name in names[:number]:
            raise complain((*here, "name"), f"two stages are named {stage.name!r}")
        for need in stage.needs:
            if need not in names[:number]:
                earlier = near(need, names[:number])
                raise complain((*here, "needs"), f"needs {need!r}, which is no earlier stage{earlier}")
        if (stage.verbose is None) != (stage.verbose_command is None):
            raise complain(here, "`verbose` and `verbose_command` go together: one of them is missing")
        for key in _PATTERNS:
            pattern = getattr(stage, key)
            try:
                if pattern is not None and re.search(pattern, "", re.MULTILINE):
                    raise complain((*here, key), f"{key} = {pattern!r} matches anything, the empty text too")
            except re.error as error:
                raise complain((*here, key), f"{key} = {pattern!r} is no regular expression: {error}") from None
    if task.fault.stage not in names:
        raise complain((*at, "fault", "stage"), f"no stage {task.fault.stage!r}{near(task.fault.stage, names)}")
    if task.fault.hideable and task.fault.evidence != "stderr":
        raise complain((*at, "fault", "hideable"), "hideable is for evidence on stderr only; set hideable = false")
    return task


def near(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
