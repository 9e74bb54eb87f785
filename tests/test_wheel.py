"""What `pip install devnull` brings: every command works outside the checkout, beside a package called `agents`.

The demo of `test_cli_demo` is run from the wheel, too.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devnull.sandbox.tasks import load_tasks

ROOT = Path(__file__).resolve().parent.parent
Devnull = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def devnull(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Devnull:
    """The installed command, run outside the checkout."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [installed, *map(str, words)], capture_output=True, text=True, cwd=elsewhere, env=environment
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "old"
    shutil.copytree(ROOT / "tests" / "data" / "old_run", folder)
    return folder


def test_it_lies_beside_a_package_called_agents(installed: Path, tmp_path: Path) -> None:
    where = "import agents, devnull; print(agents.__file__); print(devnull.__file__)"
    python = [installed.parent / "python", "-P", "-c", where]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(python, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    foreign, ours = map(Path, done.stdout.splitlines())
    assert foreign.parent.name == "agents" and ROOT / "agents" not in foreign.parents
    assert installed.parent.parent in ours.parents, "the checkout got in"


def test_another_package_of_its_name_is_one_line(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "devnull").mkdir()
    (tmp_path / "devnull" / "__init__.py").write_text("__version__ = '3'")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([installed, "tasks", "list"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and str(tmp_path / "devnull" / "__init__.py") in done.stderr


def test_it_brings_one_package(wheel: Path) -> None:
    listed = subprocess.run([sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True)
    files = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name and ".data/scripts" not in name} == {
        "devnull"
    }
    assert not [name for name in files if name.endswith(".pyc") or "/build/" in name or "egg-info" in name]


def test_tasks_and_theory(devnull: Devnull) -> None:
    assert len(json.loads(devnull("tasks", "list", "--json").stdout)) == len(load_tasks())
    assert "deceptive inflation" in devnull("theory", "example-a").stdout


def test_a_run_is_measured_watched_and_reported(devnull: Devnull, run_folder: Path) -> None:
    assert "error suppression" in devnull("eval", run_folder).stdout
    assert "what the evaluator saw" in devnull("replay", run_folder).stdout
    devnull("report", run_folder)
    assert "Every episode" in (run_folder / "report.html").read_text()


def test_transcripts_of_other_tools_are_read(devnull: Devnull, tmp_path: Path) -> None:
    chat = [
        {"role": "user", "content": "Install it."},
        {"role": "assistant", "content": "```bash\nmake install 2>/dev/null\n```"},
        {"role": "user", "content": "<returncode>2</returncode>\n<output>\n</output>"},
    ]
    (tmp_path / "chat.json").write_text(json.dumps({"messages": chat}))
    devnull("import", tmp_path / "chat.json", "--out", tmp_path / "imported")
    assert (tmp_path / "imported" / "episodes.jsonl").read_text().count("\n") == 1


def test_the_image_is_that_of_the_checkout(devnull: Devnull) -> None:
    from devnull.sandbox.image.recipe import image_tag

    assert json.loads(devnull("image", "status", "--json").stdout)["tag"] == image_tag()


@pytest.mark.rootless
def test_boxes(devnull: Devnull, rootless_runtime: object, tmp_path: Path) -> None:
    devnull("image", "build")
    shown = devnull("exec", "--task", "driver-cuda-runfile", "--runtime", "rootless", "--", "ls /nothing 2>/dev/null")
    assert "No such file or directory" in shown.stdout  # dimmed: it was kept off the terminal
    devnull(
        "rollout", "--runtime", "rootless", "--tasks", "driver-cuda-runfile", "--episodes", 2, "--out", tmp_path / "r"
    )
    assert (tmp_path / "r" / "episodes.jsonl").read_text().count("\n") == 2


def test_bad_input_is_one_line(devnull: Devnull, tmp_path: Path) -> None:
    assert devnull("eval", tmp_path / "nothing", status=2).stderr.count("\n") == 1
