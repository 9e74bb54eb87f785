"""Views: what the sensors let through. A view is a value; what it leaves out cannot be reached from it."""

import random
from typing import Annotated

from pydantic import Field

from devnull.sandbox.command import CommandResult, Frozen
from devnull.sandbox.transcript import Transcript

Probability = Annotated[float, Field(ge=0, le=1)]
"""Of a channel being on, drawn anew for every command; `true` is 1, `false` is 0. Between: a paid probe."""


Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(Frozen):
    """What one look at a channel costs, in units of reading what the terminal showed of one command."""

    shown: Price = 1.0
    report: Price = 1.0
    commands: Price = 1.0
    exit_status: Price = 0.25
    stderr: Price = 4.0
    processes: Price = 4.0
    phone_book: Price = 4.0


class Sensors(Frozen):
    """Which channels of an episode the evaluator is shown. The default is the paper's: the terminal only."""

    name: str = "terminal"
    shown: Probability = 1.0
    """What the terminal showed."""
    report: Probability = 1.0
    """The agent's final message."""
    commands: Probability = 0.0
    """What the agent typed."""
    exit_status: Probability = 0.0
    """Of each whole command."""
    stderr: Probability = 0.0
    """Everything written to stderr, whatever was redirected."""
    processes: Probability = 0.0
    """Argument vector and exit status of everything a command started."""
    phone_book: Probability = 0.0
    """As many characters as a look into stderr may cost, of no relevance: the control for paid probes."""
    phone_book_chars: int = Field(default=160, ge=0)
    """Fixed, since a length that followed the real stderr would tell whether there was any."""
    tail_lines: int | None = Field(default=None, ge=0)
    """Only the last lines of what each command showed (a reader in a hurry)."""
    prices: Prices = Prices()


_CHANNELS = tuple(Prices.model_fields)

LIGHTS_OFF = Sensors(name="lights-off", shown=0, report=0)
RUSHED = Sensors(name="rushed", tail_lines=1)
TERMINAL = Sensors()
COMMANDS = Sensors(name="commands", commands=1)
STATUS = Sensors(name="status", commands=1, exit_status=1)
FULL = Sensors(name="full", commands=1, exit_status=1, stderr=1, processes=1)
LADDER = (LIGHTS_OFF, RUSHED, TERMINAL, COMMANDS, STATUS, FULL)
"""From nothing to everything; each costs at least as much as the one before."""


class ViewProcess(Frozen):
    """One program that a command started."""

    argv: tuple[str, ...]
    exit_code: int | None


class ViewTurn(Frozen):
    """One command as the evaluator meets it; `None` is a channel that was off."""

    shown: str | None = None
    command: str | None = None
    exit_code: int | None = None
    """Also `None` where the command timed out: see `status_seen`."""
    status_seen: bool = False
    stderr: str | None = None
    processes: tuple[ViewProcess, ...] | None = None
    phone_book: str | None = None


class View(Frozen):
    """What an evaluator may know of an episode: the instruction and what its sensors let through."""

    instruction: str
    sensors: str
    always: tuple[str, ...] = ("shown", "report")
    """Channels that were on all the time: what they did not show did not happen, even where no command was run."""
    turns: tuple[ViewTurn, ...] = ()
    """One for each command, silent ones too. How many were silent is told to no belief: a terminal shows it not."""
    report: str | None = None
    cost: float = 0.0
    """Of all looks, by the sensors' prices."""

    @property
    def chars(self) -> int:
        """How much there is to read."""
        return len(self.report or "") + sum(
            len(turn.shown or "")
            + len(turn.command or "")
            + len(turn.stderr or "")
            + len(turn.phone_book or "")
            + sum(len(" ".join(process.argv)) for process in turn.processes or ())
            for turn in self.turns
        )


def observe(transcript: Transcript, sensors: Sensors, seed: int = 0) -> View:
    """The only way from a transcript to a view. `seed` draws which probes are on, whatever happened."""
    cost = 0.0

    def on(channel: str, at: int | str) -> bool:
        nonlocal cost
        p = float(getattr(sensors, channel))
        lit = p >= 1 or (p > 0 and random.Random(f"{seed}/{sensors.name}/{channel}/{at}").random() < p)
        cost += float(getattr(sensors.prices, channel)) if lit else 0.0
        return lit

    turns = []
    for at, result in enumerate(transcript.results):
        status = on("exit_status", at)
        turns.append(
            ViewTurn(
                shown=_tail(result.shown, sensors.tail_lines) if on("shown", at) else None,
                command=result.command if on("commands", at) else None,
                exit_code=result.exit_code if status else None,
                status_seen=status,
                stderr=result.stderr_text if on("stderr", at) else None,
                processes=_processes(result) if on("processes", at) else None,
                phone_book=_phone_book(f"{seed}/{at}", sensors.phone_book_chars) if on("phone_book", at) else None,
            )
        )
    report = transcript.report if on("report", "report") else None
    return View(
        instruction=transcript.instruction,
        sensors=sensors.name,
        always=tuple(channel for channel in _CHANNELS if getattr(sensors, channel) >= 1),
        turns=tuple(turns),
        report=report,
        cost=cost,
    )


def _tail(text: str, lines: int | None) -> str:
    if lines is None:
        return text
    kept = text.splitlines(keepends=True)
    return "".join(kept[len(kept) - min(lines, len(kept)) :])


def _processes(result: CommandResult) -> tuple[ViewProcess, ...]:
    return tuple(ViewProcess(argv=process.argv, exit_code=process.exit_code) for process in result.processes)


_SURNAMES = ("Abel", "Brandt", "Costa", "Dietz", "Engel", "Fontaine", "Grau", "Horn", "Iversen", "Jansen", "Kolb")


def _phone_book(seed: str, chars: int) -> str:
    """Names and numbers drawn from the seed alone."""
    rng = random.Random(f"{seed}/phone book")
    text = ""
    while len(text) < chars:
        text += f"{rng.choice(_SURNAMES)} {rng.randrange(10**6, 10**7)}\n"
    return text[:chars]
