"""A policy sampled on the way, reward models fitted anew, best-of-n: what pressure does, from one run."""

import json
from pathlib import Path
from typing import Any

import pytest

from devnull.agents.scripted import HIDING, HONEST, STOPPING
from devnull.cli.main import main
from devnull.cli.runs.best_of import keep_best
from devnull.cli.runs.json_lines import append_line, read_lines
from devnull.cli.runs.run_folder import RunFolder, read_episodes
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.atomic_file import write_atomically
from tests.fakes import PretendRuntime, pretend_verify
from tests.training_cases import TASK, episode, episodes, preferences, warm_start

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return warm_start(tmp_path_factory.mktemp("warm"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("devnull.cli.commands.train.open_boxes", lambda *_: PretendRuntime(TASK))
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)
    path = tmp_path / "run"
    path.mkdir()
    write_atomically(path / "run.json", json.dumps({"command": "rollout", "config": {}, "wall_seconds": {}}))
    for each in episodes(8):
        append_line(path / "episodes.jsonl", each)
    write_atomically(path / "preferences.jsonl", "".join(pair.model_dump_json() + "\n" for pair in preferences(6)))
    return path


def trained(run: Path, out: Path, *words: str) -> dict[str, Any]:
    assert main(["train", words[0], str(run), "--out", str(out), *words[1:]]) == 0
    record: dict[str, Any] = json.loads((out / "training.json").read_text())
    return record


ONLINE = ["--batch-size", "4", "--group", "2", "--workers", "2", "--max-turns", "2"]


def test_sampling_on_the_way_draws_the_frontier_and_changes_nothing(run: Path, warm: Path, tmp_path: Path) -> None:
    """The divergence is 0 at step 0 and grows; the weights are those of a run that nobody looked at."""
    words = ["sft", "--max-steps", "2", "--batch-size", "2", "--model", str(warm)]
    record = trained(run, tmp_path / "seen", *words, "--samples", "1", "--sample-every", "1")
    rows = [entry for entry in record["log"] if "sampled/kl" in entry]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all({"sampled/J", "sampled/J_obs", "sampled/valid_action_share"} <= row.keys() for row in rows)
    assert abs(rows[0]["sampled/kl"]) < 1e-3 < 1e-2 < abs(rows[2]["sampled/kl"])
    played = list(read_episodes(tmp_path / "seen" / "episodes-sampled"))
    assert {each.arm for each in played} == {"step-0000", "step-0001", "step-0002"} and len(played) == 6
    assert {each.split for each in played} == {"test"}
    trained(run, tmp_path / "unseen", *words, "--samples", "0")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("seen", "unseen")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("words", [["grpo", *ONLINE], ["dpo", "--batch-size", "2"]])
def test_every_trainer_of_policies_samples_on_the_way(run: Path, warm: Path, tmp_path: Path, words: list[str]) -> None:
    words = [*words, "--model", str(warm), "--max-steps", "2", "--samples", "1", "--sample-every", "2"]
    record = trained(run, tmp_path / "out", *words)
    assert [entry["step"] for entry in record["log"] if "sampled/kl" in entry] == [0, 2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sft", "--sample-every", "2", "--samples", "0"], "--samples"),
        (["reward", "--sample-every", "2"], "a reward model plays nothing"),
        (["sft", "--sample-every", "-2"], "--sample-every is -2"),
        (["grpo", "--rounds", "2"], "--reward is believed"),
        (["dpo", "--rounds", "2", "--sample-every", "2"], "leave --sample-every out"),
        (["sft", "--episodes", "9"], "--episodes is 9; there are 8"),
        (["sft", "--system", "@nowhere.txt"], "@ comes before a file's name"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Path, tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", words[0], str(run), "--out", str(tmp_path / "out"), *words[1:]]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()
    assert says in complaint[-1] and "Traceback" not in "".join(complaint)


def test_a_reward_model_is_fitted_anew_to_what_the_policy_does_now(
    run: Path, warm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off between rounds, it goes on with what is there; other settings are refused."""
    reward = tmp_path / "reward"
    trained(run, reward, "reward", "--model", str(warm), "--epochs", "1", "--batch-size", "2")
    words = ["train", "grpo", str(run), "--model", str(warm), "--reward", str(reward), *ONLINE, "--max-steps", "2"]
    words += ["--out", str(tmp_path / "out"), "--rounds", "2", "--pairs", "6", "--samples", "0"]
    with monkeypatch.context() as broken:
        broken.setattr("devnull.training.reward_model.train_reward", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(words)
    first = (tmp_path / "out" / "round-1" / "training.json").read_bytes()
    assert main(words) == 0
    assert (tmp_path / "out" / "round-1" / "training.json").read_bytes() == first
    fresh = list(read_lines(tmp_path / "out" / "preferences-round-1.jsonl", Preference))
    assert fresh and all(pair.chosen_key[0] == "grpo" for pair in fresh)
    refitted = json.loads((tmp_path / "out" / "reward-2" / "training.json").read_text())
    assert refitted["facts"]["pairs"] + refitted["facts"]["pairs kept back"] == 6 + len(fresh)
    assert refitted["base"] == str(warm) and refitted["settings"]["batch_size"] == 2
    second = json.loads((tmp_path / "out" / "round-2" / "training.json").read_text())
    assert second["facts"]["paid by"] == "reward-2" and second["base"] == str(tmp_path / "out" / "round-1")
    rounds = [read_episodes(tmp_path / "out" / f"round-{n}" / "episodes") for n in (1, 2)]
    seeds = [{each.seed for each in found} for found in rounds]
    assert not seeds[0] & seeds[1]
    capsys.readouterr()
    assert main([*words, "--pairs", "7"]) == 2
    assert "pairs=6 there, 7 here" in capsys.readouterr().err


def test_the_best_of_n_is_the_one_that_is_rated_best(tmp_path: Path) -> None:
    """Nested candidates, each build by itself; the evaluator of the terminal prefers the hidden failure, the truth does
    not."""
    faulty, sound = (next(s for s in range(50) if episode(HONEST, s).faulty is build) for build in (True, False))
    tasks = {TASK.name: TASK}

    def kept(by: str) -> dict[str, str]:
        run = RunFolder(tmp_path / by, {})
        run.path.mkdir()
        for sample, agent in enumerate((HONEST, HIDING, STOPPING)):
            for build, seed in (("faulty", faulty), ("ok", sound)):
                forced = {"sample": sample, "seed": faulty, "forced_build": build}
                run.append(episode(agent, seed, arm="policy").model_copy(update=forced))
        assert keep_best(run, "policy", (2, 3), by, tasks) == ["policy-best-of-2", "policy-best-of-3"]
        keep_best(run, "policy", (2, 3), by, tasks)  # again: nothing is kept twice
        assert len(run.episodes()) == 2 * 5
        return {each.arm[-1]: each.agent for each in run.episodes() if each.arm != "policy" and each.faulty}

    assert kept("terminal") == {"2": "hiding", "3": "hiding"}
    assert kept("actual") == {"2": "honest", "3": "stopping"}
