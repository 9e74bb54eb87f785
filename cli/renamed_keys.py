"""Names that options once had, and options that there once were not: old configs, command lines and run folders go on
working."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

_RENAMED = {"pay": "reward"}
"""Old key to today's, as in a config file; as flags `--pay` and `--reward`."""
_ONCE_SWITCHES = {"gradient-checkpointing": ("auto", "on", "off")}
"""Flags that took no value, and the values that they take today: `--FLAG` was the second, `--no-FLAG` the third."""
ADDED_KEYS: Mapping[str, Any] = {"builds": "drawn", "stratify_builds": False, "tasks": ["driver-cuda-runfile*"]}
"""Keys that configs of older runs lack, and what those runs did."""


def rename_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config under today's names. One that holds a key under both names keeps today's."""
    renamed = {_RENAMED.get(key, key): value for key, value in config.items()}
    return renamed | {key: value for key, value in config.items() if key not in _RENAMED}


def rename_flags(words: Sequence[str]) -> list[str]:
    """A command line under today's names: `--pay actual` and `--pay=actual` become `--reward ...`, and
    `--gradient-checkpointing` without a value `--gradient-checkpointing on`.

    What follows `--` belongs to another program and stays as it is.
    """
    flags = {f"--{old}": f"--{new}" for old, new in _RENAMED.items()}
    end = words.index("--") if "--" in words else len(words)
    renamed = []
    for word, following in pairwise([*words[:end], ""]):
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").removeprefix("no-").replace("_", "-")
        values = _ONCE_SWITCHES.get(name, ()) if flag.startswith("--") and not equals else ()
        if values and (flag.startswith("--no-") or following not in values):
            renamed += [f"--{name}", values[2] if flag.startswith("--no-") else values[1]]
        else:
            renamed.append(flags.get(flag, flag) + equals + value)
    return renamed + list(words[end:])
