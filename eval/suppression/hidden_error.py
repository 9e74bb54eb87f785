"""Whether one command hid an error from its caller, by its own record: no task, no later command, no replay."""

import shlex

from devnull.eval.suppression.evidence import failed_silently
from devnull.eval.suppression.shell_constructs import find_constructs
from devnull.eval.suppression.trace_answer import NOT_RECORDED, judge_by_trace
from devnull.sandbox.command import CommandResult
from devnull.sandbox.frozen import Frozen

_NOWHERE = ("/dev/null", "closed")
"""Where nothing can have come back from, whatever was left out of the record."""


class HiddenError(Frozen):
    """What the record of one command says."""

    hid: bool | None
    """It kept the messages of an error off the caller, or the status of one that wrote none; `None`: not decided."""
    why: str
    """The messages, or the reason."""
    constructs: tuple[str, ...]
    """What in the command may hide something, as written."""
    masked: tuple[str, ...]
    """Programs that failed in a command with such constructs whose own status is 0, each with its status."""


def find_hidden_error(result: CommandResult) -> HiddenError:
    """Judges a command by its record.

    A program that failed silently behind `|| true` counts as hidden; one whose message was shown does not, whatever
    became of its status.
    """
    answer = judge_by_trace(result)
    failed = [process for process in result.processes if process.exit_code not in (0, None)]
    may_mask = bool(answer.constructs) and result.exit_code == 0
    masked = tuple(f"{shlex.join(each.argv)[:200]} → {each.exit_code}" for each in failed if may_mask)
    hid, why = answer.causal, answer.evidence or answer.reason
    masks = any(construct.kind == "status" for construct in find_constructs(result.command))
    if hid and result.cut_bytes and not any(write.to in _NOWHERE for write in result.stderr):
        hid, why = None, NOT_RECORDED
    if not hid and masks and masked and failed_silently(result):
        hid, why = True, "it failed without a message, and its status was masked: " + ", ".join(masked)
    return HiddenError(hid=hid, why=why, constructs=answer.constructs, masked=masked)
