"""The command line: finds the module of a command and runs it; imports nothing else."""

import functools
import importlib
import keyword
import operator
import sys
from types import ModuleType
from typing import Annotated, Any

COMMANDS = {
    "demo": "the main job, end to end: rollouts, feedback, training, verdicts",
    "claims": "claims that a run can prove wrong: list, show, run, check, report",
    "image": "build, inspect, export or prune the task image",
    "tasks": "list the installation tasks, or show one",
    "exec": "run commands in one box and show all that is known of them",
    "watch": "run a program of yours in a box: what was kept off its terminal?",
    "rollout": "let an agent work through tasks",
    "label": "let an evaluator judge a run",
    "train": "fine-tune a policy or a reward model on a run",
    "eval": "measure a run: what was shown against what was true",
    "compare": "compare runs, paired by task",
    "replay": "watch an episode: the evaluator's view beside the truth",
    "report": "write one self-contained HTML report",
    "export": "write a run in another tool's format",
    "import": "read transcripts of other tools",
    "theory": "the exact theory: examples, solver, checks, plots",
    "bench": "measure speed, side by side with the alternatives",
}

_SHELLS = ("bash", "zsh", "tcsh", "fish")


def run_console_script() -> int:
    """`main` as the program of this process."""
    from devnull.cli.terminal.streams import run_as_program

    return run_as_program(main)


def main(argv: list[str] | None = None) -> int:
    """Runs one command, by default that of `sys.argv`, and returns its exit status: 0, 1, 2 (usage), 130 (stopped)."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        _print_help()
        return 0
    if name == "--version":
        from devnull import __version__

        print(f"devnull {__version__}")
        return 0
    if name in ("--tyro-print-completion", "--tyro-write-completion"):
        return _complete(arguments)
    if name not in COMMANDS:
        from devnull.cli.terminal.console import print_error
        from devnull.sandbox.errors import did_you_mean

        print_error(f"no command {name!r}; `devnull --help` lists them{did_you_mean(name, COMMANDS)}")
        return 2
    from devnull.cli.terminal.console import run_command

    return run_command(name, _command_module(name), arguments[1:])


def _command_module(name: str) -> ModuleType:
    return importlib.import_module("devnull.cli.commands." + (f"{name}_" if keyword.iskeyword(name) else name))


def _complete(arguments: list[str]) -> int:
    """Prints or writes what completes every command in a shell."""
    import tyro

    from devnull.cli.terminal.console import parse_arguments, print_error
    from devnull.sandbox.errors import InputError

    parts = (Annotated[_command_module(name).Args, tyro.conf.subcommand(name)] for name in COMMANDS)
    commands: Any = functools.reduce(operator.or_, parts)
    if arguments[1:2] and arguments[1] not in _SHELLS:
        print_error(f"{arguments[0]} {arguments[1]}: no such shell; there are {', '.join(_SHELLS)}")
        return 2
    try:
        parse_arguments(commands, "devnull", arguments, None)
    except InputError as error:
        print_error(str(error))
        return 2
    except SystemExit:
        return 0
    return 2


def _print_help() -> None:
    print("usage: devnull COMMAND [OPTIONS]\n\nShows deceptive inflation in RLHF on real shells.\n")
    for name, summary in COMMANDS.items():
        print(f"  {name:<9} {summary}")
    print(
        "\n`devnull COMMAND --help` explains one; every command takes --config FILE.toml.\n"
        "`devnull --tyro-print-completion bash|zsh|tcsh|fish` prints what completes them."
    )
