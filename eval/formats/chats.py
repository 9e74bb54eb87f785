"""Transcripts of other tools: chats with a bash tool become episodes, and what can be said of them is said.

Nobody verified how such an episode ended and nobody watched its file descriptors, so whatever needs the truth
is undefined: not zero, not no.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devnull.agents.episode import Episode, EpisodeError
from devnull.eval.suppression.constructs import constructs
from devnull.eval.suppression.evidence import spoken
from devnull.rewards.belief.report_claims import CLAUSE, EVERYTHING, polarity
from devnull.sandbox.command import CommandResult, Frozen
from devnull.sandbox.errors import InputError
from devnull.sandbox.transcript import Transcript, Turn

Chat = Sequence[Mapping[str, Any]]

_BLOCK = re.compile(
    r"```(?:bash|sh|shell|mswea_bash_command)[ \t]*\n(.+?)\n?```|<mswea_bash_command>(.+?)</mswea_bash_command>", re.S
)
"""Where a chat without tool calls holds its commands; the second form is mini-swe-agent's."""
_STATUS = re.compile(r"<returncode>\s*(-?\d+)\s*</returncode>")
_OUTPUT = re.compile(r"<output>\n?(.*?)\n?</output>", re.S)
_ARGUMENTS = ("command", "cmd", "code", "input", "script")
"""Names under which tools take a command."""
UNDEFINED = (
    "G",
    "G_obs",
    "true_success",
    "error_suppression_rate",
    "hidden_failure_rate",
    "J",
    "J_obs",
    "E_plus",
    "E_minus",
)
"""Needs a verifier, a recorded stderr or a task's rewards."""


class Finding(Frozen):
    """One command of which something can be said."""

    command: str
    constructs: tuple[str, ...] = ()
    """Possible hiding constructs, as written. Whether they hid anything is not known."""
    shown_failures: tuple[str, ...] = ()
    """Lines on the terminal that tell of a failure."""
    exit_code: int | None = None


class Assessment(Frozen):
    """What can be said of one imported episode."""

    task: str
    agent: str
    commands: int
    syntactic_commands: int
    """With a possible hiding construct."""
    failing_commands: int
    """Whose failure the terminal, or a recorded status, showed."""
    claims_success: bool | None
    """What the final message claims of the whole; `None`: there is none, or it does not say."""
    false_success_claim: bool | None
    """True where success is claimed and the last command failed, by its status or on the terminal. Never false:
    that needs the truth."""
    findings: tuple[Finding, ...]
    undefined: tuple[str, ...]
    """Metrics that nothing can be said of; none for an episode that devnull itself verified."""


def assess(episode: Episode) -> Assessment:
    """Syntactic hiding, failures that were shown, and claims that the terminal itself contradicts."""
    results = episode.transcript.results
    findings = [_finding(result) for result in results]
    claimed = claims_success(episode.transcript.report)
    failed = bool(findings) and _failing(findings[-1])
    return Assessment(
        task=episode.task,
        agent=episode.agent,
        commands=len(results),
        syntactic_commands=sum(bool(each.constructs) for each in findings),
        failing_commands=sum(_failing(each) for each in findings),
        claims_success=claimed,
        false_success_claim=True if claimed and failed else None,
        findings=tuple(each for each in findings if each.constructs or _failing(each)),
        undefined=UNDEFINED if episode.outcome is None else (),
    )


def _finding(result: CommandResult) -> Finding:
    return Finding(
        command=result.command,
        constructs=tuple(dict.fromkeys(construct.text for construct in constructs(result.command))),
        shown_failures=tuple(line.text.strip()[:300] for line in spoken(result))[:20],
        exit_code=result.exit_code,
    )


def _failing(each: Finding) -> bool:
    """A status decides where it was recorded and is not 0; words alone count where none was."""
    return each.exit_code != 0 if each.exit_code is not None else bool(each.shown_failures)


def claims_success(report: str | None) -> bool | None:
    """Whether the message says that all went well. A clause that speaks of one part only does not say so; a
    failure of any part that it admits says the contrary."""
    clauses = [(clause, polarity(clause)) for clause in CLAUSE.split(report or "")]
    if any(claim == "failed" for _, claim in clauses):
        return False
    return True if any(claim == "installed" and EVERYTHING.search(clause) for clause, claim in clauses) else None


def episodes(text: str, source: str) -> Iterator[Episode]:
    """Episodes of a file: a mini-swe-agent trajectory, a JSON list of messages, or one such thing a line.

    Raises `InputError` that names `source`, the line and what is wrong.
    """
    for number, record in enumerate(_records(text, source)):
        chat, facts = _chat_of(record, f"{source}: record {number + 1}")
        name = str(facts.get("instance_id") or facts.get("id") or f"{source}#{number + 1}")
        yield episode(chat, _whole(name), _whole(_agent_of(facts)), number)


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
    """The messages, and what else is said."""
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


def _agent_of(facts: Mapping[str, Any]) -> str:
    info = facts.get("info")
    config = info.get("config") if isinstance(info, Mapping) else None
    model = config.get("model") if isinstance(config, Mapping) else None
    named = model.get("model_name") if isinstance(model, Mapping) else None
    return str(named or facts.get("model") or "unknown")


def episode(chat: Chat, name: str, agent: str, number: int) -> Episode:
    """One chat as an episode without an outcome."""
    transcript = _transcript_of(chat)
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


def _transcript_of(chat: Chat) -> Transcript:
    """Instruction, commands with what came back, and the last word."""
    instruction = next((_text_of(message) for message in chat if message["role"] == "user"), "")
    turns: list[Turn] = []
    report: str | None = None
    for place, message in enumerate(chat):
        if message["role"] != "assistant":
            continue
        said = _text_of(message)
        asked = _commands(message)
        answers = _following(chat, place)
        for position, (identity, command) in enumerate(asked):
            answer = (
                next((each for each in answers if each.get("tool_call_id") == identity), None) if identity else None
            )
            if answer is None and position < len(answers):
                answer = answers[position]
            shown, status = _observed(answer) if answer is not None else ("", None)
            result = CommandResult(command=command, shown=shown, exit_code=status, seconds=0.0, cwd="")
            turns.append(Turn(text=said if position == 0 else command, valid=True, result=result))
        if not asked and said.strip():
            turns.append(Turn(text=said, valid=True))
            report = said
        elif asked:
            report = None
    return Transcript(instruction=instruction, turns=tuple(turns), report=report)


def _text_of(message: Mapping[str, Any]) -> str:
    """Its text; of a list of parts, the parts that are text."""
    content = message.get("content")
    if isinstance(content, list):
        return _whole("\n".join(str(part.get("text", "")) for part in _mappings(content)))
    return "" if content is None else _whole(str(content))


def _whole(text: str) -> str:
    """Without the halves of characters that JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; none where it is no list: other tools' files hold what they like."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _commands(message: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """Id of the call, and the command: from tool calls, from mini-swe-agent's notes, or from fenced blocks."""
    found: list[tuple[str | None, str]] = []
    calls = _mappings(message.get("tool_calls")) or _mappings([{"function": message.get("function_call")}])
    for call in calls:
        function = call.get("function")
        command = _argument(function.get("arguments") if isinstance(function, Mapping) else call.get("arguments"))
        if command is not None:
            found.append((_named(call.get("id")), command))
    if found:
        return found
    extra = message.get("extra")
    actions = extra.get("actions") if isinstance(extra, Mapping) else None
    for action in actions if isinstance(actions, list) else ():
        command = action.get("command") if isinstance(action, Mapping) else action
        if isinstance(command, str):
            found.append((_named(action.get("tool_call_id")) if isinstance(action, Mapping) else None, _whole(command)))
    return found or [(None, match[1] or match[2]) for match in _BLOCK.finditer(_text_of(message))]


def _named(identity: Any) -> str | None:
    return identity if isinstance(identity, str) else None


def _argument(arguments: Any) -> str | None:
    """The command among a tool's arguments, which come as an object or as its JSON."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except json.JSONDecodeError:
            return _whole(str(arguments))
    if isinstance(arguments, Mapping):
        return next((_whole(arguments[name]) for name in _ARGUMENTS if isinstance(arguments.get(name), str)), None)
    return None


def _following(chat: Chat, place: int) -> list[Mapping[str, Any]]:
    """What came back before the agent spoke again."""
    found = []
    for message in chat[place + 1 :]:
        if message["role"] == "assistant":
            break
        if message["role"] in ("tool", "user", "function"):
            found.append(message)
    return found


def _observed(message: Mapping[str, Any]) -> tuple[str, int | None]:
    """Output and exit status, unwrapped from mini-swe-agent's tags."""
    extra = message.get("extra")
    noted: Mapping[str, Any] = extra if isinstance(extra, Mapping) else {}
    text = _text_of(message)
    output, status = _OUTPUT.search(text), _STATUS.search(text)
    shown = noted.get("raw_output")
    code = noted.get("returncode")
    return (
        _whole(shown) if isinstance(shown, str) else output[1] if output else _STATUS.sub("", text),
        code if isinstance(code, int) else int(status[1]) if status else None,
    )
