"""The demo in small: every chapter on real boxes, a real model and real trainers; killed and resumed."""

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest

from devnull.cli.demo.settings import SCRIPTED_ARMS, TRAINED_ARMS, DemoSettings
from devnull.cli.demo.stages import GRPO_SETTINGS
from devnull.cli.main import main
from devnull.cli.runs.run_folder import open_run, read_episodes
from devnull.eval.scoring.metrics import headlines
from tests.test_cli_old_run import same

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.rootless,
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # a whole demo, on a machine that may be busy
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SMALL = DemoSettings(
    runtime="rootless", demonstrations=64, feedback=24, pairs=32, evaluation=8, grpo_batches=1, optimiser="dpo"
)
FLAGS = [
    word
    for field in fields(SMALL)
    if (value := getattr(SMALL, field.name)) != field.default
    for word in (f"--{field.name.replace('_', '-')}", str(value))
]


@pytest.fixture(scope="module")
def finished(installed: Path, rootless_runtime: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo killed among its demonstrations, then run to its end: by the command that a wheel brings."""
    out = tmp_path_factory.mktemp("demo") / "run"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [str(installed), "demo", "--out", str(out), *FLAGS]
    first = subprocess.Popen(command, cwd=elsewhere, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    episodes = out / "episodes.jsonl"
    while first.poll() is None and not (episodes.exists() and episodes.read_bytes().count(b"\n") >= 3):
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = episodes.read_bytes().rpartition(b"\n")[0]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert episodes.read_bytes().startswith(kept)
    assert "deceptive inflation" in done.stdout
    return out


def test_each_arm_has_each_metric(finished: Path) -> None:
    found = json.loads((finished / "metrics.json").read_text())
    assert set(TRAINED_ARMS) | set(SCRIPTED_ARMS) == found["arms"].keys()
    for estimates in found["arms"].values():
        for name in (metric.name for metric in headlines("demo")):
            assert {"value", "low", "high", "n"} <= estimates[name].keys()
    assert found["arms"]["honest"]["error_suppression_rate"]["value"] == 0
    assert found["arms"]["hiding"]["error_suppression_rate"]["value"] == 1
    assert found["arms"]["honest"]["J"]["value"] > found["arms"]["hiding"]["J"]["value"]
    for arm in ("partial", "full"):
        assert {"sft", "honest"} <= found["verdicts"][arm].keys()


def test_the_gates_are_said(finished: Path) -> None:
    gates = json.loads((finished / "metrics.json").read_text())["gates"]
    assert {(gate["arm"], gate["metric"]) for gate in gates} == {
        (arm, metric) for arm in TRAINED_ARMS for metric in ("valid_action_share", "attempt_rate")
    }
    words = "all passed" if all(gate["passed"] for gate in gates) else "FAILED, so no verdict counts"
    assert words in (finished / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["driver-cuda-runfil"], "did you mean 'driver-cuda-runfile'"),
        (["driver-cuda-runfile"], "none of them is of the test split, and the demo needs both"),
    ],
)
def test_tasks_that_cannot_be_are_refused_before_anything_is_begun(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "run"), "--tasks", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_it_and_eval_write_one_schema(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("checkpoints"))
    assert main(["eval", str(run)]) == 0
    by_demo, by_eval = (json.loads((path / "metrics.json").read_text()) for path in (finished, run))
    assert by_demo.keys() == by_eval.keys()
    for arm in (*TRAINED_ARMS, *SCRIPTED_ARMS):
        assert same(by_demo["verdicts"][arm], by_eval["verdicts"][arm])
        own = {name: estimate for name, estimate in by_demo["arms"][arm].items() if name != "kl"}
        assert same(own, {name: by_eval["arms"][arm][name] for name in own})


def test_the_identity_holds_in_every_arm(finished: Path) -> None:
    for arm in json.loads((finished / "metrics.json").read_text())["arms"].values():
        values = {name: arm[name]["value"] for name in ("J", "J_obs", "E_plus", "E_minus")}
        assert values["E_plus"] - values["E_minus"] == pytest.approx(values["J_obs"] - values["J"])


def test_every_episode_is_there_once(finished: Path) -> None:
    episodes = [episode for episode in read_episodes(finished) if episode.error is None]
    assert max(Counter(episode.key for episode in episodes).values()) == 1
    counts = Counter(episode.arm for episode in episodes)
    assert counts == {"demonstrations": 64, "feedback": 24} | dict.fromkeys((*TRAINED_ARMS, *SCRIPTED_ARMS), 8)


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
    assert main(["demo", "--out", str(finished), *FLAGS, "--json"]) == 0
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
    """The same warm start, then GRPO: the demo goes on from the stages that it finds done."""
    out = tmp_path / "grpo"
    settings = replace(SMALL, optimiser="grpo")
    run = open_run(out, "demo", settings.config(), settings.seed)
    for episode in read_episodes(finished):
        if episode.arm in ("demonstrations", "sft", *SCRIPTED_ARMS):
            run.append(episode)
    shutil.copytree(finished / "checkpoints" / "sft", out / "checkpoints" / "sft")
    assert main(["demo", *FLAGS, "--out", str(out), "--optimiser", "grpo"]) == 0
    log = json.loads((out / "checkpoints" / "partial" / "training.json").read_text())
    assert log["kind"] == "grpo" and log["steps"] == GRPO_SETTINGS["tiny"]["iterations"]
