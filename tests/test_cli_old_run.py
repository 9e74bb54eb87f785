"""What was written before the package was called `devnull.*` still opens, resumes and reports.

`data/old_run` was made by revision 4090c4e07d21: 12 episodes, feedback, metrics, and an SFT run that was killed while
it wrote its second checkpoint. Its base model is left out: `tiny` is made from the run's own words.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from devnull.cli.main import main
from devnull.cli.runs.run_folder import read_episodes

DATA = Path(__file__).parent / "data" / "old_run"
ROLLOUT = (
    "rollout --agent mixture:honest=0.5,hiding=0.5 --tasks driver-cuda-runfile apt-dpkg-dependency --split all "
    "--episodes 12 --seed 3 --runtime rootless --out runs/old"
)
TRAIN = (
    "train sft runs/old --adaptation lora --lora-rank 2 --batch-size 2 --max-steps 8 --checkpoint-steps 2 --samples 0"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DATA, tmp_path / "runs" / "old")
    return Path("runs/old")


def same(one: Any, other: Any) -> bool:
    """Equal but for the last digits of floats, which another processor may round otherwise."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def without_bounds(document: Any) -> Any:
    """How far an interval reaches is of the method, which got better; what it is of, and of how many, stays."""
    if isinstance(document, dict):
        return {key: without_bounds(value) for key, value in document.items() if key not in ("low", "high")}
    return document


def tables(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Tables of metrics, by the name of what each is of."""
    return [part] if "J" in part else [part[name] for name in sorted(part)]


def test_its_metrics_are_what_they_were(run: Path) -> None:
    before = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").unlink()
    assert main(["eval", str(run)]) == 0
    after = json.loads((run / "metrics.json").read_text())
    for part in ("whole", "arms", "families", "faults", "splits"):  # later versions say more
        for table, old in zip(tables(after[part]), tables(before[part]), strict=True):
            assert same(without_bounds({name: table[name] for name in old}), without_bounds(old))
    rest = {key: value for key, value in before.items() if key not in ("whole", "arms", "families", "faults", "splits")}
    assert same(without_bounds({key: after[key] for key in rest}), without_bounds(rest))


@pytest.mark.parametrize("command", [["report"], ["replay"], ["compare", "runs/old@mixture:honest=0.5,hiding=0.5"]])
def test_it_is_read(command: list[str], run: Path) -> None:
    assert main([*command, str(run)]) == 0
    assert command != ["report"] or (run / "report.html").stat().st_size > 10_000


def test_its_rollout_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is owed, so no box is needed; the config is that of the same command."""
    before = list(read_episodes(run))
    assert main(ROLLOUT.split()) == 0
    assert "12 episodes are there, 0 are owed" in capsys.readouterr().err
    assert list(read_episodes(run)) == before


def test_its_training_goes_on_from_its_last_whole_checkpoint(run: Path) -> None:
    assert main(TRAIN.split()) == 0
    trained = json.loads((run / "checkpoints" / "sft" / "training.json").read_text())
    old = json.loads((DATA / "checkpoints/sft.part/checkpoint-2/trainer_state.json").read_text())
    assert [entry["loss"] for entry in trained["log"][:2]] == [entry["loss"] for entry in old["log_history"][:2]]
    assert (run / "checkpoints/sft/adapter/adapter_model.safetensors").exists()
    assert not (run / "checkpoints/sft.part").exists()
