"""Where stderr ended: on the terminal, nowhere, or taken by a program that showed it."""

import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from devnull.sandbox.command import Fate, Write
from devnull.sandbox.recording.search import Search, Steps

TERMINAL, NOWHERE, CLOSED, FILE, PIPE, SOCKET, OTHER = range(7)
"""Where a descriptor led, as `native/descriptors.h` numbers it."""
_STEPS = 50_000_000
"""Characters compared at most to find one command's stderr in what the terminal showed."""
_CHANGED_BY_TERMINALS = re.compile(r"\\x[0-9a-f]{2}|[^!-~]+")
"""What a terminal with other settings may show otherwise (tabs, ends of lines), and halves of characters."""


@dataclass(frozen=True)
class RawWrite:
    """One W frame: a write to stderr, before its fate is known."""

    seconds: float
    pid: int
    argv: tuple[str, ...]
    kind: int
    """Where the descriptor led: `TERMINAL` to `OTHER`."""
    to: str
    """The same in words: a path, `pipe:[n]`."""
    text: bytes

    def by(self, argv: tuple[str, ...]) -> "RawWrite":
        """The same, with a shorter name for its writer."""
        return replace(self, argv=argv)


def decode_output(data: bytes) -> str:
    """Bytes of output as text, as results keep it: invalid UTF-8 appears as `\\xNN`."""
    return data.decode("utf-8", "backslashreplace")


def decide_fates(
    raw: list[RawWrite], shown: str, *, cut: bool = False, pending: AbstractSet[int] = frozenset()
) -> tuple[Write, ...]:
    """Every write with its fate, given all that the terminal showed.

    `/dev/null` and closed descriptors suppress. What went to the terminal is shown if the terminal delivered it: its
    lines are there (a terminal that is stopped, or that is another than it seems, delivers nothing); where output was
    `cut`, and of writes that were `pending` when the command ended, it is taken to have. What went to a file, a pipe,
    a socket or another terminal was relayed line by line if the terminal shows the line later than stderr itself wrote
    it there (each shown line serves one written line; inside a longer line, 8 characters are the least that count).
    A write of which only some lines came through comes apart.
    """
    if not raw:
        return ()
    steps = Steps(_STEPS)
    texts = _join_split_characters(raw)
    parts: dict[int, list[tuple[Fate, str]]] = {}
    if not cut:
        direct = {i: texts[i] for i, write in enumerate(raw) if write.kind == TERMINAL and i not in pending}
        parts |= _decide_direct(direct, shown, steps)
    streams: dict[str, list[int]] = {}
    for i, write in enumerate(raw):
        if write.kind not in (TERMINAL, NOWHERE, CLOSED):
            streams.setdefault(write.to, []).append(i)
    if streams:
        reached = [
            "".join(text for fate, text in parts.get(i, [("shown", texts[i])]) if fate == "shown")
            for i, write in enumerate(raw)
            if write.kind == TERMINAL
        ]
        parts |= _decide_streams(list(streams.values()), texts, shown, "".join(reached), steps)
    out: list[Write] = []
    for i, write in enumerate(raw):
        fate: Fate = "shown" if write.kind == TERMINAL else "suppressed"
        for part, text in parts.get(i, [(fate, texts[i])]):
            to = "closed" if write.kind == CLOSED else "terminal" if write.kind == TERMINAL else write.to
            out.append(
                Write.model_construct(
                    seconds=write.seconds, pid=write.pid, argv=write.argv, to=to, fate=part, text=text
                )
            )
    return tuple(out)


def _join_split_characters(raw: list[RawWrite]) -> list[str]:
    """Decodes each write; a character that one write began and the next one ended belongs to the next."""
    texts, rest = [], dict[tuple[int, str], bytes]()
    for i, write in enumerate(raw):
        key = (write.pid, write.to)
        data = rest.pop(key, b"") + write.text
        cut = next((k for k in range(1, min(4, len(data) + 1)) if data[-k] >= 0xC0), 0)
        incomplete = cut and cut < (2 if data[-cut] < 0xE0 else 3 if data[-cut] < 0xF0 else 4)
        if incomplete and any((later.pid, later.to) == key for later in raw[i + 1 : i + 64]):
            rest[key], data = data[-cut:], data[:-cut]
        texts.append(decode_output(data))
    return texts


def _decide_direct(texts: dict[int, str], shown: str, steps: Steps) -> dict[int, list[tuple[Fate, str]]]:
    """Of writes to the terminal, those that it did not deliver, or not all of it."""
    exactly, lines, loosely = Search(shown, steps), set[str](), None
    parts: dict[int, list[tuple[Fate, str]]] = {}

    def delivered(text: str) -> bool:
        nonlocal loosely
        if not text.strip() or exactly.finds(text):
            return True
        if loosely is None:
            loosely = Search(_what_stays(shown), steps)
            lines.update(map(_what_stays, shown.split("\n")))
        kept = _what_stays(text)
        return not kept or kept in lines or loosely.finds(kept)

    for i, text in texts.items():
        if not delivered(text):
            written = text.splitlines(keepends=True)
            fates: list[Fate] = ["shown" if len(written) > 1 and delivered(line) else "suppressed" for line in written]
            parts[i] = _merge(zip(fates, written, strict=True))
    return parts


def _what_stays(text: str) -> str:
    """The characters of a text that every terminal shows as they are."""
    return _CHANGED_BY_TERMINALS.sub("", text).lower()


def _decide_streams(
    streams: list[list[int]], texts: list[str], shown: str, direct: str, steps: Steps
) -> dict[int, list[tuple[Fate, str]]]:
    """Fates of the writes to files and pipes; each of the streams is the positions of the writes to one of them.

    `direct`: what stderr itself wrote to the terminal.
    """
    lines = Counter(line.rstrip("\r") for line in shown.split("\n"))
    lines -= Counter(line.rstrip("\r") for line in direct.split("\n"))
    judged: list[tuple[list[str], list[Fate | None]]] = []
    for indices in streams:
        written = "".join(texts[i] for i in indices).splitlines(keepends=True)
        fates: list[Fate | None] = []
        for line in written:
            key = line.rstrip("\r\n")
            if not key.strip():
                fates.append(None)
            elif lines[key] > 0:
                lines[key] -= 1
                fates.append("relayed")
            else:
                fates.append("suppressed")
        judged.append((written, fates))
    rest, known = Search("\n".join(line for line, n in lines.items() if n > 0), steps), dict[str, bool]()
    parts: dict[int, list[tuple[Fate, str]]] = {}
    for indices, (written, fates) in zip(streams, judged, strict=True):
        pieces: list[tuple[Fate, int]] = []
        last: Fate = "suppressed"
        for i, (line, fate) in enumerate(zip(written, fates, strict=True)):
            bare = line.strip()
            if fate == "suppressed" and len(bare) >= 8:
                if bare not in known:
                    known[bare] = rest.finds(bare)
                fates[i] = "relayed" if known[bare] else fate
        last = next((fate for fate in fates if fate), last)
        for line, fate in zip(written, fates, strict=True):
            last = fate or last  # a blank line shares the fate of the line before it
            pieces.append((last, len(line)))
        parts |= _split_writes(indices, texts, pieces)
    return parts


def _split_writes(
    indices: list[int], texts: list[str], pieces: list[tuple[Fate, int]]
) -> dict[int, list[tuple[Fate, str]]]:
    """Lays pieces of a stream back over the writes that made it up."""
    out: dict[int, list[tuple[Fate, str]]] = {}
    queue = iter(pieces)
    fate, left = next(queue, ("suppressed", 0))
    for i in indices:
        text, at, parts = texts[i], 0, list[tuple[Fate, str]]()
        while at < len(text):
            if not left:
                fate, left = next(queue)
                continue
            take = text[at : at + left]
            at += len(take)
            left -= len(take)
            parts.append((fate, take))
        if parts:
            out[i] = _merge(parts)
    return out


def _merge(parts: Iterable[tuple[Fate, str]]) -> list[tuple[Fate, str]]:
    """Neighbours of one fate become one."""
    groups = groupby(parts, key=itemgetter(0))
    return [(fate, "".join(text for _, text in group)) for fate, group in groups]
