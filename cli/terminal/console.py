"""How a command meets its user: arguments, config files, errors as one line, exit statuses."""

import contextlib
import inspect
import io
import itertools
import logging
import sys
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import docstring_parser
import tyro

from devnull.cli.renamed_keys import rename_flags
from devnull.cli.terminal.full_disk import find_full_disk
from devnull.cli.terminal.streams import STOPPED
from devnull.eval.display.escaping import escape_controls
from devnull.sandbox.errors import InfrastructureError, InputError

_WRONG_PATH = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""What the system says of a path that a user got wrong."""


def print_error(message: str) -> None:
    """One line on stderr, after the program's name. Names in it may be those of a hostile file."""
    with contextlib.suppress(BrokenPipeError):
        print(f"devnull: {escape_controls(message)}", file=sys.stderr)


def silence_libraries() -> None:
    """Silences warnings of libraries that are meant for their own developers."""
    warnings.filterwarnings("ignore", message=".*checkpointing.* is deprecated", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses a package that nothing here uses


def run_command(name: str, module: ModuleType, argv: list[str]) -> int:
    """Parses `module.Args`, runs `module.main` and returns the exit status: 2 for what the user asked wrongly, 1 for
    a failure of the machine, 130 when interrupted; for each of these one line on stderr and no traceback.
    """
    silence_libraries()
    args = None
    try:
        args = parse_arguments(module.Args, f"devnull {name}", insert_config(argv), module.__doc__)
        return int(module.main(args))
    except InputError as error:
        print_error(str(error))
        return 2
    except InfrastructureError as error:
        print_error(str(error))
        return 1
    except KeyboardInterrupt:
        print_error("stopped; run the same command again to go on from here")
        return STOPPED
    except Exception as error:
        disk = find_full_disk(error, args)
        if disk is not None:
            print_error(f"no space left on the disk of {disk}; free some and run it again")
        elif isinstance(error, OSError) and error.filename is not None:
            print_error(f"{error.filename}: {error.strerror}")
            return 2 if isinstance(error, _WRONG_PATH) else 1
        else:
            raise
        return 1


def parse_arguments(args_type: Any, prog: str, argv: list[str], description: str | None) -> Any:
    """An `args_type` from the words of a command line, where flags may have their old names.

    Raises `InputError` with tyro's complaint on one line; `SystemExit` after `--help`.
    """
    errors, help_text = io.StringIO(), _HelpText()
    asks_help = not {"-h", "--help"}.isdisjoint(argv)
    try:
        with (
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(help_text if asks_help else sys.stdout),
            _docstrings_without_indents(),
        ):
            return tyro.cli(args_type, prog=prog, args=rename_flags(argv), description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            print_help(help_text.getvalue())
            raise
    # tyro draws its errors in a box and has no other way to hand them over
    rows = [line.strip("│ ").strip() for line in errors.getvalue().splitlines()]
    rows = [row for row in rows if row and row[0] not in "╭╰─" and not row.endswith(("---", "───"))]
    rows = [row for row in rows if not row.startswith(("For full helptext", "Argument helptext"))]
    guess = next((number for number, row in enumerate(rows) if row.startswith("Perhaps you meant")), len(rows))
    flags = [row.split()[0] for row in rows[guess:] if row.startswith("--")]
    hint = f"; did you mean {flags[0]}?" if flags else ""
    raise InputError(" ".join(rows[:guess]) + f"{hint} (see {prog} --help)")


@contextlib.contextmanager
def _docstrings_without_indents() -> Iterator[None]:
    """Within it the lines of an attribute's docstring begin where its words do. tyro joins such lines to a paragraph;
    indented ones, as the parser that it asks leaves them, it keeps as they were broken in the source."""
    parse = docstring_parser.parse_from_object

    def parse_clean(*documented: Any, **how: Any) -> docstring_parser.Docstring:
        found = parse(*documented, **how)
        for each in found.params:
            each.description = each.description and inspect.cleandoc(each.description)
        return found

    docstring_parser.parse_from_object = parse_clean
    try:
        yield
    finally:
        docstring_parser.parse_from_object = parse


class _HelpText(io.StringIO):
    """What tyro prints of a command, in the colours and with the lines that stdout takes."""

    def __init__(self) -> None:
        super().__init__()
        self._stdout = sys.stdout

    def isatty(self) -> bool:
        return self._stdout.isatty()

    @property
    def encoding(self) -> str | None:  # type: ignore[override]
        return self._stdout.encoding


def print_help(text: str) -> None:
    """Prints a help text. tyro fits its tables to the terminal; usage and prose are broken at words here."""
    from rich.text import Text

    from devnull.cli.terminal.tables import table_console

    console = table_console()
    for line in text.splitlines():
        words = Text.from_ansi(line)
        if words.plain[:1] not in " │╭╰":
            console.print(words)
        else:
            print(line)


def insert_config(argv: list[str]) -> list[str]:
    """Replaces `--config FILE.toml` by the file's keys as flags, ahead of those on the command line, which therefore
    win. Raises `InputError` where the file is not there or not valid.
    """
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
    positional = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    return positional + config_flags(_read_toml(Path(path)), path) + words[len(positional) :] + rest


def config_flags(table: Mapping[str, Any], path: str, prefix: str = "--") -> list[str]:
    """`key = value` as `--key value`; tables as `--table.key value`."""
    words: list[str] = []
    for key, value in table.items():
        flag = prefix + key.replace("_", "-")
        match value:
            case bool():
                words.append(flag if value else f"{prefix}no-{flag.removeprefix(prefix)}")
            case Mapping():
                words += config_flags(value, path, f"{flag}.")
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
