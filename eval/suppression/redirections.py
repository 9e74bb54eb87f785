"""Redirections that take something off the terminal, and commands without them.

What goes to a file is copied to the terminal, not taken away from the file: a later command may read it.
"""

import re
from collections.abc import Sequence

from tree_sitter import Node

from devnull.eval.suppression.code_reader import CodeReader, Place
from devnull.eval.suppression.constructs import Edit
from devnull.eval.suppression.programs import DECODERS, FILTERS, PAGERS, SCRIPT_FILES, VISIBLE_TARGETS, WRITERS
from devnull.eval.suppression.shell_syntax import (
    COMPOUND,
    command_name,
    command_words,
    file_redirects,
    named_descriptors,
    node_text,
    redirect_parts,
    redirect_span,
    redirect_target,
    redirected_command,
    redirected_pipeline,
    unquoted,
)

_COPIED = re.compile(r"[\w./~${}@%+=:,\"'\\-]+")
"""Names of files that can be read again after the command: nothing is run to make the name."""


def find_redirections(reader: CodeReader, place: Place, statement: Node, captured: bool) -> bool:
    """`2>`, `&>`, `2>&-`, `>/dev/null 2>&1`, in the order in which the shell makes them.

    `captured`: stdout goes off the terminal already. Returns whether that of what the statement holds does.
    """
    body = statement if statement.type == "command" else statement.child_by_field_name("body")
    if body is None:
        return captured
    command = redirected_command(body)
    name = command_name(statement)
    if name == "exec" and len(command_words(statement)) == 1:
        place = place._replace(lasting=True)
    named = named_descriptors(command)
    merged = body.type == "pipeline" and any(_joins(stage) for stage in body.children)
    away = captured
    stdout_edits: tuple[Edit, ...] = ()
    for redirect in file_redirects(statement):
        descriptor, operator, target = redirect_parts(redirect)
        if (operator.startswith("<") and descriptor != "2") or redirect.start_byte in named:
            continue
        start, end = redirect_span(redirect)
        removal = (Edit(start=place.start + start, end=place.start + end),)
        edits = _copy(reader, place, statement, redirected_pipeline(body), redirect) or removal
        both = operator.startswith("&") or (operator == ">&" and not re.fullmatch(r"\d+|-", target) and not descriptor)
        sink = _sink(redirect)
        seen = target in VISIBLE_TARGETS or sink == "shown"
        stdout = descriptor in ("", "1")
        if seen and (both or descriptor == "2"):
            away = away and not both
        elif sink in ("filtered", "paged") and (both or descriptor == "2" or stdout):
            stderr = both or descriptor == "2"
            reader.add_edited(place, "pipe", start, end, removal, weak=sink == "paged" or not stderr)
        elif both:
            reader.add_edited(place, "stderr", start, end, edits)
            away = True
        elif descriptor == "2" and target == "1":
            if away:
                reader.add_edited(place, "stderr", start, end, stdout_edits or removal)
        elif descriptor == "2" and target != "2":
            reader.add_edited(place, "stderr", start, end, edits)
        elif stdout and (seen or target in ("1", "2")):
            away = False
        elif stdout:
            away, stdout_edits = True, edits if edits is not removal else ()
            _stdout(reader, place, redirect, name, edits, merged)
    return away if command is body else captured


def _stdout(reader: CodeReader, place: Place, redirect: Node, name: str, edits: tuple[Edit, ...], merged: bool) -> None:
    """`> file`: no construct where the output is data for the file; opaque where it may be code that we do not read."""
    _, operator, target = redirect_parts(redirect)
    if name in DECODERS and not target.startswith("/dev/") and SCRIPT_FILES.search(target):
        reader.add_opaque(place, node_text(redirect), file=target.rsplit("/", 1)[-1])
    elif target == "/dev/null" or operator.endswith("-") or name not in WRITERS or merged:
        reader.add_edited(place, "output", *redirect_span(redirect), edits, weak=not merged)


def _copy(reader: CodeReader, place: Place, statement: Node, copied: Node, redirect: Node) -> tuple[Edit, ...]:
    """What is `copied`, and then what it wrote to the file, as a group that ends as the command did; else nothing.

    Written for every shell. An `if` keeps `set -e` from ending the group.
    """
    descriptor, operator, plain = redirect_parts(redirect)
    target = redirect_target(redirect)
    descriptor_copied = operator == ">&" and descriptor and plain.startswith("$")  # a number by then: `2>&$fd`
    written = ">" in operator and not descriptor_copied and not re.fullmatch(r"\d+|-|.*/dev/(?!shm/).*", plain)
    if target is None or not written or place.lasting or statement.type != "redirected_statement":
        return ()
    file = reader.command[place.start + target.start_byte : place.start + target.end_byte].decode("utf-8", "replace")
    if not _COPIED.fullmatch(file) or target.type == "process_substitution":
        return ()
    dollar, number = place.dollar, redirect.start_byte
    seen_by = "/dev/stderr" if descriptor == "2" else "/dev/stdout"
    bytes_, status, to = (f"devnull_{name}{number}" for name in ("bytes", "status", "to"))
    before, show = "{ ", f"cat {file}"
    inner: tuple[Edit, ...] = ()
    if operator.endswith(">>"):
        before += f": >> {file}; {bytes_}={dollar}(wc -c < {file}); "
        show = f"tail -c +{dollar}(({bytes_} + 1)) {file}"
    if "$" in file:  # it may name /dev/null
        before += f"{to}={file}; if [ -c {file} ]; then {to}={seen_by}; fi; "
        show = f"if [ -f {file} ]; then {show}; fi"
        at = place.start + target.start_byte
        inner = (Edit(start=at, end=place.start + target.end_byte, new=f"{dollar}{to}"),)
    show += " >&2" if descriptor == "2" else ""
    after = f"; then {status}=0; else {status}={dollar}?; fi; {show}; (exit {dollar}{status}); }}"
    start, end = place.start + copied.start_byte, place.start + statement.end_byte
    return (Edit(start=start, end=end, new=before + "if ", after=after), *inner)


def _sink(redirect: Node) -> str:
    """What `> >(command)` does with it: shown, filtered, paged or dropped; nothing for any other target."""
    target = redirect_target(redirect)
    if target is None or target.type != "process_substitution" or not target.named_children:
        return ""
    last = target.named_children[-1]
    command = redirected_command(last)
    outside = [redirect_parts(each) for each in file_redirects(last)]
    if any(d in ("", "1") and t not in ("1", "2") and t not in VISIBLE_TARGETS for d, _, t in outside):
        return "dropped"
    name = command_name(command)
    if name in PAGERS:
        return "paged"
    return "filtered" if FILTERS.fullmatch(name) or command.type in COMPOUND else "shown"


def joins_stderr(redirects: Sequence[Node]) -> bool:
    """Stderr goes where stdout goes: `2>&1`, or `2>&3` after `3>&1`."""
    parts = [redirect_parts(each) for each in redirects]
    return any(d == "2" and "&" in operator and re.fullmatch(r"1|[3-9]", t) for d, operator, t in parts)


def _joins(stage: Node) -> bool:
    return stage.type == "|&" or (stage.type == "redirected_statement" and joins_stderr(file_redirects(stage)))


def written_files(statement: Node) -> list[str]:
    """Files that a statement's output goes to, by its redirections and as arguments of `tee`, `dd`, `install`."""
    parts = [redirect_parts(each) for each in file_redirects(statement)]
    files = [target for _, operator, target in parts if ">" in operator]
    return files + [unquoted(word).removeprefix("of=") for word in command_words(statement)[1:]]
