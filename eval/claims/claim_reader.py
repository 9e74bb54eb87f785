"""Reads claims, strictly: an unknown key or a wrong value is refused with its line.

A `{dial}` in the name of a job or an arm stands for each value of that dial.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from devnull.eval.claims.claim_file import ClaimFile, Contrast, Gates
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.toml_positions import find_line

_DIAL = re.compile(r"\{(\w+)\}")
FileModel = TypeVar("FileModel", bound=Frozen)


class LoadedClaim(Frozen):
    """A claim with its name, the text of its file, and where that lies."""

    name: str
    path: Path
    text: str
    file: ClaimFile

    @property
    def version(self) -> str:
        """`K1@2`."""
        return f"{self.name}@{self.file.revision}"


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
    origins = _expand_dials(path, text, table)
    file = validate_table(ClaimFile, path, text, table, origins)
    _check_arms(path, text, file)
    return LoadedClaim(name=path.stem, path=path, text=text, file=file)


def _check_arms(path: Path, text: str, claim: ClaimFile) -> None:
    """Raises `InputError` for an arm that is named and not there."""
    used: list[tuple[str, tuple[str | int, ...]]] = []
    for number, contrast in enumerate(claim.contrasts):
        key = "arms" if contrast.arms else "slope"
        used += [(arm, ("contrasts", number, key)) for arm, _, _ in contrast.terms]
    used += [(arm, ("gates", "attempts")) for arm in claim.gates.attempts]
    used += [(arm, ("gates", "except_arms")) for arm in claim.gates.except_arms]
    for arm, at in used:
        if arm not in claim.arms:
            raise InputError(f"{path}:{find_line(text, at)}: no arm {arm!r}{did_you_mean(arm, claim.arms)}")


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """Raises `InputError` with file and line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise InputError(f"{where}: not valid TOML: {error}") from None


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


def _known_keys(model: type[Frozen]) -> set[str]:
    return {key for each in (model, Contrast, Gates) for key in each.model_fields}


def _expand_dials(path: Path, text: str, table: dict[str, Any]) -> dict[str, str]:
    """Writes the jobs and arms of each value of a dial into the table; returns new name to the name in the file."""
    origins: dict[str, str] = {}
    dials = table.get("dials", {})
    for part in ("jobs", "arms"):
        entries = table.get(part)
        if not isinstance(entries, dict) or not isinstance(dials, dict):
            continue
        expanded: dict[str, Any] = {}
        for name, entry in entries.items():
            for dial in _DIAL.findall(name):
                if not isinstance(dials.get(dial), list):
                    line = find_line(text, (part, name))
                    raise InputError(f"{path}:{line}: no dial {dial!r}{did_you_mean(dial, dials)}; [dials] names them")
            for values in _combinations(_DIAL.findall(name), dials):
                origins[fill(name, values)] = name
                expanded[fill(name, values)] = fill_deep(entry, values)
        table[part] = expanded
    return origins


def _combinations(names: Sequence[str], dials: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in product(*(dials[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def fill(text: str, values: Mapping[str, Any]) -> str:
    """The text with each `{name}` of `values` replaced; other braces stay."""
    return _DIAL.sub(lambda match: str(values[match[1]]) if match[1] in values else match[0], text)


def fill_deep(value: Any, values: Mapping[str, Any]) -> Any:
    """The same in every string of a value; a string that is one `{name}` becomes that value itself."""
    match value:
        case str():
            whole = _DIAL.fullmatch(value)
            return values[whole[1]] if whole and whole[1] in values else fill(value, values)
        case list():
            return [fill_deep(each, values) for each in value]
        case dict():
            return {key: fill_deep(each, values) for key, each in value.items()}
    return value
