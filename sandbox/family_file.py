"""Reads one family of tasks from TOML: templates and variants, checked strictly; errors name the line."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.task import Fault, RewardTable, Stage, Task
from devnull.sandbox.toml_positions import ValuePath, find_line

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


def load_family(path: Path) -> list[Task]:
    """The tasks of one family file. Raises `InputError` with file and line."""
    text, table = _read(path)
    errors = _ErrorsAtLine(path, text)
    errors.check_keys((), table, _KEYS["file"])
    if not isinstance(table.get("summary"), str):
        raise errors.at((), "`summary`, one sentence about the family, is missing")
    templates = table.get("template")
    if not isinstance(templates, list) or not templates:
        raise errors.at((), "no [[template]]")
    tasks: dict[str, Task] = {}
    for index, template in enumerate(templates):
        for task in _read_template(template, path.stem, index, errors):
            if task.name in tasks:
                raise errors.at(("template", index, "name"), f"two tasks are named {task.name!r}")
            tasks[task.name] = task
    return list(tasks.values())


class _ErrorsAtLine:
    """Makes `InputError`s that begin with `file:line:`."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def at(self, at: ValuePath, message: str) -> InputError:
        return InputError(f"{self.path}:{find_line(self.text, at)}: {message}")

    def check_keys(self, at: ValuePath, table: Any, known: Iterable[str]) -> None:
        if not isinstance(table, dict):
            raise self.at(at, f"{at[-1] if at else 'the file'}: a table is wanted, not {table!r}")
        for key in table:
            if key not in known:
                raise self.at((*at, key), f"unknown key {key!r}{did_you_mean(key, known)}")


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text()
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"\(at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise InputError(f"{where}: not valid TOML: {error}") from None


def _read_template(template: Any, family: str, index: int, errors: _ErrorsAtLine) -> list[Task]:
    """One task for each variant of a template (one in all if it has none)."""
    at: ValuePath = ("template", index)
    errors.check_keys(at, template, _KEYS["template"])
    stages = template.get("stages", [])
    if not isinstance(stages, list):
        raise errors.at((*at, "stages"), "stages: an array of tables is wanted: [[template.stages]]")
    for number, stage in enumerate(stages):
        errors.check_keys((*at, "stages", number), stage, _KEYS["stages"])
        errors.check_keys((*at, "stages", number, "rewards"), stage.get("rewards", {}), _KEYS["rewards"])
    errors.check_keys((*at, "fault"), template.get("fault", {}), _KEYS["fault"])
    variants = template.get("variants", [{}])
    if not isinstance(variants, list) or not variants:
        raise errors.at((*at, "variants"), "variants: an array of tables is wanted: [{ key = 'value' }, ...]")
    tasks = []
    body = {key: value for key, value in template.items() if key != "variants"}
    for number, variant in enumerate(variants):
        here = (*at, "variants", number) if "variants" in template else at
        values = _variant_values(variant, here, errors)
        used: set[str] = set()
        fields = _fill(body, values, at, errors, used)
        if unused := sorted(set(values) - used):
            raise errors.at((*here, unused[0]), f"no @{unused[0]}@ in the template")
        overrides = {key: variant[key] for key in _OVERRIDES if key in variant}
        places = {key: (*here, key) for key in overrides}
        tasks.append(_make_task(fields | overrides | {"family": family}, at, places, errors))
    return tasks


def _variant_values(variant: Any, at: ValuePath, errors: _ErrorsAtLine) -> dict[str, str]:
    if not isinstance(variant, dict):
        raise errors.at(at, f"a variant is a table, not {variant!r}")
    values = {key: value for key, value in variant.items() if key not in _OVERRIDES}
    for key, value in values.items():
        if not isinstance(value, str):
            raise errors.at((*at, key), f"{key} = {value!r}: a string is wanted")
        if not _PLACEHOLDER.fullmatch(f"@{key}@"):
            raise errors.at((*at, key), f"{key!r}: small letters and _ only, to be used as @{key}@")
    return values


def _fill(value: Any, values: Mapping[str, str], at: ValuePath, errors: _ErrorsAtLine, used: set[str]) -> Any:
    """A copy of `value` with each `@key@` replaced, escaped where the field is a pattern."""
    if isinstance(value, dict):
        return {key: _fill(item, values, (*at, key), errors, used) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values, (*at, number), errors, used) for number, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def insert(match: re.Match[str]) -> str:
        key = match[1]
        if key not in values:
            raise errors.at(at, f"@{key}@ has no value in this variant{did_you_mean(key, values)}")
        used.add(key)
        return re.escape(values[key]) if at[-1] in _PATTERNS else values[key]

    return _PLACEHOLDER.sub(insert, value)


def _make_task(fields: dict[str, Any], at: ValuePath, places: Mapping[str, ValuePath], errors: _ErrorsAtLine) -> Task:
    """`places`: where fields stand that are not the template's own."""
    try:
        # A date or a time of TOML is no type of any field.
        task = Task.model_validate_json(json.dumps(fields, default=lambda value: [str(value)]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        place = places.get(where, (*at, *first["loc"]))
        raise errors.at(place, f"{where}: {first['msg']}" if where else first["msg"]) from None
    if not _NAME.fullmatch(task.name):
        raise errors.at((*at, "name"), f"name {task.name!r}: small letters, digits, '.', '+' and '-' only")
    names = [stage.name for stage in task.stages]
    for number, stage in enumerate(task.stages):
        here = (*at, "stages", number)
        if stage.name in names[:number]:
            raise errors.at((*here, "name"), f"two stages are named {stage.name!r}")
        for need in stage.needs:
            if need not in names[:number]:
                earlier = did_you_mean(need, names[:number])
                raise errors.at((*here, "needs"), f"needs {need!r}, which is no earlier stage{earlier}")
        if (stage.verbose is None) != (stage.verbose_command is None):
            raise errors.at(here, "`verbose` and `verbose_command` go together: one of them is missing")
        for key in _PATTERNS:
            pattern = getattr(stage, key)
            try:
                if pattern is not None and re.search(pattern, "", re.MULTILINE):
                    raise errors.at((*here, key), f"{key} = {pattern!r} matches anything, the empty text too")
            except re.error as error:
                raise errors.at((*here, key), f"{key} = {pattern!r} is no regular expression: {error}") from None
    if task.fault.stage not in names:
        raise errors.at(
            (*at, "fault", "stage"), f"no stage {task.fault.stage!r}{did_you_mean(task.fault.stage, names)}"
        )
    if task.fault.hideable and task.fault.evidence != "stderr":
        raise errors.at((*at, "fault", "hideable"), "hideable is for evidence on stderr only; set hideable = false")
    return task
