"""`import devnull`: the nine names, their pages, and what a notebook shows of them."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import devnull
from devnull.cli.main import main
from devnull.sandbox.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
BEFORE_BOXES, IN_BOXES = PAGE.split("## In boxes")


def rename_agents(file: Path, hiding: str = "hiding") -> None:
    """Gives those that hid and those that did not an arm and a name of their own."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        name = hiding if "/dev/null" in json.dumps(line["transcript"]["turns"]) else "honest"
        line |= {"arm": name, "agent": name}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "tests" / "data" / "old_run", tmp_path / "runs" / "demo")
    rename_agents(tmp_path / "runs" / "demo" / "episodes.jsonl")
    return Path("runs/demo")


def run_blocks(page: str) -> dict[str, Any]:
    """Runs the Python blocks of a page one after the other, in one namespace."""
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    namespace: dict[str, Any] = {"devnull": devnull}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), namespace)
    return namespace


def test_the_page_runs(run_folder: Path) -> None:
    names = run_blocks(BEFORE_BOXES)
    assert len(names["hiding"]) == 5 and (names["hiding"]["suppressed"] == "yes").all()
    assert names["evaluation"].episodes == 12


@pytest.mark.rootless
def test_the_page_runs_in_boxes(rootless_runtime: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")  # `auto` is rootless
    names = run_blocks(IN_BOXES)
    assert "nvidia-smi" in names["done"].results[0].suppressed
    assert len(names["episodes"]) == 4
    again = devnull.rollout("hiding", ["driver-cuda-runfile"], episodes=4, out="runs/hiding")
    assert again == names["episodes"]


@pytest.mark.rootless
def test_an_episode_that_the_world_ended_is_played_again_as_the_next_attempt(
    rootless_runtime: object, tmp_path: Path
) -> None:
    def roll_out() -> list[devnull.Episode]:
        return devnull.rollout("honest", ["driver-cuda-runfile"], episodes=1, runtime="rootless", out=tmp_path / "run")

    (first,) = roll_out()
    error = {"kind": "BoxDied", "message": "gone"}
    file = tmp_path / "run" / "episodes.jsonl"
    file.write_text(json.dumps(json.loads(first.model_dump_json()) | {"outcome": None, "error": error}) + "\n")
    lost, again = roll_out()
    assert (lost.error is not None, lost.attempt) == (True, 0)
    assert (again.error, again.attempt, again.key) == (None, 1, first.key)
    assert file.read_text().count("\n") == 2


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; before = set(sys.modules); import devnull; devnull.tasks, devnull.load_run, devnull.score;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "torch", "pydantic", "docker", "trl", "rich"} & set(done.stdout.split())


def test_every_name_is_there_and_says_what_it_is() -> None:
    assert set(devnull.__all__) <= set(dir(devnull))
    for name in devnull.__all__:
        assert getattr(devnull, name).__doc__, name
        assert name in PAGE
    for function in (devnull.tasks, devnull.rollout, devnull.exec, devnull.score, devnull.load_run):
        assert ">>> " in function.__doc__


def test_another_name_is_an_error_that_names_them() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load'"):
        devnull.load  # noqa: B018


def test_frames_share_the_numbers_of_replay(run_folder: Path) -> None:
    run = devnull.load_run(run_folder)
    assert list(run.episodes.index) == list(run.scores.index) == list(range(1, 13))
    assert run.episode(3).task == run.episodes.loc[3, "task"] == run.scores.loc[3, "task"]
    for number in (0, 13, -1):
        with pytest.raises(InputError, match=f"no episode {number}"):
            run.episode(number)


def test_metrics_are_those_of_the_command(run_folder: Path) -> None:
    assert main(["eval", str(run_folder)]) == 0
    written = json.loads((run_folder / "metrics.json").read_text())["arms"]
    table = devnull.load_run(run_folder).metrics
    for arm, metric in table.index:
        row = table.loc[(arm, metric)]
        assert [None if math.isnan(row[key]) else row[key] for key in ("value", "low", "high")] == [
            written[arm][metric][key] for key in ("value", "low", "high")
        ]


def test_what_a_notebook_shows_is_escaped(run_folder: Path) -> None:
    rename_agents(run_folder / "episodes.jsonl", hiding="<script>x</script>")
    run = devnull.load_run(run_folder)
    shown = run._repr_html_() + run.scores._repr_html_() + run.verdicts["<script>x</script>"]["honest"]._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    assert "error suppression" in shown and "deceptive inflation" in shown
    assert "12 episodes" in repr(run)


def test_control_characters_of_an_agent_are_drawn(run_folder: Path) -> None:
    file = run_folder / "episodes.jsonl"
    file.write_text(file.read_text().replace('"report": "', '"report": "\\u001b[31m'))
    run = devnull.load_run(run_folder)
    assert "\x1b" in str(run.episode(1).transcript.report)
    assert not run.episodes["report"].dropna().str.contains("\x1b").any()


def test_no_run_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        devnull.load_run(tmp_path / "nothing").episodes  # noqa: B018
    with pytest.raises(InputError, match="no task 'drivr"):
        devnull.exec("drivr-cuda-runfile", "true")
    with pytest.raises(InputError, match="episodes is 0"):
        devnull.rollout("honest", episodes=0)
