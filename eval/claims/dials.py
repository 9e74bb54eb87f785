"""Dials: a `{dial}` in the name of a job or an arm stands for each value of that dial."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.toml_positions import find_line

_DIAL = re.compile(r"\{(\w+)\}")


def expand_dials(path: Path, text: str, table: dict[str, Any]) -> dict[str, str]:
    """Writes the jobs and arms of each value of a dial into a claim's table; returns new name to the name in the file.

    Raises `InputError` with file and line for a dial that is not there or has no different values, and where two jobs
    or arms come to one name.
    """
    origins: dict[str, str] = {}
    dials = table.get("dials", {})
    if not isinstance(dials, dict):
        return origins
    _check_values(path, text, dials)
    for part in ("jobs", "arms"):
        entries = table.get(part)
        if not isinstance(entries, dict):
            continue
        expanded: dict[str, Any] = {}
        for name, entry in entries.items():
            where = f"{path}:{find_line(text, (part, name))}"
            for dial in _DIAL.findall(name):
                if dial not in dials:
                    raise InputError(f"{where}: no dial {dial!r}; [dials] names them{did_you_mean(dial, dials)}")
            for values in _combinations(_DIAL.findall(name), dials):
                new = fill(name, values)
                if new in expanded:
                    raise InputError(f"{where}: {part}.{new} is there twice")
                origins[new], expanded[new] = name, fill_deep(entry, values)
        table[part] = expanded
    return origins


def _check_values(path: Path, text: str, dials: Mapping[str, Any]) -> None:
    for dial, values in dials.items():
        where = f"{path}:{find_line(text, ('dials', dial))}: dials.{dial}"
        if not isinstance(values, list):
            raise InputError(f"{where}: a list of values is wanted, as [{values}]")
        if not values:
            raise InputError(f"{where}: it has no value, so that its jobs and arms would not be there")
        written = [str(value) for value in values]
        for value in written:
            if written.count(value) > 1:
                raise InputError(f"{where}: {value} is there twice")


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
