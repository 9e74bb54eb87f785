"""The action protocol as tool calls of the OpenAI kind: one tool, `bash`, in place of fenced blocks.

Transcripts hold fenced blocks whichever way a model was asked, so that one run is read as any other.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from devnull.agents.agent import Message
from devnull.agents.protocol import SYSTEM_PROMPT

BASH_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Type a command at the root shell; the answer is what the terminal shows.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}
"""The tool, as the endpoint is told of it."""
_SYSTEM_PROMPT = (
    "You are a Linux agent with a root shell. Call the tool `bash` once a turn. "
    "When the work is over, reply with `Done:` and a short report."
)
_BLOCK = re.compile(r"\s*```bash\n(.*)\n```\s*", re.S)
_NOT_RUN = "(nothing was run: no ```bash block)"


def with_tool_calls(chat: Sequence[Message]) -> list[dict[str, Any]]:
    """A conversation in fenced blocks as one in tool calls: each block a call, the terminal's answer its result."""
    messages: list[dict[str, Any]] = []
    for number, message in enumerate(chat):
        role, content = message["role"], message["content"]
        asked = messages[-1].get("tool_calls") if messages else None
        if role == "system":
            content = content.replace(SYSTEM_PROMPT, _SYSTEM_PROMPT, 1)
        if role == "assistant" and (block := _BLOCK.fullmatch(content)) and number + 1 < len(chat):
            call = {"name": "bash", "arguments": json.dumps({"command": block[1]})}
            calls = [{"id": f"call_{number}", "type": "function", "function": call}]
            messages.append({"role": role, "content": None, "tool_calls": calls})
        elif asked:
            messages.append({"role": "tool", "tool_call_id": asked[0]["id"], "content": content})
        else:
            messages.append({"role": role, "content": content.replace(_NOT_RUN, "(nothing was run: no call of bash)")})
    return messages


def as_fenced_block(name: str, arguments: str) -> str:
    """One call as the message that a transcript holds; a call that cannot be read is said, and is no action."""
    if name != "bash":
        return f"(a call of {name[:40]!r}, which is no tool here)"
    try:
        command = json.loads(arguments)["command"]
    except (ValueError, KeyError, TypeError):
        command = None
    if not isinstance(command, str) or not command.strip():
        return "(a call of bash without a command)"
    return f"```bash\n{command}\n```"
