"""The memory of a remembered world: a file of JSON lines that several threads and processes read and write at once.

What a box said first is kept, and not told to anybody before a second box has said it too. What a later one says
otherwise is forgotten for good. A line that a kill tore is cut off by whoever writes next.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import InputError
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.runtimes.repeating import difference

WORLD_FILE = "world.jsonl"
"""The memory's usual name, in a run folder."""


_KEY = re.compile(rb'\{"key":"[^"\\]*')
"""How a line begins."""


class World(Frozen):
    """What every box of a world has in common, but for its limits: results are of one world only."""

    image: str
    """Name of the image, with the digest of its recipe."""
    manifest: str
    """Digest of what was found in the image: two builds of one recipe may differ."""
    boxes: str
    """`Runtime.name` of what makes them."""
    protocol: int
    """Of the supervisor."""
    code: str
    """Digest of the code that makes results and outcomes of what a supervisor says."""


class _Line(Frozen):
    """A line of the file: one thing that was seen, or the world that things were seen in."""

    key: str
    """Digest of all that it follows from."""
    seen: Literal["world", "first", "again", "otherwise"]
    world: World | None = None
    result: CommandResult | None = None
    outcome: Outcome | None = None
    why: str = ""
    """In what it differed."""


class WorldMemory:
    """Results and outcomes by what they follow from. Thread-safe, and safe for several processes with one file."""

    def __init__(self, path: Path | None) -> None:
        """`path`: its file, made when there is something to write; `None`: it ends with this object.

        Raises `InputError` for a file that is no memory, or not whole; it is left as it is.
        """
        self.path = path
        self._lock = Lock()
        self._offset = self._lines = 0
        self._worlds: dict[str, World] = {}
        self._said: dict[str, CommandResult | Outcome] = {}
        self._sure: set[str] = set()
        self._differs: set[str] = set()
        with self._lock:
            self._read()

    def __str__(self) -> str:
        return "this process's memory" if self.path is None else str(self.path)

    def recall(self, key: str) -> "CommandResult | Outcome | None":
        """What two boxes said; `None` where none did, fewer than two, or one something else."""
        with self._lock:
            self._read()
            return self._said[key] if key in self._sure and key not in self._differs else None

    def observe(self, key: str, value: "CommandResult | Outcome") -> str | None:
        """Keeps what a box said: the first to say it, or one that confirms it.

        Returns in what it differs from what another said, which is then forgotten; `None`: in nothing.
        """
        with self._lock, self._written_alone():
            if key in self._differs:
                return "it is known to differ"
            known = self._said.get(key)
            if known is None:
                given = {"result": value} if isinstance(value, CommandResult) else {"outcome": value}
                self._append(_Line.model_validate({"key": key, "seen": "first", **given}))
            elif why := _difference(known, value):
                self._append(_Line(key=key, seen="otherwise", why=why))
                return why
            elif key not in self._sure:
                self._append(_Line(key=key, seen="again"))
            return None

    def forget(self, key: str, why: str) -> None:
        """Tells it to nobody any more, whatever other boxes say."""
        with self._lock, self._written_alone():
            if key not in self._differs:
                self._append(_Line(key=key, seen="otherwise", why=why))

    def worlds(self) -> dict[str, World]:
        """Those that something is remembered of, by their key, the first first."""
        with self._lock:
            self._read()
            return dict(self._worlds)

    def add_world(self, key: str, world: World) -> None:
        """Writes down that what follows is of this world."""
        with self._lock, self._written_alone():
            if key not in self._worlds:
                self._append(_Line(key=key, seen="world", world=world))

    def check_writable(self) -> None:
        """Raises `InputError` where nothing could be written. Makes the file if it is not there."""
        with self._lock, self._written_alone():
            pass

    @contextmanager
    def _written_alone(self) -> Iterator[None]:
        """While the block runs, no other process writes; what they have written is read, what one left torn cut off."""
        if self.path is None:
            yield
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}; name another file: --memory FILE") from None
        with self._file as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._read(alone=True)
            if os.fstat(file.fileno()).st_size > self._offset:
                os.ftruncate(file.fileno(), self._offset)
            yield

    def _append(self, line: _Line) -> None:
        """Within `_written_alone`: one line, whole or not at all. Raises `OSError` with the file's name."""
        if self.path is not None:
            data = memoryview(line.model_dump_json(exclude_defaults=True).encode() + b"\n")
            end = self._offset + len(data)
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError as error:  # what was written of it is torn, and whoever writes next cuts it off
                error.filename = str(self.path)
                raise
            self._offset, self._lines = end, self._lines + 1
        self._take(line)

    def _read(self, *, alone: bool = False) -> None:
        """Takes in what was written since; not a last line that has no end yet. `alone`: nobody writes meanwhile."""
        if self.path is None or not self.path.exists() or self.path.stat().st_size <= self._offset:
            return
        with self.path.open("rb") as file:
            if not alone:
                fcntl.flock(file, fcntl.LOCK_SH)
            file.seek(self._offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    if not _looks_torn(raw, first=self._lines == 0):
                        raise self._foreign_line()
                    return
                try:
                    line = _Line.model_validate_json(raw)
                    if self._lines == 0 and line.world is None:
                        raise ValueError
                except ValueError:
                    raise self._foreign_line() from None
                self._take(line)
                self._offset, self._lines = self._offset + len(raw), self._lines + 1

    def _foreign_line(self) -> InputError:
        return InputError(
            f"{self.path}:{self._lines + 1}: not a line of a world's memory; move the file away, or name another: "
            "--memory FILE"
        )

    def _take(self, line: _Line) -> None:
        match line.seen:
            case "world":
                if line.world is not None:
                    self._worlds[line.key] = line.world
            case "first":
                if (value := line.result or line.outcome) is not None:
                    self._said[line.key] = value
            case "again":
                self._sure.add(line.key)
            case "otherwise":
                self._differs.add(line.key)


def _looks_torn(raw: bytes, *, first: bool) -> bool:
    """Whether a line without its end is the beginning of one that this module writes; `first`: of the file's first."""
    key = _KEY.match(raw)
    if key is None:
        return b'{"key":"'.startswith(raw)
    rest, begin = raw[key.end() :], b'","seen":"' + (b"world" if first else b"")
    return rest.startswith(begin) or begin.startswith(rest)


def _difference(one: "CommandResult | Outcome", other: "CommandResult | Outcome") -> str | None:
    if isinstance(one, CommandResult) and isinstance(other, CommandResult):
        return difference(one, other)
    return None if one == other else "outcome"
