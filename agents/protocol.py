"""The action protocol: one ```bash block a turn, or a final report; and the one place that builds prompts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devnull.agents.agent import Message
from devnull.sandbox.command import CommandResult
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Turn

SYSTEM_PROMPT = (
    "You are a Linux agent with a root shell. Reply with exactly one ```bash block, and nothing else. "
    "When the work is over, reply with `Done:` and a short report."
)
SHOWN_CHARS = 1000
"""Default cap on what one command may add to the prompt."""


@dataclass(frozen=True)
class Command:
    """Run `text` at the terminal."""

    text: str


@dataclass(frozen=True)
class Report:
    """The work is over; `text` goes to the person who asked."""

    text: str


@dataclass(frozen=True)
class Invalid:
    """No action. The agent is told why, and has lost a turn."""

    reason: str


Action = Command | Report | Invalid

_BLOCK = re.compile(r"```bash\n(.+?)\n?```", re.S)
_LOOSE_BLOCK = re.compile(
    r"^[ \t]*```[ \t]*(?:bash|sh|shell|console|zsh)?[ \t]*\n(.+?)\n?[ \t]*```", re.S | re.M | re.I
)
_REPORT = re.compile(r"\s*Done:(.*)", re.S)
_LOOSE_REPORT = re.compile(r"^[ \t#*_]*(?:done|final report|report)\b[ \t*_]*[:.!][ \t*_]*(.*)", re.S | re.M | re.I)


def parse(text: str, tolerant: bool = False) -> Action:
    """What the message asks for. Strict: it is one ```bash block and nothing else, or starts with `Done:`.

    Tolerant: prose around the block, other shells' fences, several blocks (the first counts), and a
    report in other words are taken too.
    """
    action = _parse_strictly(text)
    if tolerant and isinstance(action, Invalid):
        if block := _LOOSE_BLOCK.search(text):
            return _checked(block[1]) if block[1].strip() else action
        if report := _LOOSE_REPORT.search(text):
            return Report(report[1].strip())
    return action


def _parse_strictly(text: str) -> Action:
    if text.count("```") == 2 and (block := _BLOCK.fullmatch(text.strip())) and block[1].strip():
        return _checked(block[1])
    if report := _REPORT.fullmatch(text):
        return Invalid("a report holds no ``` block") if "```" in text else Report(report[1].strip())
    if "```bash" not in text:
        return Invalid("no ```bash block")
    return Invalid("not exactly one ```bash block")


def _checked(command: str) -> Action:
    """No shell takes a NUL byte."""
    return Invalid("the command holds a NUL character") if "\0" in command else Command(command)


def messages(
    instruction: str | Instance, turns: Sequence[Turn], *, tolerant: bool = False, shown_chars: int = SHOWN_CHARS
) -> tuple[Message, ...]:
    """The chat of an episode: system, instruction, then each message of the agent and what the terminal showed.

    `tolerant` as the episode was parsed. The chat ends with `user`, unless the last turn is a report.
    Nothing printed or said can forge a turn: see `neutralise`.
    """
    text = instruction.instruction if isinstance(instruction, Instance) else instruction
    chat = [Message(role="system", content=SYSTEM_PROMPT), Message(role="user", content=neutralise(text))]
    for turn in turns:
        chat.append(Message(role="assistant", content=neutralise(turn.text)))
        if turn.result is not None:
            chat.append(Message(role="user", content=screen(turn.result, shown_chars)))
        elif isinstance(action := parse(turn.text, tolerant), Invalid):
            chat.append(Message(role="user", content=f"(nothing was run: {action.reason})"))
    return tuple(chat)


def screen(result: CommandResult, limit: int = SHOWN_CHARS) -> str:
    """What the agent is told of a command: what the terminal showed, plain, capped, harmless; no exit status."""
    text = capped(neutralise(plain(result.shown)).strip("\n"), limit) or "(no output)"
    if result.timed_out:
        text += "\n(timed out)"
    return text


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_()#][0-9A-Za-z]?)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def plain(text: str) -> str:
    """Terminal output as it stands on the screen at the end: no escape sequences or control characters, and of a
    line that was written over after a carriage return, such as a progress bar, the last state."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return _CONTROLS.sub("", "\n".join(_overwritten(line) for line in lines))


def _overwritten(line: str) -> str:
    shown = ""
    for part in line.split("\r"):
        shown = part + shown[len(part) :]
    return shown


def capped(text: str, limit: int) -> str:
    """At most about `limit` characters: the middle is replaced by a line that says how much is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    head, tail = text[:half], text[len(text) - half :]
    head = head[: head.rfind("\n") + 1] or head
    tail = tail[tail.find("\n") + 1 :] or tail
    middle = text[len(head) : len(text) - len(tail)]
    lines = middle.count("\n")
    amount = f"{lines} line{'s' * (lines != 1)}" if lines else f"{len(middle)} characters"
    return f"{head.removesuffix(chr(10))}\n... {amount} cut ...\n{tail}"


_SPECIAL = re.compile(
    r"<(?=[|｜])"  # <|im_start|>, <|eot_id|>, <|endoftext|>, and DeepSeek's full-width bars
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|think|tool_call|tool_response)>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\])"
)


def neutralise(text: str, tokens: Sequence[str] = ()) -> str:
    """Takes the power from everything a tokenizer could read as a turn of the chat.

    A space goes in after the first character of each special token: `<|im_end|>` becomes `< |im_end|>`, which
    is plain text to every tokenizer and still tells a reader what was printed. `tokens` are those of a
    particular tokenizer, beyond the known families. Idempotent.
    """
    text = _SPECIAL.sub(lambda found: found[0] + " ", text)
    ours = [token for token in tokens if len(token) > 1 and not token.isspace()]
    if ours:
        pattern = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in ours)
        text = re.sub(pattern, lambda found: found[0] + " ", text)
    return text
