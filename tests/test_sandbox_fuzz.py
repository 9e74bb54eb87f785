"""What a box sends, twisted: the recorder and the session answer with a result or `BoxDied`, never with another error.

The frames are those of real commands, recorded here; the twisting is drawn from a seed.
"""

import random
import re
import re._parser as parser  # type: ignore[import-not-found]
import struct
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest

from devnull.sandbox import recording
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied
from devnull.sandbox.frames import PROTOCOL_VERSION
from devnull.sandbox.recording import stderr_fates
from devnull.sandbox.recording.recorder import Recorder
from devnull.sandbox.recording.search import Search, Steps
from devnull.sandbox.recording.stderr_fates import PIPE, TERMINAL, RawWrite, decide_fates
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.fake import FakeRuntime
from devnull.sandbox.session import BoxSession
from devnull.sandbox.snapshot import restore_script

Frames = list[tuple[bytes, bytes]]

COMMANDS = (
    "echo out; ls /none; nosuch; (exit 3); false | sh -c 'echo piped >&2' |& cat",
    "f() { return 4; }; f; x=3; for i in 1 2; do echo $i >&2; done 2>log; cat log",
    "perl -e 'if(!fork){select(undef,undef,undef,0.1); print STDERR \"daemon\\n\"}'; sleep 0.2",
    "b() { [ $1 -gt 4 ] || { b $(($1 + 1)) | b $(($1 + 1)) & }; }; b 1; sleep 0.2; echo é >&2",
    "PS4=$'\\036X\\302\\262:0:'; true; set -x; echo 'a\nb'; sh -c 'kill -9 $$'",
    "sh -c 'head -c 9000 /dev/zero | tr \"\\0\" e >&2'; head -c 9000 /dev/zero | tr '\\0' o; printf 'x\\377\\n' >&2",
)
NUMBERS = [
    b"\xc2\xb2:0:x",
    "٣:١:x".encode(),
    b"9" * 5000 + b":0:x",
    b"-1:0:x",
    b"0:-1:x",
    b":::",
    b"1:1:$'\\9\\",
    b'1:1:"\\',
]
EXTREMES = [b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\xff\xfe", b"/dev/fd/10: line \xc2\xb2: 1 A  ", b"\n", b""]


@pytest.fixture(scope="module")
def recorded() -> list[Frames]:
    """Of each command, the frames that a real box sent, its D frame last."""
    streams: list[Frames] = []
    with FakeRuntime().start(Limits(seconds=20, shown_bytes=4000, recorded_bytes=4000)) as session:
        received = session._box.channel.receive

        def receive(seconds: float) -> tuple[bytes, bytes] | None:
            got = received(seconds)
            if got is not None:
                streams[-1].append(got)
            return got

        session._box.channel.receive = receive  # type: ignore[method-assign]
        for command in COMMANDS:
            streams.append([])
            session.run(command)
    assert b"L" in {kind for frames in streams for kind, _ in frames}
    return streams


def twist(frames: Frames, rng: random.Random) -> Frames:
    """The frames with a few things done to them that no supervisor would do."""
    frames = list(frames)
    for _ in range(rng.randrange(1, 12)):
        i = rng.randrange(len(frames))
        kind, payload = frames[i]
        at = rng.randrange(len(payload) + 1)
        match rng.randrange(8):
            case 0:
                bit = bytes([payload[at % len(payload)] ^ 1 << rng.randrange(8)]) if payload else b""
                payload = payload[: at % max(1, len(payload))] + bit + payload[at % max(1, len(payload)) + 1 :]
            case 1:
                payload = payload[:at]
            case 2:
                payload = payload[:at] + rng.choice(EXTREMES) + payload[at + rng.randrange(9) :]
            case 3:
                kind, payload = b"T", payload[:12].ljust(12, b"\0") + rng.choice(NUMBERS)
            case 4:
                kind = bytes([rng.choice(b"BCELNOTWXDz")])
            case 5:
                frames.insert(rng.randrange(len(frames)), (kind, payload))
            case 6:
                j = rng.randrange(len(frames))
                frames[i], frames[j] = frames[j], frames[i]
                continue
            case _:
                payload = payload * rng.randrange(4)
        frames[i] = (kind, payload)
    return frames


def check(result: CommandResult) -> None:
    assert CommandResult.model_validate_json(result.model_dump_json()) == result
    assert sum(length for _, length in result.timing) == len(result.shown)
    assert all(length >= 0 for _, length in result.timing)
    assert all(write.argv for write in result.stderr) and all(process.argv for process in result.processes)
    assert result.terminal_text.startswith(result.shown[: result.cut_at])


@pytest.mark.parametrize("seed", range(6))
def test_a_twisted_record_is_a_result_or_no_box(recorded: list[Frames], seed: int) -> None:
    rng = random.Random(seed)
    results = 0
    for _ in range(300):
        recorder = Recorder()
        try:
            for _ in range(2):  # what is known of processes lasts
                stream = rng.choice(recorded)
                frames = twist(stream, rng) if rng.random() < 0.9 else stream
                for kind, payload in frames:
                    if kind != b"D":
                        recorder.add(kind, payload)
                check(recorder.result("c", rng.choice(frames)[1] if rng.random() < 0.1 else frames[-1][1]))
                results += 1
        except BoxDied:
            continue
    assert results > 100  # most twists are data


class Liar:
    """A box that sends what it was given, whatever it is asked."""

    def __init__(self, frames: Frames) -> None:
        self._frames = [(b"H", f"devnull-supervisor {PROTOCOL_VERSION} m".encode()), *frames][::-1]
        self.channel: Any = self

    def send(self, data: bytes) -> None:
        """Nobody listens."""

    def receive(self, seconds: float) -> tuple[bytes, bytes] | None:
        if not self._frames:
            raise EOFError
        return self._frames.pop()

    def changes(self) -> bytes:
        return b""

    def why_dead(self) -> str:
        return "it lied"

    def ended_by_agent(self) -> str | None:
        return None

    def close(self) -> None:
        """Nothing to end."""


def run(session: BoxSession) -> None:
    check(session.run("c"))


def restore(session: BoxSession) -> None:
    restore_script(session.snapshot())


@pytest.mark.parametrize(
    "ask", [run, restore, lambda session: session.read_file("/x"), lambda s: s.write_file("/x", b"")]
)
def test_a_session_with_a_liar(recorded: list[Frames], ask: Callable[[BoxSession], None]) -> None:
    rng = random.Random(7)
    answers = [
        (b".", b""),
        (b"!", b"\xff" * 4 + b"no\xff"),
        (b"!", b""),
        (b"F", b"\2\0\0\0\1\0\0\0\2pipe:[\xff]"),
        (b"A", b"?"),
    ]
    for _ in range(300):
        frames = twist([*rng.choice(recorded), *rng.choices(answers, k=4)], rng)
        session = BoxSession(lambda frames=frames: Liar(frames), Limits())  # type: ignore[misc]
        try:
            ask(session)
        except (BoxDied, OSError):  # OSError: of files, with what the supervisor met
            continue


def test_a_frame_cut_short_is_no_box() -> None:
    for kind in (b"O", b"W", b"T", b"C", b"X", b"E", b"B", b"N", b"L"):
        with pytest.raises(BoxDied, match="no supervisor sends"):
            Recorder().add(kind, b"\1\2\3")
    with pytest.raises(BoxDied):
        Recorder().result("c", b"")


# ---- what a megabyte may cost


def can_backtrack(pattern: str) -> bool:
    """Whether a repetition without a bound stands inside another, or right after one with nothing certain between."""

    def is_long(items: Any, inside: bool) -> bool:
        after_one = False
        for operation, argument in items:
            unbounded = operation in (parser.MAX_REPEAT, parser.MIN_REPEAT) and argument[1] == parser.MAXREPEAT
            if unbounded and (inside or after_one):
                return True
            if operation in (parser.MAX_REPEAT, parser.MIN_REPEAT):
                parts = [argument[2]]
                after_one = unbounded or (after_one and argument[0] == 0)
            else:
                parts = (
                    argument[1]
                    if operation is parser.BRANCH
                    else argument[-1:]
                    if operation is parser.SUBPATTERN
                    else []
                )
                after_one = False
            if any(is_long(part, inside or unbounded) for part in parts):
                return True
        return False

    return is_long(parser.parse(pattern), False)


def test_no_pattern_of_the_recording_can_backtrack_for_long() -> None:
    checked = 0
    for module in iter_modules(recording.__path__):
        for value in vars(import_module(f"{recording.__name__}.{module.name}")).values():
            if isinstance(value, re.Pattern):
                checked += 1
                assert not can_backtrack(value.pattern), value.pattern
    assert checked >= 4
    assert can_backtrack(r"(x|(a+b?)*)") and can_backtrack(r"a*b?.*c") and not can_backtrack(r"a*bc*")


def test_a_search_ends_when_its_steps_do() -> None:
    steps = Steps(1000)
    search = Search("a" * 300, steps)
    assert not any(search.finds(f"{i}") for i in range(10_000))
    assert steps.left > -1000
    assert not search.finds("a")  # not known any more


def test_steps_are_shared_by_all_the_places_that_stderr_went_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files and pipes, thousands of lines that the terminal never showed."""
    made: list[Steps] = []

    class Counted(Steps):
        def __init__(self, left: int) -> None:
            super().__init__(left)
            made.append(self)

    monkeypatch.setattr(stderr_fates, "Steps", Counted)
    shown = "\n".join("a" * 50 + "b" + "a" * 48 + str(i) for i in range(2000))
    writes = [RawWrite(0.0, 1, ("p",), PIPE, f"pipe:[{i}]", b"a" * 48 + b"c%d\n" % i) for i in range(2000)]
    writes += [RawWrite(0.0, 1, ("p",), TERMINAL, "", b"a" * 48 + b"d%d\n" % i) for i in range(2000)]
    assert {write.fate for write in decide_fates(writes, shown)} == {"suppressed"}
    (steps,) = made
    assert steps.left > -2 * len(shown)


def test_continuations_of_a_trace_line_are_found_at_once() -> None:
    """Two shells whose trace lines come in many pieces, by turns: each piece goes where it belongs."""
    recorder = Recorder()
    for i in range(5000):
        recorder.add(b"T", struct.pack("<QI", i, 9) + b"0:1:other")
    recorder.add(b"T", struct.pack("<QI", 0, 5) + b"0:1:echo ")
    for i in range(20_000):
        recorder.add(b"T", struct.pack("<QI", i, 9) + b"0:1:true")
        recorder.add(b"C", struct.pack("<QI", i, 5) + b"xy")
    result = recorder.result("c", struct.pack("<IBQQ", 0, 0, 0, 1))
    assert ("echo", "xy" * 20_000) in {process.argv for process in result.processes}


def test_long_arguments_are_not_repeated_by_every_write() -> None:
    recorder = Recorder()
    recorder.add(b"X", struct.pack("<QII", 0, 5, 1) + b"p\0p\0" + b"a" * 30_000 + b"\0")
    for i in range(2000):
        recorder.add(b"W", struct.pack("<QIBBQI", i, 5, 2, 1, 2, 9) + b"/dev/nullx\n")
    result = recorder.result("c", struct.pack("<IBQQ", 0, 0, 0, 1))
    assert len(result.model_dump_json()) < 3_000_000 and result.stderr[-1].argv == ("p",)
