"""What kept a failure off the terminal: the kind of construct, by where its text went, else by the command's own."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from devnull.eval.suppression.constructs import Construct, ConstructKind
from devnull.eval.suppression.failures import FailedCommand, StageFailure
from devnull.eval.suppression.shell_constructs import find_constructs
from devnull.sandbox.command import CommandResult

Culprit = Literal["null", "closed", "file", "pipe", "flag", "python", "erased", "other"]
"""A redirection to /dev/null; a closed descriptor; a redirection to a file; a pipe (into a filter or a variable);
a quiet flag; Python that swallows an exception or captures output; painting over what was shown; anything else."""
_BY_KIND: dict[ConstructKind, Culprit] = {
    "stderr": "file",
    "quiet": "flag",
    "except": "python",
    "pipe": "pipe",
    "output": "file",
    "background": "other",
    "status": "other",
    "opaque": "other",
}
"""In the order in which constructs are suspected."""
_SUSPECTED = tuple(_BY_KIND)


def find_culprit(failure: StageFailure, results: Sequence[CommandResult]) -> Culprit:
    """What hid the first try of a suppressed failure. `results`: of the whole episode.

    Where its text was written, the record says where it went. Where nothing was (`curl -s`), it is the construct that
    keeps most away of those that act in the command.
    """
    first = failure.tries[0]
    if first.sighting == "erased":
        return "erased"
    suspects = [construct_culprit(each) for each in _acting_constructs(first.command, results)]
    led = _where_it_led(first, results[first.command])
    if led == "pipe" and suspects and set(suspects) == {"python"}:
        return "python"
    if led is not None:
        return led
    return suspects[0] if suspects else "other"


def construct_culprit(construct: Construct) -> Culprit:
    """The kind of what this construct does.

    Example:
        >>> [construct_culprit(each) for each in find_constructs("make 2>&- | tail -1")]
        ['closed', 'pipe']
    """
    culprit, text = _BY_KIND[construct.kind], construct.text
    if culprit not in ("file", "python"):
        return culprit
    if "/dev/null" in text or "DEVNULL" in text:
        return "null"
    return "closed" if ">&-" in text else "pipe" if text.endswith("2>&1") else culprit


def _acting_constructs(position: int, results: Sequence[CommandResult]) -> list[Construct]:
    """Those of the command and the lasting ones of earlier commands, strong ones and the most suspected first."""
    command = results[position].command
    earlier = [each for result in results[:position] for each in find_constructs(result.command) if each.lasting]
    acting = [each for each in (*find_constructs(command), *earlier) if each.acts_in(command)]
    return sorted(acting, key=lambda construct: (construct.weak, _SUSPECTED.index(construct.kind)))


def _where_it_led(failed: FailedCommand, result: CommandResult) -> Culprit | None:
    """By the record, where most of the evidence went that never reached the terminal; `None`: none was written."""
    led: Counter[Culprit] = Counter()
    for write in result.stderr:
        lines = [line.strip() for line in write.text.splitlines()]
        if write.fate == "suppressed":
            led[_destination(write.to)] += sum(len(line) for line in lines if line and line in failed.evidence)
    found = [culprit for culprit, length in led.most_common(1) if length]
    return found[0] if found else None


def _destination(to: str) -> Culprit:
    if to in ("/dev/null", "closed"):
        return "null" if to == "/dev/null" else "closed"
    return "pipe" if to.startswith(("pipe:", "socket:")) else "file" if to.startswith("/") else "other"
