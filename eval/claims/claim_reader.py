"""Reads claims, strictly: an unknown key or a wrong value is refused with its line."""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import Field, ValidationError

from devnull.eval.claims.claim_file import ClaimFile
from devnull.eval.claims.dials import expand_dials
from devnull.rewards.evaluator_config import make_evaluator_config
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.toml_positions import ValuePath, find_line

FileModel = TypeVar("FileModel", bound=Frozen)


class LoadedClaim(Frozen):
    """A claim with its name, the text of its file, and where that lies."""

    name: str
    path: Path
    text: str
    file: ClaimFile
    origins: dict[str, str] = Field(default_factory=dict)
    """Name of a job or an arm to the one under which the file has it: another where a dial is in it."""

    @property
    def version(self) -> str:
        """`K1@2`."""
        return f"{self.name}@{self.file.revision}"

    def error(self, at: ValuePath, message: str) -> InputError:
        """The message after file and line of the value at `at`."""
        written = tuple(self.origins.get(part, part) if isinstance(part, str) else part for part in at)
        return InputError(f"{self.path}:{find_line(self.text, written)}: {message}")


def text_digest(*texts: str) -> str:
    """Identifies what a claim said when it was frozen."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def load_claim(path: Path) -> LoadedClaim:
    """Reads a claim's file. Raises `InputError` that begins with file and line."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return parse_claim(path, text)


def parse_claim(path: Path, text: str) -> LoadedClaim:
    """The claim that `text` states, as the content of the file `path`. Raises `InputError` with file and line."""
    table = parse_toml(path, text)
    origins = expand_dials(path, text, table)
    file = validate_table(ClaimFile, path, text, table, origins)
    claim = LoadedClaim(name=path.stem, path=path, text=text, file=file, origins=origins)
    _check_arms(claim)
    _check_likes(claim)
    _check_judge(claim)
    return claim


def _check_arms(claim: LoadedClaim) -> None:
    """Raises `InputError` for an arm that is named and not there."""
    used: list[tuple[str, ValuePath]] = []
    for number, contrast in enumerate(claim.file.contrasts):
        key = "arms" if contrast.arms else "slope"
        used += [(arm, ("contrasts", number, key)) for arm, _, _ in contrast.terms]
    used += [(arm, ("gates", "attempts")) for arm in claim.file.gates.attempts]
    used += [(arm, ("gates", "except_arms")) for arm in claim.file.gates.except_arms]
    for arm, at in used:
        if arm not in claim.file.arms:
            raise claim.error(at, f"no arm {arm!r}{did_you_mean(arm, claim.file.arms)}")


def _check_likes(claim: LoadedClaim) -> None:
    """Raises `InputError` for a job that is like itself, by way of others or not."""
    for first in claim.file.jobs:
        likes, job = [first], claim.file.jobs[first]
        while job.like is not None and job.like in claim.file.jobs and job.like not in likes:
            likes.append(job.like)
            job = claim.file.jobs[job.like]
        if job.like == first:
            raise claim.error(("jobs", first, "like"), f"job {first!r} is like itself: {' → '.join([*likes, first])}")


def _check_judge(claim: LoadedClaim) -> None:
    """Raises `InputError` for a judge that no evaluator can be."""
    belief = claim.file.judge.get("belief", {})
    if not isinstance(belief, dict):
        raise claim.error(("judge", "belief"), "judge.belief: a table is wanted, as { p_hide = 0.2 }")
    try:
        make_evaluator_config({**claim.file.judge, "belief": {"p_hide": claim.file.p_hide, **belief}}, "judge")
    except InputError as error:
        raise claim.error(("judge",), str(error)) from None


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """Raises `InputError` with file and line, for a date too: nothing in these files takes one."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise InputError(f"{where}: not valid TOML: {error}") from None
    if (at := _find_date(table)) is not None:
        name = ".".join(map(str, at))
        raise InputError(
            f"{path}:{find_line(text, at)}: {name} is a date or a time, which nothing here takes; quote it"
        )
    return table


def _find_date(value: object, at: ValuePath = ()) -> ValuePath | None:
    """Where the first date, or time of a day, stands."""
    if isinstance(value, date | time):
        return at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, each in items if (found := _find_date(each, (*at, key))) is not None), None)


def validate_table(
    model: type[FileModel], path: Path, text: str, table: Mapping[str, Any], origins: Mapping[str, str] | None = None
) -> FileModel:
    """A `model` from a file's table. Raises `InputError` with file, line and the nearest key.

    Args:
        origins: Keys that stand in the file under another name.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # the likely cause of others
        at = tuple((origins or {}).get(str(part), part) for part in first["loc"])
        where = ".".join(str(part) for part in at)
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown key {where!r}{did_you_mean(str(at[-1]), _known_keys(model))}"
        elif where:
            message = f"{where}: {message[0].lower()}{message[1:]}"
        raise InputError(f"{path}:{find_line(text, at)}: {message}") from None


def _known_keys(kind: object) -> set[str]:
    """Of a model's table and of the tables in it. `kind`: the model, or the type of a field."""
    if isinstance(kind, type) and issubclass(kind, Frozen):
        fields = kind.model_fields
        return {*fields, *(key for field in fields.values() for key in _known_keys(field.annotation))}
    return {key for each in get_args(kind) for key in _known_keys(each)}
