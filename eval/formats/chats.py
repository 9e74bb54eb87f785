"""Reads chats in which another tool's agent ran shell commands: OpenAI messages, mini-swe-agent trajectories.

The episodes have no outcome, since nobody verified how they ended, and no stderr of their own.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devnull.agents.episode import Episode, EpisodeError
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import InputError
from devnull.sandbox.transcript import Transcript, Turn

Chat = Sequence[Mapping[str, Any]]
"""Messages in the form of OpenAI's chat completions; each has a `role`."""

_BLOCK = re.compile(
    r"```(?:bash|sh|shell|mswea_bash_command)[ \t]*\n(.+?)\n?```|<mswea_bash_command>(.+?)</mswea_bash_command>", re.S
)
"""Where a chat without tool calls holds its commands; the second form is mini-swe-agent's."""
_STATUS = re.compile(r"<returncode>\s*(-?\d+)\s*</returncode>")
_OUTPUT = re.compile(r"<output>\n?(.*?)\n?</output>", re.S)
_COMMAND_ARGUMENTS = ("command", "cmd", "code", "input", "script")
"""Names of the argument in which tools take a command."""


def read_chats(text: str, source: str) -> Iterator[Episode]:
    """Episodes of a file's text: a mini-swe-agent trajectory, a JSON list of messages, or either of them a line.

    Args:
        source: Name of the file, for error messages and for episodes that have no id.

    Raises `InputError` that names the source, the line and what is wrong.
    """
    for number, record in enumerate(_records(text, source)):
        chat, facts = _chat_of(record, f"{source}: record {number + 1}")
        name = str(facts.get("instance_id") or facts.get("id") or f"{source}#{number + 1}")
        yield chat_to_episode(chat, _replace_surrogates(name), _replace_surrogates(_model_name(facts)), number)


def _records(text: str, source: str) -> Iterator[Any]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = None
    if whole is not None:
        yield whole
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{source}:{number}: neither JSON nor JSON lines: {error.msg}") from None


def _chat_of(record: Any, where: str) -> tuple[Chat, Mapping[str, Any]]:
    """The messages of a record, and its other fields."""
    facts: Mapping[str, Any] = record if isinstance(record, Mapping) else {}
    chat = record if isinstance(record, list) else facts.get("messages")
    if (
        not isinstance(chat, list)
        or not chat
        or not all(isinstance(message, Mapping) and isinstance(message.get("role"), str) for message in chat)
    ):
        raise InputError(
            f"{where}: no list of messages with roles; devnull import takes Inspect logs (.eval), mini-swe-agent "
            f"trajectories (.traj.json) and OpenAI messages (.json, .jsonl)"
        )
    return chat, facts


def _model_name(facts: Mapping[str, Any]) -> str:
    info = facts.get("info")
    config = info.get("config") if isinstance(info, Mapping) else None
    model = config.get("model") if isinstance(config, Mapping) else None
    name = model.get("model_name") if isinstance(model, Mapping) else None
    return str(name or facts.get("model") or "unknown")


def chat_to_episode(chat: Chat, name: str, agent: str, number: int) -> Episode:
    """A chat as an episode without an outcome: its error is `NoGroundTruth`.

    Args:
        name: Of the task.
        agent: Name of the model; also the episode's arm.
        number: Stands in the place of the seed.
    """
    transcript = _read_transcript(chat)
    return Episode(
        arm=agent,
        agent=agent,
        task=name,
        family="imported",
        split="test",
        seed=number,
        faulty=False,
        runtime="imported",
        transcript=transcript,
        error=EpisodeError(kind="NoGroundTruth", message="imported: no verifier saw how it ended"),
    )


def _read_transcript(chat: Chat) -> Transcript:
    """The first user message as the instruction, commands with their output, and the last message as the report."""
    instruction = next((_text_of(message) for message in chat if message["role"] == "user"), "")
    turns: list[Turn] = []
    report: str | None = None
    for place, message in enumerate(chat):
        if message["role"] != "assistant":
            continue
        text = _text_of(message)
        commands = _read_commands(message)
        answers = _replies(chat, place)
        for position, (identity, command) in enumerate(commands):
            answer = (
                next((each for each in answers if each.get("tool_call_id") == identity), None) if identity else None
            )
            if answer is None and position < len(answers):
                answer = answers[position]
            shown, status = _read_output(answer) if answer is not None else ("", None)
            result = CommandResult(command=command, shown=shown, exit_code=status, seconds=0.0, cwd="")
            turns.append(Turn(text=text if position == 0 else command, valid=True, result=result))
        if not commands and text.strip():
            turns.append(Turn(text=text, valid=True))
            report = text
        elif commands:
            report = None
    return Transcript(instruction=instruction, turns=tuple(turns), report=report)


def _text_of(message: Mapping[str, Any]) -> str:
    """The text of a message; of a list of parts, those parts that are text."""
    content = message.get("content")
    if isinstance(content, list):
        return _replace_surrogates("\n".join(str(part.get("text", "")) for part in _mappings(content)))
    return "" if content is None else _replace_surrogates(str(content))


def _replace_surrogates(text: str) -> str:
    """Without lone surrogates, which JSON can hold and no UTF-8 file can."""
    return text.encode("utf-8", "replace").decode()


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list; none where it is no list, since other tools' files may hold anything."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _read_commands(message: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """(id of the call, command), from tool calls, from mini-swe-agent's `extra`, or from fenced blocks."""
    commands: list[tuple[str | None, str]] = []
    calls = _mappings(message.get("tool_calls")) or _mappings([{"function": message.get("function_call")}])
    for call in calls:
        function = call.get("function")
        command = _command_argument(
            function.get("arguments") if isinstance(function, Mapping) else call.get("arguments")
        )
        if command is not None:
            commands.append((_call_id(call.get("id")), command))
    if commands:
        return commands
    extra = message.get("extra")
    actions = extra.get("actions") if isinstance(extra, Mapping) else None
    for action in actions if isinstance(actions, list) else ():
        command = action.get("command") if isinstance(action, Mapping) else action
        if isinstance(command, str):
            commands.append(
                (
                    _call_id(action.get("tool_call_id")) if isinstance(action, Mapping) else None,
                    _replace_surrogates(command),
                )
            )
    return commands or [(None, match[1] or match[2]) for match in _BLOCK.finditer(_text_of(message))]


def _call_id(identity: Any) -> str | None:
    return identity if isinstance(identity, str) else None


def _command_argument(arguments: Any) -> str | None:
    """The command among a tool's arguments, which are an object or its JSON."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except json.JSONDecodeError:
            return _replace_surrogates(str(arguments))
    if isinstance(arguments, Mapping):
        return next(
            (
                _replace_surrogates(arguments[name])
                for name in _COMMAND_ARGUMENTS
                if isinstance(arguments.get(name), str)
            ),
            None,
        )
    return None


def _replies(chat: Chat, place: int) -> list[Mapping[str, Any]]:
    """The messages between this one of the agent and its next."""
    replies = []
    for message in chat[place + 1 :]:
        if message["role"] == "assistant":
            break
        if message["role"] in ("tool", "user", "function"):
            replies.append(message)
    return replies


def _read_output(message: Mapping[str, Any]) -> tuple[str, int | None]:
    """Output and exit status of a command, out of mini-swe-agent's tags or `extra` where there are any."""
    extra = message.get("extra")
    fields: Mapping[str, Any] = extra if isinstance(extra, Mapping) else {}
    text = _text_of(message)
    output, status = _OUTPUT.search(text), _STATUS.search(text)
    shown = fields.get("raw_output")
    code = fields.get("returncode")
    return (
        _replace_surrogates(shown) if isinstance(shown, str) else output[1] if output else _STATUS.sub("", text),
        code if isinstance(code, int) else int(status[1]) if status else None,
    )
