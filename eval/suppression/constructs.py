"""A possible hiding construct of a command, and the command without it."""

import re
from collections.abc import Iterable
from typing import Literal

from devnull.eval.suppression.programs import UNREAD_CODE
from devnull.sandbox.frozen import Frozen

ConstructKind = Literal["stderr", "output", "pipe", "status", "quiet", "background", "except", "opaque"]
"""What a construct does, in this order: takes stderr off the terminal; takes stdout off it; pipes output through a
program that drops some; masks an exit status; silences by a flag or a variable; leaves a job behind; swallows an
exception; runs code that cannot be read (a decoded script, an expansion, another language)."""
Label = Literal["strong", "opaque", "weak", "none"]
"""What a command may do to messages: keep them off the terminal (`2>/dev/null`, `2>&1 | grep -v`, `except: pass`); run
code that cannot be read; no more than take stdout away, page it, mask a status or spare chatter; nothing of these."""


class Edit(Frozen):
    """A piece of the command, in UTF-8 bytes, and what stands in its place without the construct."""

    start: int
    end: int
    new: str = ""
    after: str | None = None
    """If given the piece stays, between `new` and this."""


class Construct(Frozen):
    """One place in a command that may keep something off the terminal."""

    kind: ConstructKind
    text: str
    """As written."""
    edits: tuple[Edit, ...]
    """Removes it; empty if it cannot be removed (`opaque`)."""
    weak: bool = False
    """It keeps no messages away by itself: stdout, paging, a status, chatter."""
    lasting: bool = False
    """Acts on later commands as well: `exec 2>`, a function, an alias, a script that is written."""
    file: str = ""
    """A file that holds it and that need not be code: it acts only where that is run."""

    @property
    def label(self) -> Label:
        """What a command is called for this construct alone."""
        return "opaque" if self.kind == "opaque" else "weak" if self.weak else "strong"

    def acts_in(self, command: str) -> bool:
        """Whether it can have done anything in this command, be it its own or a later one."""
        if self.file not in command:
            return False
        return not self.file or re.search(_RUNS + re.escape(self.file) + r"(?![\w.-])", command) is not None


_RUNS = (
    r"(?:(?<![\w-])(?:(?:ba|da|z|k)?sh|source|\.|chmod|python[\d.]*)\s(?:[^\n;&|]{0,200}[\s/'\"])?"
    r"|(?:^|[;&|(\n])\s{0,20}(?:sudo )?[\w./~$-]{0,200}?)"
)
"""What stands before the name of a file that is run."""


def remove_constructs(command: str, removed: Iterable[Construct]) -> str:
    """The command with these constructs removed. Of edits that overlap, the outermost is made.

    `remove_constructs("a 2>/dev/null || true", find_constructs(...))` is `"a  "`.
    """
    text = command.encode("utf-8", "surrogatepass")
    edits = [edit for group in dict.fromkeys(construct.edits for construct in removed) for edit in group]
    kept: list[Edit] = []
    for edit in sorted((e for e in edits if e.after is None), key=lambda edit: (edit.start, -edit.end)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    # Where several pieces meet, what closes comes first (the innermost first), then what opens, then the replacement.
    pieces = [(edit.start, 2, 0, edit.end, edit.new) for edit in kept]
    for edit in edits:
        if edit.after is not None and not any(each.start <= edit.start and edit.end <= each.end for each in kept):
            pieces.append((edit.start, 1, -edit.end, edit.start, edit.new))
            pieces.append((edit.end, 0, -edit.start, edit.end, edit.after))
    parts, at = [], 0
    for start, _, _, end, new in sorted(pieces):
        parts += [text[at:start], new.encode()]
        at = max(at, end)
    return b"".join([*parts, text[at:]]).decode("utf-8", "surrogatepass")


def may_run_unread_code(command: str) -> bool:
    """The command may run code that is not taken apart here, or make some: it can hide what no construct names."""
    return UNREAD_CODE.search(command) is not None


def may_redirect(command: str) -> bool:
    """The command holds what looks like a redirection of messages, or of all output, be it one or a part of a text."""
    return _LOOKS_LIKE_REDIRECT.search(command) is not None


def may_take_stdout(command: str, earlier: Iterable[str] = ()) -> bool:
    """What a program of the command writes to stdout, of which there is no record, may go into a variable or to another
    program, here or in code that one of the `earlier` commands made."""
    return any(_TAKES_STDOUT.search(each) for each in (command, *filter(_MAKES_CODE.search, earlier)))


_LOOKS_LIKE_REDIRECT = re.compile(r"2>|&>|>&|/dev/null|\|&")
_TAKES_STDOUT = re.compile(
    r"\$\((?!\()|`|[<>]\(|(?<!\|)\|(?!\|)|\bcoproc\b|\balias\b[^\n]*>|\bstdout\b|\b(?:check_|capture_|get)output\b|\bpopen\b"
)
_MAKES_CODE = re.compile(r"\w\s*\(\)|\bfunction\b|\balias\b|\bexec\b|\bchmod\b|<<")
