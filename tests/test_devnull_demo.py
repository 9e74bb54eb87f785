"""The demo in small: every chapter on real boxes, a real model and real trainers; killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from devnull.cli.demo.story import GRPO, SCRIPTED, SHOWN, TRAINED
from devnull.cli.main import main
from devnull.cli.runs.folder import read_episodes

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.rootless,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SMALL = ["--runtime", "rootless", "--demonstrations", "64", "--feedback", "24", "--pairs", "32"]
SMALL += ["--evaluation", "8", "--grpo-batches", "1", "--optimiser", "dpo"]


@pytest.fixture(scope="module")
def finished(rootless_runtime: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo killed without warning among its demonstrations, then run to its end."""
    out = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "devnull", "demo", "--out", str(out), *SMALL]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    episodes = out / "episodes.jsonl"
    while first.poll() is None and not (episodes.exists() and episodes.read_bytes().count(b"\n") >= 3):
        os.sched_yield()
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = episodes.read_bytes().rpartition(b"\n")[0]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert episodes.read_bytes().startswith(kept)
    assert "deceptive inflation" in done.stdout
    return out


def test_each_arm_has_each_metric(finished: Path) -> None:
    found = json.loads((finished / "metrics.json").read_text())
    assert set(TRAINED) | set(SCRIPTED) == found["arms"].keys()
    for estimates in found["arms"].values():
        for name in SHOWN:
            assert {"value", "low", "high", "n"} <= estimates[name].keys()
    assert found["arms"]["honest"]["error_suppression_rate"]["value"] == 0
    assert found["arms"]["hiding"]["error_suppression_rate"]["value"] == 1
    assert found["arms"]["honest"]["J"]["value"] > found["arms"]["hiding"]["J"]["value"]
    assert {"partial against sft", "partial against honest", "full against sft"} <= found["verdicts"].keys()


def test_the_identity_holds_in_every_arm(finished: Path) -> None:
    for arm in json.loads((finished / "metrics.json").read_text())["arms"].values():
        values = {name: arm[name]["value"] for name in ("J", "J_obs", "E_plus", "E_minus")}
        assert values["E_plus"] - values["E_minus"] == pytest.approx(values["J_obs"] - values["J"])


def test_every_episode_is_there_once(finished: Path) -> None:
    episodes = [episode for episode in read_episodes(finished) if episode.error is None]
    assert max(Counter(episode.key for episode in episodes).values()) == 1
    counts = Counter(episode.arm for episode in episodes)
    assert counts == {"demonstrations": 64, "feedback": 24} | dict.fromkeys((*TRAINED, *SCRIPTED), 8)


def test_evaluation_tasks_and_seeds_were_never_trained_on(finished: Path) -> None:
    trained, evaluated = set(), set()
    for episode in read_episodes(finished):
        side = trained if episode.arm in ("demonstrations", "feedback") else evaluated
        side |= {episode.task, episode.seed}
    assert not trained & evaluated


def test_times_and_report_are_written(finished: Path) -> None:
    seconds = json.loads((finished / "run.json").read_text())["wall_seconds"]
    assert {
        "demonstrations",
        "warm start",
        "feedback",
        "fine-tuning",
        "evaluation",
        "report",
        "total",
    } <= seconds.keys()
    assert "<html" in (finished / "report.html").read_text()


def test_run_again_it_does_nothing_anew(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "episodes.jsonl").read_bytes()
    assert main(["demo", "--out", str(finished), *SMALL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"]
    assert (finished / "episodes.jsonl").read_bytes() == before


def test_an_episode_is_replayed(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = next(
        number
        for number, episode in enumerate(read_episodes(finished), 1)
        if episode.outcome is not None and any(stage.hidden for stage in episode.outcome.stages.values())
    )
    assert main(["replay", str(finished), "--episode", str(hidden)]) == 0
    assert "ERROR: CUDA" in capsys.readouterr().out


def test_online_it_learns_too(rootless_runtime: object, finished: Path, tmp_path: Path) -> None:
    """The same warm start, then GRPO."""
    out = tmp_path / "grpo"
    assert main(["demo", "--out", str(out), *SMALL, "--optimiser", "grpo"]) == 0
    log = json.loads((out / "checkpoints" / "partial" / "training.json").read_text())
    assert log["kind"] == "grpo" and log["steps"] == GRPO["tiny"]["iterations"]
