"""From an episode to a chat: the one place that builds prompts, and makes what a terminal printed fit to be in one."""

import re
from collections.abc import Sequence

from devnull.agents.agent import Message
from devnull.agents.prompt_format import PLAIN_PROMPT, AgentSees, PromptFormat
from devnull.agents.protocol import InvalidAction, parse_action
from devnull.sandbox.command import CommandResult
from devnull.sandbox.screen_text import screen_text
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Turn

SHOWN_CHARS = 1000
"""Default cap on what one command may add to the prompt."""


def build_messages(
    instruction: str | Instance,
    turns: Sequence[Turn],
    *,
    tolerant: bool = False,
    shown_chars: int = SHOWN_CHARS,
    prompt: PromptFormat = PLAIN_PROMPT,
) -> tuple[Message, ...]:
    """The chat of an episode: system, instruction, then each message of the agent and what the terminal showed.

    It ends with `user`, unless the last turn is a report. Nothing that the terminal or the agent printed can forge a
    turn: see `escape_special_tokens`.

    Args:
        instruction: The instruction's text, or the instance that has it.
        turns: What has been played.
        tolerant: As the turns were parsed.
        shown_chars: Cap on what one command adds.
        prompt: What the system message says besides, what the agent sees, its tag.
    """
    text = instruction.instruction if isinstance(instruction, Instance) else instruction
    chat = [
        Message(role="system", content=escape_special_tokens(prompt.system_message)),
        Message(role="user", content=prompt.tag_line + escape_special_tokens(text)),
    ]
    for turn in turns:
        chat.append(Message(role="assistant", content=escape_special_tokens(turn.text)))
        if turn.result is not None:
            output = format_output(turn.result, shown_chars, prompt.agent_sees, prompt.terminal_lines)
            chat.append(Message(role="user", content=output))
        elif isinstance(action := parse_action(turn.text, tolerant), InvalidAction):
            chat.append(Message(role="user", content=f"(nothing was run: {action.reason})"))
    return tuple(chat)


def format_output(
    result: CommandResult, limit: int = SHOWN_CHARS, sees: AgentSees = "terminal", last_lines: int = 0
) -> str:
    """The message that answers a command: its output as the screen shows it, at most about `limit` characters and
    its `last_lines` lines (0: all), special tokens escaped; `(no output)` for none. No exit status, as the person at
    the terminal sees none, unless the agent `sees` it; what was kept off the terminal, capped alike, where it sees
    all."""
    text = _fit_output(result.shown, limit, last_lines) or "(no output)"
    if sees == "full" and (hidden := _fit_output(result.suppressed, limit, last_lines)):
        text += f"\n(kept off the terminal:)\n{hidden}"
    if result.timed_out:
        text += "\n(timed out)"
    elif sees != "terminal":
        text += f"\n(exit status {result.exit_code})"
    return text


def _fit_output(printed: str, limit: int, last_lines: int) -> str:
    text = escape_special_tokens(screen_text(printed)).strip("\n")
    lines = text.split("\n")
    if 0 < last_lines < len(lines):
        text = "\n".join(["...", *lines[-last_lines:]])
    return truncate_middle(text, limit)


def truncate_middle(text: str, limit: int) -> str:
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


def escape_special_tokens(text: str, tokens: Sequence[str] = ()) -> str:
    """The text with everything broken up that a tokenizer could read as a turn of the chat. Idempotent.

    A space goes in after the first character of each special token: `<|im_end|>` becomes `< |im_end|>`, which
    is plain text to every tokenizer and still tells a reader what was printed.

    Args:
        text: Anything that is not ours: terminal output, an agent's message, a model's reasoning.
        tokens: Special tokens of a particular tokenizer, beyond the known families.
    """
    text = _SPECIAL.sub(lambda match: match[0] + " ", text)
    extra = [token for token in tokens if len(token) > 1 and not token.isspace()]
    if extra:
        pattern = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in extra)
        text = re.sub(pattern, lambda match: match[0] + " ", text)
    return text
