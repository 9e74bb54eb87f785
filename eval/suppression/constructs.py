"""A possible hiding construct of a command, and the command without it."""

from collections.abc import Iterable
from typing import Literal

from devnull.eval.suppression.programs import UNREAD_CODE
from devnull.sandbox.frozen import Frozen

ConstructKind = Literal["stderr", "output", "pipe", "status", "quiet", "background", "except", "opaque"]
"""What a construct does, in this order: takes stderr off the terminal; takes stdout off it; pipes output through a
program that drops some; masks an exit status; silences errors by a flag; leaves a job behind; swallows an exception;
runs code that cannot be read (a decoded script, another language)."""


class Edit(Frozen):
    """A piece of the command, in UTF-8 bytes, and what stands in its place without the construct."""

    start: int
    end: int
    new: str = ""


class Construct(Frozen):
    """One place in a command that may keep something off the terminal."""

    kind: ConstructKind
    text: str
    """As written."""
    edits: tuple[Edit, ...]
    """Removes it; empty if it cannot be removed (`opaque`)."""
    lasting: bool = False
    """Acts on later commands as well: `exec 2>`, a function, an alias, a script that is written."""
    file: str = ""
    """A file that holds it: it acts only where that is named again."""

    def acts_in(self, command: str) -> bool:
        """Whether it can have done anything in this command, be it its own or a later one."""
        return not self.file or command.replace(self.text, "").count(self.file) > 0


def remove_constructs(command: str, removed: Iterable[Construct]) -> str:
    """The command with these constructs removed. Of edits that overlap, the outermost is made.

    `remove_constructs("a 2>/dev/null || true", find_constructs(...))` is `"a  "`.
    """
    text = command.encode("utf-8", "surrogatepass")
    edits = {edit for construct in removed for edit in construct.edits}
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.end)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    for edit in reversed(kept):
        text = text[: edit.start] + edit.new.encode() + text[edit.end :]
    return text.decode("utf-8", "surrogatepass")


def may_run_unread_code(command: str) -> bool:
    """The command may run code that is not taken apart here, or make some: it can hide what no construct names."""
    return UNREAD_CODE.search(command) is not None
