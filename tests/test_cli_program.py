"""The command as a program: pipes whose reader leaves, terminals that lack a character, Ctrl-C, full disks."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from devnull.cli.terminal.full_disk import find_full_disk
from devnull.sandbox.atomic_file import replace_when_whole, write_atomically
from devnull.sandbox.runtimes.rootless import RootlessRuntime

ROOT = Path(__file__).parents[1]
STOPPED = "devnull: stopped; run the same command again"


def run_program(program: str, **options: object) -> subprocess.Popen[bytes]:
    """Runs Python code under `run_as_program` in a process of its own: `main()` is the code's."""
    head = "import sys\nfrom devnull.cli.terminal.streams import run_as_program"
    wrapped = f"{head}\n{program}\nsys.exit(run_as_program(main))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    # a job in the background is born deaf to Ctrl-C
    hearing = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen([sys.executable, "-c", wrapped], cwd=ROOT, preexec_fn=hearing, **pipes)  # type: ignore[call-overload,no-any-return]


def left_pipe() -> int:
    """The writing end of a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize(
    "body",
    [
        "print('x' * 100_000)",
        "print('short')",  # seen only when the buffer is flushed
        "from rich.console import Console; Console().print('x')",
    ],
)
def test_a_reader_of_stdout_that_leaves_ends_it_quietly(body: str) -> None:
    writer = left_pipe()
    child = run_program(f"def main():\n    {body}\n    return 0", stdout=writer)
    os.close(writer)
    assert child.communicate(timeout=60)[1] == b""
    assert child.returncode == 141


def test_without_a_reader_of_stderr_the_work_goes_on() -> None:
    writer = left_pipe()
    program = """
from devnull.cli.terminal.console import print_error
from devnull.cli.terminal.progress import print_progress
def main():
    print_progress("one of two")
    print_error("two of two")
    print("done")
    return 3
"""
    child = run_program(program, stderr=writer)
    os.close(writer)
    assert child.communicate(timeout=60)[0] == b"done\n"
    assert child.returncode == 3


def test_another_broken_pipe_is_an_error() -> None:
    program = "import os\ndef main():\n    r, w = os.pipe(); os.close(r); os.write(w, b'x')"
    child = run_program(program)
    assert b"BrokenPipeError" in child.communicate(timeout=60)[1]
    assert child.returncode == 1


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"-1.20, 5..., E \u65e5 = 3"), ("latin-1", r"-1.20, 5..., E \u65e5 = 3")]
)
def test_a_terminal_that_lacks_a_character_gets_a_plain_one(encoding: str, shown: str) -> None:
    program = "def main():\n    print('−1.20, 5…, Ē 日 = 3')\n    return 0"
    child = run_program(program, env=os.environ | {"PYTHONIOENCODING": encoding})
    out, err = child.communicate(timeout=60)
    assert (out.decode(encoding).strip(), err, child.returncode) == (shown, b"", 0)


INTERRUPTED = {
    "while modules are loaded": "def main():\n    print('here', flush=True); time.sleep(60)",
    "in a finaliser, which would swallow it": """
class Slow:
    def __del__(self):
        print("here", flush=True); time.sleep(3)
def main():
    Slow()
    time.sleep(60)
""",
    "in a callback of a foreign function": """
import ctypes
def slow():
    print("here", flush=True); time.sleep(3)
def main():
    ctypes.CFUNCTYPE(None)(slow)()
    time.sleep(60)
""",
}


@pytest.mark.parametrize("program", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_is_one_line_wherever_it_comes(program: str) -> None:
    child = run_program(f"import time\n{program}")
    assert child.stdout is not None and child.stdout.readline() == b"here\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[1].decode().splitlines() == [STOPPED]
    assert child.returncode == 130


@pytest.mark.rootless
def test_a_box_that_dies_between_turns_is_no_end_of_devnull(rootless_runtime: RootlessRuntime) -> None:
    """The pipe to it breaks: an infrastructure error of that episode, and not the SIGPIPE of the whole run."""
    program = """
import os, signal
from devnull.sandbox.errors import BoxDied
from devnull.sandbox.runtimes.by_name import open_runtime
def main():
    with open_runtime("rootless").start() as session:
        os.kill(session._box._process.pid, signal.SIGKILL)
        session._box._process.wait()
        try:
            session.run("true")
        except BoxDied as error:
            print(error)
            return 0
"""
    child = run_program(program)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, err) == (0, b"") and b"was killed" in out


@dataclass
class WrittenTo:
    out: Path


def test_a_full_disk_is_named_by_the_file_or_the_fullest_disk(tmp_path: Path) -> None:
    named = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x"))
    assert find_full_disk(named, None) == str(tmp_path / "x")
    try:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as inner:
            raise RuntimeError("the writer failed") from inner
    except RuntimeError as outer:
        assert find_full_disk(outer, WrittenTo(tmp_path / "none" / "yet")) is not None
    torn = RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)")
    full = Path("/sys")  # no byte is ever free there
    assert find_full_disk(torn, WrittenTo(full / "none")) == full
    assert find_full_disk(RuntimeError("something else"), WrittenTo(full)) is None


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    write_atomically(file, "old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(OSError) as failure:
            write_atomically(file, "n" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert failure.value.filename == str(file)
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.json"] and file.read_text() == "old"
    link = tmp_path / "link"
    link.symlink_to(file)
    write_atomically(link, "new")
    assert link.is_symlink() and file.read_text() == "new"
    write_atomically(tmp_path / "not" / "there" / "report.html", "its folder is made")
    assert (tmp_path / "not" / "there" / "report.html").exists()


def test_what_is_no_regular_file_is_written_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with replace_when_whole(pipe) as part:
        part.write_bytes(b"cast")
    reader.join(60)
    assert read == [b"cast"] and pipe.is_fifo()
