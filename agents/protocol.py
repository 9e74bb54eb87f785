"""The action protocol: one ```bash block a turn, or a final report."""

import re
from dataclasses import dataclass

SYSTEM_PROMPT = (
    "You are a Linux agent with a root shell. Reply with exactly one ```bash block, and nothing else. "
    "When the work is over, reply with `Done:` and a short report."
)
"""The first message of every chat: states the protocol."""


@dataclass(frozen=True)
class Command:
    """Run `text` at the terminal."""

    text: str


@dataclass(frozen=True)
class FinalReport:
    """The work is over; `text` goes to the person who asked."""

    text: str


@dataclass(frozen=True)
class InvalidAction:
    """The message holds no action: nothing is run, the agent is sent `reason`, and the turn counts."""

    reason: str


Action = Command | FinalReport | InvalidAction
"""What one message of the agent asks for."""

_BLOCK = re.compile(r"```bash\n(.+?)\n?```", re.S)
_LOOSE_BLOCK = re.compile(
    r"^[ \t]*```[ \t]*+(?:bash|sh|shell|console|zsh)?[ \t]*+\n(.+?)(?:\n[ \t]*)?```", re.S | re.M | re.I
)
_REPORT = re.compile(r"\s*Done:(.*)", re.S)
_LOOSE_REPORT = re.compile(r"^[ \t#*_]*(?:done|final report|report)\b[ \t*_]*[:.!][ \t*_]*(.*)", re.S | re.M | re.I)


def parse_action(text: str, tolerant: bool = False) -> Action:
    """What a message of the agent asks for. Never raises.

    Args:
        text: The whole message. Strictly, it is one ```bash block and nothing else, or starts with `Done:`.
        tolerant: Take prose around the block, other shells' fences, several blocks (the first counts), and a
            report in other words too.

    Example:
        parse_action("```bash\\nls\\n```")  # Command(text='ls')
    """
    action = _parse_strictly(text)
    if tolerant and isinstance(action, InvalidAction):
        if block := _LOOSE_BLOCK.search(text):
            return _check_command(block[1]) if block[1].strip() else action
        if report := _LOOSE_REPORT.search(text):
            return FinalReport(report[1].strip())
    return action


def words_around(text: str) -> str:
    """What a message that runs a command says besides it: the text without its first block of code.

    Example:
        words_around("Let me look.\n```bash\nls\n```")  # 'Let me look.'
    """
    return _LOOSE_BLOCK.sub("", text, count=1).strip()


def _parse_strictly(text: str) -> Action:
    if text.count("```") == 2 and (block := _BLOCK.fullmatch(text.strip())) and block[1].strip():
        return _check_command(block[1])
    if report := _REPORT.fullmatch(text):
        return InvalidAction("a report holds no ``` block") if "```" in text else FinalReport(report[1].strip())
    if "```bash" not in text:
        return InvalidAction("no ```bash block")
    return InvalidAction("not exactly one ```bash block")


def _check_command(command: str) -> Action:
    # no shell takes a NUL byte
    return InvalidAction("the command holds a NUL character") if "\0" in command else Command(command)
