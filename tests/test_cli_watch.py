"""`devnull watch`: a program of the user's in a box, and what was kept off its terminal."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from devnull.cli.commands import watch
from devnull.cli.commands.watch import print_live
from devnull.cli.main import main
from devnull.cli.runs.relayed_shell import is_command
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.shell_relay import text_of
from devnull.sandbox.cache import cache_folder
from devnull.sandbox.docker_client import connect_docker
from devnull.sandbox.own_box import FOLDER_IN_BOX
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.supervisor import find_supervisor

SCRIPT = """#!/bin/bash
echo installing
dpkg -i /nowhere.deb 2>/dev/null
printf '\\033[2Jdone\\n'
touch written
exit 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    (made / "install.sh").write_text(SCRIPT)
    (made / "install.sh").chmod(0o755)
    return made


def test_a_script_that_hides_an_error(
    rootless_runtime: Runtime, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["watch", "--folder", str(folder), "--out", str(out), "--", "./install.sh"]) == 3
    shown = capsys.readouterr()
    assert "installing\n\\x1b[2Jdone\n" in shown.out and "\x1b[2J" not in shown.out
    assert "kept off the terminal (/dev/null)" in shown.err and "dpkg -i /nowhere.deb → " in shown.err
    (episode,) = read_episodes(out)
    (result,) = episode.transcript.results
    assert "nowhere.deb" in result.suppressed and "nowhere.deb" not in result.shown
    assert not (folder / "written").exists()
    assert main(["replay", str(out)]) == 0
    played = capsys.readouterr().out
    assert "nowhere.deb" in played and "watched: nobody verified" in played and "is not known)" not in played
    assert main(["report", str(out)]) == 0
    assert "By the record, something failed unseen in 1 of 1 watched command." in (out / "report.html").read_text()
    assert main(["eval", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text())["whole"]["unseen_failure_rate"]["value"] == 1.0


def test_ctrl_c_keeps_what_is_known(rootless_runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(data: bytes) -> None:
        assert b"begun" in data
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(watch, "print_live", lambda write: stop)
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main(["watch", "--out", str(tmp_path / "run"), "--", "ls /none 2>/dev/null; echo begun; sleep 500"])
    finally:
        signal.signal(signal.SIGINT, old)
    assert status == 130
    (episode,) = read_episodes(tmp_path / "run")
    (result,) = episode.transcript.results
    assert "/none" in result.suppressed and result.shown.startswith("begun") and result.exit_code is None


AGENT = """
import os, subprocess, sys
run = lambda *a, **k: print(repr(subprocess.run(*a, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **k)))
run("ls /none 2>/dev/null; id -u; pwd", shell=True, cwd="inner")
run(["bash", "-lc", "cat > made; wc -c made; echo $GIVEN"], input=b"12345", env=os.environ | {"GIVEN": "it"})
run("cat made; touch only-in-the-box; exit 7", shell=True)
run(["bash", "starts.sh"])
run(["bash"], input=b"touch never\\n")
print("\\033[2J", end="")
sys.exit(4)
"""


def test_an_agent_stays_and_its_shell_is_in_the_box(
    rootless_runtime: Runtime, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    (folder / "inner").mkdir()
    (folder / "agent.py").write_text(AGENT)
    (folder / "starts.sh").write_text("touch on-the-host; test -e /usr/lib/devnull/supervisor || echo the host")
    monkeypatch.chdir(folder)
    asked = ["watch", "--shell", "--folder", ".", "--out", str(tmp_path / "run"), "--", sys.executable, "agent.py"]
    assert main(asked) == 4
    shown = capfd.readouterr()
    for expected in (
        f"returncode=0, stdout=b'0\\n{FOLDER_IN_BOX}/inner\\n'",
        "b'5 made\\nit\\n'",
        "returncode=7, stdout=b'12345'",
    ):
        assert expected in shown.out, shown
    assert "the host" in shown.out and "none from stdin" in shown.out and "\\x1b[2J" in shown.out
    assert {path.name for path in folder.iterdir()} == {
        "install.sh", "inner", "agent.py", "starts.sh", "on-the-host"
    }  # fmt: skip
    assert "the shell was given 3 commands" in shown.err and "kept off the terminal (/dev/null)" in shown.err
    (episode,) = read_episodes(tmp_path / "run")
    first, second, third = episode.transcript.results
    assert first.command == "ls /none 2>/dev/null; id -u; pwd" and "/none" in first.suppressed
    assert [each.argv[0] for each in first.processes] == ["ls", "id"]  # pwd is its shell's own
    assert second.command.startswith("cat > made") and third.exit_code == 7
    assert main(["replay", str(tmp_path / "run")]) == 0 and "/none" in capfd.readouterr().out


GIVES_UP = """
import subprocess
try:
    subprocess.run("ls /none 2>/dev/null; echo begun; sleep 500", shell=True, timeout=6)
except subprocess.TimeoutExpired:
    print("given up")
subprocess.run("echo goes on", shell=True)
"""


def test_a_command_that_the_agent_gives_up_on_is_ended(rootless_runtime: Runtime, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "run"
    assert main(["watch", "--shell", "--timeout", "300", "--out", str(out), "--", sys.executable, "-c", GIVES_UP]) == 0
    assert capfd.readouterr().out == "given up\ngoes on\n"
    (episode,) = read_episodes(out)
    given_up, after = episode.transcript.results
    assert given_up.timed_out and given_up.shown == "begun\n" and "/none" in given_up.suppressed
    assert given_up.seconds < 200 and after.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["-c", "ls"], "ls"),
        (["-lc", "ls"], "ls"),
        (["-o", "pipefail", "-e", "-c", "ls", "name", "a b"], "ls name 'a b'"),
        (["--rcfile", "x", "-ic", "ls"], "ls"),
        (["script.sh", "-c"], None),
        (["-x", "script.sh"], None),
        ([], None),
    ],
)
def test_what_of_a_shell_goes_to_the_box(arguments: list[str], command: str | None) -> None:
    assert is_command(arguments) == (command is not None)
    if command is not None:
        assert text_of(["sh", *arguments]) == command


def test_a_box_that_dies_leaves_no_agent_waiting(rootless_runtime: Runtime, tmp_path: Path, capfd: Any) -> None:
    agent = "import os; [print(os.system(line)) for line in ('kill -9 -1; kill -9 1; sleep 1', 'echo there')]"
    main(["watch", "--shell", "--timeout", "5", "--memory", "64", "--", sys.executable, "-c", agent])
    assert len(capfd.readouterr().out.splitlines()) >= 2


@pytest.mark.rootless
def test_a_folder_is_an_image(rootless_runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    with tarfile.open(fileobj=small_root()) as tar:
        tar.extractall(root, filter="fully_trusted")
    watched = ["watch", "--image", str(root), "--", 'echo "on $PWD"; echo here >/made; cd /none 2>/dev/null']
    assert main(watched) == 2 and "mkdir proc dev" in capsys.readouterr().err
    (root / "proc").mkdir()
    (root / "dev").mkdir()
    files = sorted(root.rglob("*"))
    assert main(watched) == 1
    shown = capsys.readouterr()
    assert shown.out == "on /\n" and "/none: No such file" in shown.err
    assert sorted(root.rglob("*")) == files
    assert main(["watch", "--image", str(tmp_path), "--", "true"]) == 2
    assert "install bash in it" in capsys.readouterr().err


@pytest.mark.docker
def test_an_image_is_exported_once(
    docker_runtime: Runtime, rootless_runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    supervisor = find_supervisor()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copied = cache_folder() / supervisor.parent.name / supervisor.name
    copied.parent.mkdir()
    shutil.copy(supervisor, copied)
    image = small_image()
    try:
        for again in (False, True):
            assert main(["watch", "--image", image.id, "--", 'echo "$SET $PWD"; cd /none 2>/dev/null']) == 1
            shown = capfd.readouterr()
            assert shown.out.endswith("by-the-image /srv\n") and "No such file" in shown.err
            assert ("exporting" in shown.err) != again
        assert [each.name for each in cache_folder().glob("image-*[!k]")] == [f"image-{image.id[7:19]}"]
    finally:
        image.client.images.remove(image.id)  # type: ignore[attr-defined]


def small_root() -> io.BytesIO:
    """bash and what it is linked with, a few MiB, as a tar."""
    bash = shutil.which("bash") or ""
    linked = re.findall(r"/\S+", subprocess.check_output(["ldd", bash], text=True))
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", dereference=True) as tar:
        for path in linked:
            tar.add(path, path.lstrip("/"))
        tar.add(bash, "bin/bash")
    made.seek(0)
    return made


def small_image() -> Any:
    """`small_root` in the daemon as an image."""
    made = small_root()
    client = connect_docker()
    digest = client.api.import_image_from_data(made.read(), changes=["ENV SET=by-the-image", "WORKDIR /srv"])
    return client.images.get(json.loads(digest)["status"])


@pytest.mark.docker
def test_sigterm_leaves_nothing(docker_runtime: Runtime, tmp_path: Path) -> None:
    """Neither a container that is exported, nor its half of a root file system."""
    image = small_image()
    try:
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
        program = [sys.executable, "-m", "devnull", "watch", "--image", image.id, "--", "true"]
        watch = subprocess.Popen(program, env=environment, stderr=subprocess.PIPE, text=True)
        assert watch.stderr is not None and "exporting" in watch.stderr.readline()
        watch.terminate()
        watch.communicate()
        assert watch.returncode == 130
        assert not image.client.containers.list(all=True, filters={"ancestor": image.id})
        assert not [each for each in (tmp_path / "devnull").iterdir() if each.is_dir() and "image" in each.name]
    finally:
        image.client.images.remove(image.id)


def test_live_output_is_escaped_whatever_the_pieces() -> None:
    for size in (1, 2, 3, 50):
        written: list[str] = []
        show = print_live(written.append)
        data = "é\r\n\x1b[2J\tü\r\n".encode()
        for at in range(0, len(data), size):
            show(data[at : at + size])
        assert "".join(written) == "é\n\\x1b[2J\tü\n"


def test_what_cannot_be_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch"]) == 2
    assert main(["watch", "--folder", str(tmp_path / "none"), "--", "true"]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
