"""The supervisor itself: its builds, its manners towards a host that talks nonsense, its memory safety."""

import os
import random
import select
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from devnull.sandbox.errors import BoxDied
from devnull.sandbox.frames import PROTOCOL_VERSION, FrameReader, encode_frame
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.rootless import ProcessBox, RootlessRuntime
from devnull.sandbox.session import BoxSession
from devnull.sandbox.supervisor import NATIVE, find_supervisor

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def sanitized() -> Path:
    subprocess.run(["make", "-s", "-C", str(NATIVE), "sanitize"], check=True)
    return NATIVE / "build"


def talk(argv: list[str], request: bytes) -> tuple[list[tuple[bytes, bytes]], int, str]:
    """All frames that a supervisor sends after `request`, its status, its stderr (where sanitizers complain)."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    reader, frames = FrameReader(), list[tuple[bytes, bytes]]()
    while not any(kind in b"H!" for kind, _ in frames):
        frames += reader.feed(os.read(process.stdout.fileno(), 1 << 16))
    try:
        process.stdin.write(request)
        process.stdin.close()
    except BrokenPipeError:
        pass
    while select.select([process.stdout], [], [], 60)[0] and (data := os.read(process.stdout.fileno(), 1 << 16)):
        frames += reader.feed(data)
    said = process.stderr.read().decode()
    process.stdout.close()
    process.stderr.close()
    return frames, process.wait(60), said


def serve(home: Path) -> list[str]:
    return [str(find_supervisor()), "serve", "--home", str(home)]


def test_greeting_says_the_protocol(tmp_path: Path) -> None:
    frames, status, _ = talk(serve(tmp_path), encode_frame(b"Q"))
    assert (b"H", f"devnull-supervisor {PROTOCOL_VERSION} {os.uname().machine}".encode()) in frames
    assert status == 0


def test_the_header_and_the_host_speak_one_protocol() -> None:
    assert f"#define PROTOCOL {PROTOCOL_VERSION}\n" in (NATIVE / "frames.h").read_text()


def test_nonsense_is_answered_not_obeyed(tmp_path: Path) -> None:
    for nonsense in (
        encode_frame(b"z"),
        encode_frame(b"R"),
        encode_frame(b"R", struct.pack("<IIII", 1, 1, 1, 999)),
        encode_frame(b"G"),
        encode_frame(b"P", b"x"),
    ):
        frames, status, _ = talk(serve(tmp_path), nonsense + encode_frame(b"Q"))
        assert any(kind == b"!" for kind, _ in frames) and status == 0


def test_a_frame_too_long_ends_it(tmp_path: Path) -> None:
    frames, status, _ = talk(serve(tmp_path), b"R\xff\xff\xff\xff")
    assert frames[-1][0] == b"!" and status == 2


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nprintf 'H\\024\\0\\0\\0devnull-supervisor 0'; sleep 1\n")
    old.chmod(0o755)
    with pytest.raises(BoxDied, match="rebuild the image"):
        BoxSession(lambda: ProcessBox([str(old)]), Limits())


def test_it_is_static_and_small() -> None:
    program = find_supervisor()
    assert program.stat().st_size < 2 << 20
    assert "not a dynamic executable" in subprocess.run(["ldd", program], capture_output=True, text=True).stderr


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs gcc-aarch64-linux-gnu")
def test_aarch64_compiles() -> None:
    subprocess.run(["make", "-s", "-C", str(NATIVE), "aarch64"], check=True)
    machine = (NATIVE / "build/supervisor-aarch64").read_bytes()[18:20]
    assert struct.unpack("<H", machine) == (183,)


def test_frame_parser_under_fuzz(sanitized: Path) -> None:
    for seed in ("1", "20240217"):
        done = subprocess.run([sanitized / "fuzz", "20000", seed], capture_output=True, text=True, check=True)
        assert done.stdout == "20000 rounds\n"


@pytest.mark.rootless
def test_requests_under_fuzz(sanitized: Path, rootless_runtime: RootlessRuntime) -> None:
    """Twisted requests of every kind, in a real box under the sanitizers: answered or refused, never a misstep."""
    rng = random.Random(5)
    path = b"/tmp/some/file"
    whole = [
        encode_frame(b"G", struct.pack("<I", 99) + path),
        encode_frame(b"P", struct.pack("<IBI", 0o644, 0, len(path)) + path + b"text"),
        encode_frame(
            b"U", struct.pack("<BIIIQII", ord("f"), 0o600, 0, 0, 1, 2, 5) + b"tmp/a" + struct.pack("<Q", 2) + b"hi"
        ),
        encode_frame(b"S", b"+/etc/hostname\0*/tmp\0-/none\0"),
        encode_frame(b"R", struct.pack("<IIII", 2000, 999, 999, 0) + b"echo x >&2; ls /none | cat"),
    ]
    for _ in range(40):
        stream = bytearray()
        for request in rng.choices(whole, k=6):
            twisted = bytearray(request)
            for _ in range(rng.randrange(4)):
                twisted[rng.randrange(5, len(twisted))] = rng.randrange(256)
            stream += twisted
        argv = [str(sanitized / "supervisor-sanitize"), "box", "--root", str(rootless_runtime._rootfs)]
        _, status, said = talk(argv, bytes(stream))
        assert "Sanitizer" not in said and "runtime error" not in said, said
        assert status in (0, 2, 3)


@pytest.mark.slow
def test_conformance_under_sanitizers(sanitized: Path) -> None:
    """The fake runtime's whole suite with a supervisor that ends at the first misstep."""
    environment = os.environ | {"DEVNULL_TEST_SUPERVISOR": str(sanitized / "supervisor-sanitize")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "fake"]
    done = subprocess.run(
        [*command, "tests/test_sandbox_conformance.py"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
