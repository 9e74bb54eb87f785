"""Boxes that are made only for what no box has said yet: the rest is answered from memory.

A box says the same each time, as long as nothing in it reads the clock, chance or the host (`repeating.py`). So what
two boxes have said to the same commands is told to a third without making it. The first command that nobody has
tried yet makes one; the commands so far are run in it, and have to give what was told.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from devnull.sandbox.cache import digest_files
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied, ImageMissing, InfrastructureError, RuntimeUnavailable, WorldDiffers
from devnull.sandbox.frames import PROTOCOL_VERSION
from devnull.sandbox.image.manifest import NO_MANIFEST, Manifest
from devnull.sandbox.image.recipe import image_tag
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.runtime import Limits, Runtime, Session, Snapshot
from devnull.sandbox.runtimes.repeating import difference, why_not_remembered
from devnull.sandbox.runtimes.world_memory import World, WorldMemory
from devnull.sandbox.task import Task

_READERS = (
    *("session.py", "command.py", "outcome.py", "screen_text.py", "terminal_*.py", "patterns.py"),
    *("recording/*.py", "verification/*.py", "runtimes/repeating.py"),
)
"""The code that makes results and outcomes of what a supervisor says, and that says what of them may be remembered."""


class _Told(NamedTuple):
    """One command, and what was told of it from memory."""

    key: str
    timeout: float | None
    result: CommandResult


class RememberedRuntime:
    """Another runtime's boxes, remembered. Thread-safe."""

    def __init__(self, boxes: Runtime | InfrastructureError, memory: WorldMemory, manifest: Manifest = NO_MANIFEST):
        """`boxes`: what makes a box for what is not remembered, or why none can be made here; `manifest`: of these.

        Raises the error if the memory knows no world of this image either.
        """
        self.memory, self.manifest, self._boxes = memory, manifest, boxes
        if isinstance(boxes, InfrastructureError):
            self._world, kind = _known_world(memory, boxes)
        else:
            kind = boxes.name
            self._world = _digest(_world(kind, manifest).model_dump())
        self.name = f"remembered({kind})"
        self._kind = kind

    def start(self, limits: Limits = Limits()) -> "RememberedSession":
        """What stands for a fresh box until one has to be made."""
        return RememberedSession(self, limits, _digest({"world": self._world, "limits": limits.model_dump()}))

    def make_box(self, limits: Limits, missing: str) -> Session:
        """A real box. Raises `RuntimeUnavailable` where none can be made, with what is `missing` in the memory."""
        try:
            if isinstance(self._boxes, InfrastructureError):
                raise self._boxes
            box = self._boxes.start(limits)
        except (RuntimeUnavailable, ImageMissing) as error:
            raise RuntimeUnavailable(
                f"{self.memory} does not remember {missing}, and no box can be made: {error}"
            ) from None
        self.memory.add_world(self._world, _world(self._kind, self.manifest))
        return box


class RememberedSession:
    """A session that begins without a box. Not shared between threads, but for `close`."""

    def __init__(self, runtime: RememberedRuntime, limits: Limits, key: str) -> None:
        self.start_seconds = 0.0
        self.manifest = runtime.manifest
        self._runtime, self._limits, self._memory = runtime, limits, runtime.memory
        self._key: str | None = key
        """Of all that happened so far; `None`: what comes now is not to be remembered."""
        self._told: list[_Told] = []
        self._box: Session | None = None
        self._closed = False
        self._lock = Lock()

    def run(self, command: str, *, timeout: float | None = None, stdin: bytes = b"") -> CommandResult:
        """The command's result from memory, or from a box.

        Raises as `BoxSession.run` does; and `WorldDiffers` if a box, made now, does not give what was told so far.
        """
        key = None if self._key is None or stdin else _digest([self._key, command, timeout])
        if key is not None and self._box is None:
            known = self._memory.recall(key)
            if isinstance(known, CommandResult):
                self._told.append(_Told(key, timeout, known))
                self._key = key
                return known
        self._key = None  # until it has ended well
        box = self._real_box(command)
        result = box.run(command, timeout=timeout, stdin=stdin)
        if key is not None and why_not_remembered(result, self._limits) is None:
            self._key = None if self._memory.observe(key, result) else key
        return result

    def outcome(self, task: Task, verify: Callable[[Session], Outcome]) -> Outcome:
        """How the task ended, from memory; or as `verify` finds in a box. What was tampered with is not remembered."""
        key = None if self._key is None else _digest([self._key, "outcome", _definition(task)])
        if key is not None and self._box is None:
            known = self._memory.recall(key)
            if isinstance(known, Outcome):
                return known
        self._key = None
        outcome = verify(self._real_box("verification"))
        if key is not None and not outcome.tampered:
            self._memory.observe(key, outcome)
        return outcome

    def verify(self, script: str, *, timeout: float | None = None) -> CommandResult:
        """As `Session.verify`, in a real box; nothing is remembered from here on."""
        return self._unremembered_box("verification").verify(script, timeout=timeout)

    def read_file(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """As `Session.read_file`, of a real box."""
        return self._real_box(f"the file {path}").read_file(path, limit)

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """As `Session.write_file`, in a real box; nothing is remembered from here on."""
        self._unremembered_box(f"the file {path}").write_file(path, data, mode)

    def snapshot(self) -> Snapshot:
        """As `Session.snapshot`, of a real box; nothing is remembered from here on."""
        return self._unremembered_box("a snapshot").snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """As `Session.restore`, in a real box; nothing is remembered from here on."""
        self._unremembered_box("a snapshot").restore(snapshot)

    def close(self) -> None:
        """Ends the box, if there is one. Safe to call twice, and from another thread."""
        with self._lock:
            self._closed, box = True, self._box
        if box is not None:
            box.close()

    def _unremembered_box(self, wanted: str) -> Session:
        self._key = None
        return self._real_box(wanted)

    def _real_box(self, wanted: str) -> Session:
        """The box, made first if need be; then the commands that were told of are run in it."""
        if self._closed:
            raise BoxDied("the session is closed")
        if self._box is None:
            box = self._runtime.make_box(self._limits, self._describe(wanted))
            with self._lock:
                self._box, closed = box, self._closed
            if closed:
                box.close()
                raise BoxDied("the session is closed")
            self.start_seconds = box.start_seconds
            try:
                for told in self._told:
                    self._check(box, told)
            except BaseException:
                self.close()  # nobody goes on in a box that is not as it was told of
                raise
        return self._box

    def _check(self, box: Session, told: _Told) -> None:
        """Runs a command that was told of. Raises `WorldDiffers` where it gives something else now."""
        command = told.result.command
        try:
            now = box.run(command, timeout=told.timeout)
        except BoxDied as death:  # no end of the command that is wanted now
            if death.by_agent is None:
                raise InfrastructureError(str(death)) from None
            why: str | None = str(death)
        else:
            why = difference(told.result, now)
        if why is not None:
            self._memory.forget(told.key, why)
            raise WorldDiffers(
                f"{command[:200]!r} gave something else than {self._memory} remembers ({why}): it is forgotten, "
                "and the episode is played anew"
            )

    def _describe(self, wanted: str) -> str:
        """What is missing, for a message: `'B' after 'A'`."""
        before = " and ".join(repr(told.result.command[:200]) for told in self._told)
        return f"{wanted[:200]!r}" + (f" after {before}" if before else "")


def _world(kind: str, manifest: Manifest) -> World:
    digest = hashlib.sha256(manifest.to_json().encode()).hexdigest()
    return World(image=image_tag(), manifest=digest, boxes=kind, protocol=PROTOCOL_VERSION, code=_code_digest())


def _known_world(memory: WorldMemory, why: InfrastructureError) -> tuple[str, str]:
    """Key and boxes of the first world of the memory that is of this image and this code; else raises why no box can be
    made."""
    here = _world("", NO_MANIFEST)
    for key, world in memory.worlds().items():
        if (world.image, world.protocol, world.code) == (here.image, here.protocol, here.code):
            return key, world.boxes
    raise type(why)(f"{memory} remembers nothing of the image {here.image}, and no box can be made: {why}")


@cache
def _code_digest() -> str:
    room = Path(__file__).parent.parent
    return digest_files({str(p.relative_to(room)): p for pattern in _READERS for p in sorted(room.glob(pattern))})


def _definition(task: Task) -> object:
    """What an outcome depends on: not its worth, nor the words in which it was asked for."""
    return task.model_dump(
        include={"name", "stages", "fault"}, exclude={"stages": {"__all__": {"rewards"}}, "fault": {"p"}}
    )


def _digest(value: object) -> str:
    """24 hex digits of a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]
