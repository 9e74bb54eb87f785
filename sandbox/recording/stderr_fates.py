"""Where stderr ended: on the terminal, nowhere, or taken by a program that showed it."""

from collections import Counter
from dataclasses import dataclass

from devnull.sandbox.command import Fate, Write

TERMINAL, NOWHERE, CLOSED, FILE, PIPE, SOCKET, OTHER = range(7)
"""Where a descriptor led, as `native/descriptors.h` numbers it."""
_SEARCH_LIMIT = 200_000_000
"""Characters compared at most when lines are looked for inside longer ones."""


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


def decode_output(data: bytes) -> str:
    """Bytes of output as text, as results keep it: invalid UTF-8 appears as `\\xNN`."""
    return data.decode("utf-8", "backslashreplace")


def decide_fates(raw: list[RawWrite], shown: str) -> tuple[Write, ...]:
    """Every write with its fate, given all that the terminal showed.

    `/dev/null` and closed descriptors suppress. What went to a file, a pipe, a socket or another terminal was relayed
    line by line if the terminal shows the line later than stderr itself wrote it there (each shown line serves one
    written line; inside a longer line, 8 characters are the least that count). A write of which only some lines were
    relayed comes apart.
    """
    if not raw:
        return ()
    texts = _join_split_characters(raw)
    lines = Counter(line.rstrip("\r") for line in shown.split("\n"))
    direct = "".join(text for write, text in zip(raw, texts, strict=True) if write.kind == TERMINAL)
    lines -= Counter(line.rstrip("\r") for line in direct.split("\n"))
    streams: dict[str, list[int]] = {}
    for i, write in enumerate(raw):
        if write.kind not in (TERMINAL, NOWHERE, CLOSED):
            streams.setdefault(write.to, []).append(i)
    parts: dict[int, list[tuple[Fate, str]]] = {}
    for indices in streams.values():
        parts |= _decide_stream(indices, texts, lines)
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


def _decide_stream(indices: list[int], texts: list[str], lines: Counter[str]) -> dict[int, list[tuple[Fate, str]]]:
    """Fates of the writes to one file or pipe; takes from `lines` what it finds there."""
    stream = "".join(texts[i] for i in indices)
    written = stream.splitlines(keepends=True)
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
    missing = {
        w.strip() for w, fate in zip(written, fates, strict=True) if fate == "suppressed" and len(w.strip()) >= 8
    }
    rest = "\n".join(line for line, n in lines.items() if n > 0)
    if missing and len(rest) * len(missing) <= _SEARCH_LIMIT:
        relayed = {line for line in missing if line in rest}
        fates = ["relayed" if w.strip() in relayed else fate for w, fate in zip(written, fates, strict=True)]
    pieces: list[tuple[Fate, int]] = []
    last: Fate = next((fate for fate in fates if fate), "suppressed")
    for line, fate in zip(written, fates, strict=True):
        last = fate or last  # a blank line shares the fate of the line before it
        pieces.append((last, len(line)))
    return _split_writes(indices, texts, pieces)


def _split_writes(
    indices: list[int], texts: list[str], pieces: list[tuple[Fate, int]]
) -> dict[int, list[tuple[Fate, str]]]:
    """Lays pieces of a stream back over the writes that made it up."""
    out: dict[int, list[tuple[Fate, str]]] = {}
    queue = iter(pieces)
    fate, left = next(queue, ("suppressed", 0))
    for i in indices:
        text, parts = texts[i], list[tuple[Fate, str]]()
        while text:
            if not left:
                fate, left = next(queue)
                continue
            take, text = text[:left], text[left:]
            left -= len(take)
            if parts and parts[-1][0] == fate:
                parts[-1] = (fate, parts[-1][1] + take)
            else:
                parts.append((fate, take))
        if parts:
            out[i] = parts
    return out
