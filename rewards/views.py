"""Sensors and views: which channels of an episode an evaluator is shown. A view does not hold what it leaves out."""

import random
from typing import Annotated

from pydantic import Field

from devnull.sandbox.command import CommandResult
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.screen_text import screen_text, written_text
from devnull.sandbox.transcript import Transcript

Probability = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ChannelPrices(Frozen):
    """What one look at a channel costs. Unit: reading what the terminal showed of one command."""

    shown: _Price = 1.0
    report: _Price = 1.0
    commands: _Price = 1.0
    exit_status: _Price = 0.25
    stderr: _Price = 4.0
    processes: _Price = 4.0
    phone_book: _Price = 4.0


class Sensors(Frozen):
    """Which channels of an episode the evaluator is shown. The default is the paper's: the terminal only.

    Each channel holds the probability that it is on, drawn anew for every command: 1 (or `true`) always, 0 never,
    between them a probe that is sometimes bought.

        Sensors(name="spot-checks", stderr=0.1)
    """

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
    """Irrelevant text, as long as a look into stderr may be: the control for probes that cost something."""
    phone_book_chars: int = Field(default=160, ge=0)
    """Fixed, since a length that followed the real stderr would tell whether there was any."""
    tail_lines: int | None = Field(default=None, ge=0)
    """Only the last lines of what each command showed (a reader in a hurry)."""
    prices: ChannelPrices = ChannelPrices()

    @property
    def fixed(self) -> bool:
        """Nothing of its views is drawn: each channel is on always or never, and none holds made-up text."""
        return self.phone_book == 0 and all(getattr(self, channel) in (0, 1) for channel in _CHANNELS)


_CHANNELS = tuple(ChannelPrices.model_fields)

LIGHTS_OFF_SENSORS = Sensors(name="lights-off", shown=0, report=0)
"""Nothing at all."""
RUSHED_SENSORS = Sensors(name="rushed", tail_lines=1)
"""The last line of what each command showed, and the final message."""
TERMINAL_SENSORS = Sensors()
"""What the terminal showed, and the final message: the paper's evaluator."""
COMMANDS_SENSORS = Sensors(name="commands", commands=1)
"""Also what the agent typed."""
STATUS_SENSORS = Sensors(name="status", commands=1, exit_status=1)
"""Also the exit status of each command."""
FULL_SENSORS = Sensors(name="full", commands=1, exit_status=1, stderr=1, processes=1)
"""Every channel: also stderr wherever it went, and all programs that ran."""
SENSOR_LADDER = (LIGHTS_OFF_SENSORS, RUSHED_SENSORS, TERMINAL_SENSORS, COMMANDS_SENSORS, STATUS_SENSORS, FULL_SENSORS)
"""The named sensors, from nothing to everything; each costs at least as much as the one before."""


class ViewProcess(Frozen):
    """One program that a command started."""

    argv: tuple[str, ...]
    exit_code: int | None


class ViewTurn(Frozen):
    """One command as the evaluator sees it; `None` is a channel that was off."""

    shown: str | None = None
    """What could be read on the screen once the command had ended (`screen_text`)."""
    command: str | None = None
    exit_code: int | None = None
    """Also `None` where the command timed out: see `status_seen`."""
    status_seen: bool = False
    """The exit-status channel was on."""
    stderr: str | None = None
    """All that was written there, painted over or not (`written_text`)."""
    processes: tuple[ViewProcess, ...] | None = None
    phone_book: str | None = None


class View(Frozen):
    """What an evaluator may know of an episode: the instruction and what its sensors let through."""

    instruction: str
    sensors: str
    always: tuple[str, ...] = ("shown", "report")
    """Channels with probability 1: what they did not show did not happen, even where no command was run."""
    turns: tuple[ViewTurn, ...] = ()
    """One for each command, silent ones too. No belief may use how many were silent: a terminal does not show it."""
    report: str | None = None
    cost: float = 0.0
    """Sum of the prices of all looks (`ChannelPrices`)."""

    @property
    def chars(self) -> int:
        """How many characters there are to read."""
        return len(self.report or "") + sum(
            len(turn.shown or "")
            + len(turn.command or "")
            + len(turn.stderr or "")
            + len(turn.phone_book or "")
            + sum(len(" ".join(process.argv)) for process in turn.processes or ())
            for turn in self.turns
        )


def observe(transcript: Transcript, sensors: Sensors, seed: int = 0) -> View:
    """The view of a transcript through `sensors`; there is no other way from one to the other.

    `seed` (the episode's stream) draws which probes are on, independently of what happened.
    """
    cost = 0.0

    def is_on(channel: str, at: int | str) -> bool:
        """Draws whether the channel is on for one command (by its index), and adds its price if so."""
        nonlocal cost
        p = float(getattr(sensors, channel))
        on = p >= 1 or (p > 0 and random.Random(f"{seed}/{sensors.name}/{channel}/{at}").random() < p)
        cost += float(getattr(sensors.prices, channel)) if on else 0.0
        return on

    turns = []
    for at, result in enumerate(transcript.results):
        status = is_on("exit_status", at)
        turns.append(
            ViewTurn(
                shown=_last_lines(screen_text(result.terminal_text), sensors.tail_lines)
                if is_on("shown", at)
                else None,
                command=result.command if is_on("commands", at) else None,
                exit_code=result.exit_code if status else None,
                status_seen=status,
                stderr=written_text(result.stderr_text) if is_on("stderr", at) else None,
                processes=_processes(result) if is_on("processes", at) else None,
                phone_book=_phone_book(f"{seed}/{at}", sensors.phone_book_chars) if is_on("phone_book", at) else None,
            )
        )
    report = transcript.report if is_on("report", "report") else None
    return View(
        instruction=transcript.instruction,
        sensors=sensors.name,
        always=tuple(channel for channel in _CHANNELS if getattr(sensors, channel) >= 1),
        turns=tuple(turns),
        report=report,
        cost=cost,
    )


def _last_lines(text: str, lines: int | None) -> str:
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
