"""`devnull exec` and `devnull bench`, as a person and as a program use them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devnull.cli.commands.exec import escape_unprintable, format_unseen
from devnull.sandbox.command import CommandResult, Process, Write

ROOT = Path(__file__).parent.parent


def devnull(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "devnull", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.rootless
@pytest.mark.usefixtures("rootless_runtime")
def test_exec_for_programs() -> None:
    done = devnull(
        "exec", "--task", "driver-cuda-runfile", "--runtime", "rootless", "--seed", "3", "--json", "--",
        "cd /tmp; sh /srv/cuda/cuda_12.4_linux.run --silent 2>/dev/null", "false",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said) == {"runtime", "start_seconds", "commands", "outcome", "tampered"}
    assert said["runtime"] == "rootless" and said["outcome"] == {"driver": "not_attempted", "cuda": "broken"}
    first, second = said["commands"]
    assert set(first) == {
        "command", "shown", "exit_code", "timed_out", "cut_bytes", "unrecorded_bytes", "seconds", "cwd", "stderr",
        "suppressed", "processes",
    }  # fmt: skip
    assert (first["shown"], first["exit_code"], first["cwd"], first["timed_out"]) == ("", 1, "/tmp", False)
    assert first["stderr"] == first["suppressed"] == "ERROR: CUDA 12.4 was not installed: no NVIDIA driver found\n"
    assert {"argv": ["sh", "/srv/cuda/cuda_12.4_linux.run", "--silent"], "exit_code": 1} in first["processes"]
    assert second["processes"] == [{"argv": ["false"], "exit_code": 1}]


@pytest.mark.rootless
@pytest.mark.usefixtures("rootless_runtime")
def test_exec_for_people() -> None:
    task = ("exec", "--task", "driver-cuda-runfile", "--runtime", "rootless", "--seed", "3", "--")
    done = devnull(*task, "sh /srv/cuda/cuda_12.4_linux.run --silent 2>/dev/null; printf 'a\\033[31mb\\n'")
    assert done.returncode == 0, done.stderr
    assert "\nab\n" in done.stdout and "\x1b[31m" not in done.stdout
    assert "no NVIDIA driver found" in done.stdout and "cuda: broken" in done.stdout
    assert done.stdout.index("$ sh /srv") < done.stdout.index("kept off the terminal (/dev/null)")


def test_exec_says_what_it_wants() -> None:
    wrong = devnull("exec", "--task", "driver-cuda-runfil", "--", "true")
    assert wrong.returncode == 2 and "did you mean 'driver-cuda-runfile'" in wrong.stderr
    empty = devnull("exec", "--task", "driver-cuda-runfile")
    assert empty.returncode == 2 and "no command" in empty.stderr


def test_bench_says_what_there_is() -> None:
    wrong = devnull("bench", "sandbx")
    assert wrong.returncode == 2 and "did you mean 'sandbox'" in wrong.stderr


def test_the_statistics_are_simulated_by_a_command() -> None:
    done = devnull("bench", "statistics", "--", "--repeats", "5")
    assert done.returncode == 0, done.stderr
    assert "Means of what is rare and large" in done.stdout and "| lognormal |" in done.stdout


def test_what_was_hidden_in_words() -> None:
    result = CommandResult(
        command="x", shown="", exit_code=None, timed_out=True, cut_bytes=7, seconds=1.5, cwd="/r",
        stderr=(Write(seconds=0, pid=1, argv=("p",), to="/dev/null", fate="suppressed", text="oh\x1b no\n"),),
        processes=(Process(pid=1, argv=("p", "q"), exit_code=None), Process(pid=2, argv=("fine",), exit_code=0)),
    )  # fmt: skip
    assert format_unseen(result) == [
        "timed out, 1.500 s, in /r", "p q → ?", "7 bytes beyond the limits",
        "kept off the terminal (/dev/null):", "  oh\\x1b no",
    ]  # fmt: skip


@pytest.mark.rootless
@pytest.mark.usefixtures("rootless_runtime")
def test_exec_refuses_a_time_limit_that_is_none() -> None:
    for wrong in ("0", "-1", "nan", "inf"):
        done = devnull(
            "exec", "--task", "driver-cuda-runfile", "--runtime", "rootless", f"--timeout={wrong}", "--", "true"
        )
        assert done.returncode == 2 and "time limit" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.rootless
@pytest.mark.usefixtures("rootless_runtime")
def test_a_short_time_limit_is_that_of_the_commands_alone() -> None:
    task = ("exec", "--task", "driver-cuda-runfile", "--runtime", "rootless", "--seed", "3", "--timeout", "0.01")
    done = devnull(*task, "--json", "--", "sleep 9")
    assert done.returncode == 0, done.stderr
    (command,) = json.loads(done.stdout)["commands"]
    assert command["timed_out"] and command["exit_code"] is None


def test_untrusted_text_steers_no_terminal() -> None:
    assert escape_unprintable("a\x1b]0;x\x07\r\nb\rc\x9b1m\u202e\ttab") == "a\\x1b]0;x\\x07\nb\\x0dc\\x9b1m\\x202e\ttab"
