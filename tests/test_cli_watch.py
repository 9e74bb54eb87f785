"""`devnull watch`: a program of the user's in a box, and what was kept off its terminal."""

import signal
from pathlib import Path

import pytest

from devnull.cli.commands import watch
from devnull.cli.commands.watch import print_live
from devnull.cli.main import main
from devnull.cli.runs.run_folder import read_episodes
from devnull.sandbox.runtime import Runtime

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
    assert "nowhere.deb" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0


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
