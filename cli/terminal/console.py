"""How commands meet the person: arguments, config files, complaints, progress."""

import contextlib
import difflib
import errno
import io
import itertools
import logging
import sys
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from devnull.sandbox.errors import InfrastructureError, InputError


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"devnull: {message}", file=sys.stderr)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def hush() -> None:
    """Leaves out what libraries say to their own authors."""
    warnings.filterwarnings("ignore", message=".*checkpointing.* is deprecated", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses a package that nothing here uses


def run_command(name: str, module: ModuleType, argv: list[str]) -> int:
    """Parses `module.Args`, runs `module.main`, turns what a user can cause into one line and a status."""
    hush()
    try:
        args = parse(module.Args, f"devnull {name}", with_config(argv), module.__doc__)
        return int(module.main(args))
    except InputError as error:
        complain(str(error))
        return 2
    except InfrastructureError as error:
        complain(str(error))
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            complain(f"no space left on the disk of {error.filename or Path.cwd()}; free some and run it again")
            return 1
        if error.filename is None:
            raise
        complain(f"{error.filename}: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        complain("stopped; run the same command again to go on from here")
        return 130


def parse(args_type: Any, prog: str, argv: list[str], description: str | None) -> Any:
    """Arguments from flags; what does not parse becomes one line (`InputError`)."""
    boxed = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxed):
            return tyro.cli(args_type, prog=prog, args=argv, description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
    rows = [line.strip("│ ").strip() for line in boxed.getvalue().splitlines()]
    said = [row for row in rows if row and row[0] not in "╭╰─"]
    kept = [row for row in said if not row.startswith(("For full helptext", "Argument helptext"))]
    raise InputError(" ".join(kept) + f" (see {prog} --help)")


def with_config(argv: list[str]) -> list[str]:
    """Puts the keys of `--config FILE.toml` in as flags, ahead of those on the command line, which therefore win."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    rest = argv[len(words) :]
    places = [place for place, word in enumerate(words) if word.partition("=")[0] == "--config"]
    if not places:
        return argv
    place = places[0]
    path = words[place].partition("=")[2] or "".join(words[place + 1 : place + 2])
    if not path or path.startswith("-") or len(places) > 1:
        raise InputError("--config takes one file: --config FILE.toml")
    words = words[:place] + words[place + (1 if "=" in words[place] else 2) :]
    leading = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    return leading + _flags(_read_toml(Path(path)), path) + words[len(leading) :] + rest


def _flags(table: Mapping[str, Any], path: str, prefix: str = "--") -> list[str]:
    """`key = value` as `--key value`; tables as `--table.key value`."""
    words: list[str] = []
    for key, value in table.items():
        flag = prefix + key.replace("_", "-")
        match value:
            case bool():
                words.append(flag if value else f"{prefix}no-{flag.removeprefix(prefix)}")
            case Mapping():
                words += _flags(value, path, f"{flag}.")
            case list():
                words += [flag, *map(str, value)]
            case int() | float() | str():
                words += [flag, str(value)]
            case _:
                raise InputError(f"{path}: {key} = {value!r} is nothing that a flag can take")
    return words


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def progress() -> Progress:
    """A progress bar; on anything but a terminal, nothing (commands print plain lines there)."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not sys.stderr.isatty(),
        transient=False,
    )
