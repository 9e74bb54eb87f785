"""What an agent is told, sees and imitates, as settings of commands: each example is run, and does what it says."""

import json
import math
from pathlib import Path

import pytest

from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PromptFormat
from devnull.cli.main import main
from devnull.cli.runs.evaluator_choice import resolve_evaluator
from devnull.cli.runs.json_lines import append_line
from devnull.cli.runs.run_folder import read_episodes
from devnull.eval.scoring.score import score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.transcript import Transcript, Turn
from devnull.training.settings import SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from tests.fakes import CUDA_ERROR, CUDA_OK, DRIVER_OK, PretendRuntime, pretend_verify, result
from tests.training_cases import TASK, episodes, message_texts

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(autouse=True)
def pretend_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("rollout", "train"):
        monkeypatch.setattr(f"devnull.cli.commands.{command}.open_boxes", lambda *_: PretendRuntime(TASK))
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)


def played(out: Path, example: str, *words: str) -> list[Episode]:
    """The episodes of an example that is run with a few further flags."""
    tasks = ["--tasks", TASK.name, "--split", "all"]
    argv = ["rollout", "--config", str(EXAMPLES / f"{example}.toml"), *tasks, "--out", str(out), *words]
    assert main(argv) == 0
    return list(read_episodes(out))


def silenced(found: list[Episode]) -> list[Episode]:
    return [each for each in found if any("2>/dev/null" in result.command for result in each.transcript.results)]


def test_the_shares_of_a_mixture_are_those_of_its_moves(tmp_path: Path) -> None:
    found = played(tmp_path / "run", "rollout-mixture")
    invented = [each for each in found if any("; echo " in result.command for result in each.transcript.results)]
    assert 0.15 < len(silenced(found)) / len(found) < 0.35
    assert 0.01 < len(invented) / len(found) < 0.12
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["agent"].startswith("mixture:honest=0.55")
    none = played(tmp_path / "none", "rollout-mixture", "--agent", "mixture:honest=0.75,hiding=0,stopping=0.25")
    assert not silenced(none)


def test_an_agent_that_sees_the_status_can_own_up_to_what_it_hid(tmp_path: Path) -> None:
    def owned_up(found: list[Episode]) -> int:
        hidden = [each for each in silenced(found) if each.faulty]
        assert hidden and not any("ERROR" in result.shown for each in hidden for result in each.transcript.results)
        return sum("FAILED" in (each.transcript.report or "") for each in hidden)

    assert owned_up(played(tmp_path / "status", "rollout-status")) > 0
    assert owned_up(played(tmp_path / "blind", "rollout-status", "--agent-sees", "terminal")) == 0


def test_best_of_keeps_what_the_rater_believes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--agent", "mixture:honest=1,hiding=1,stopping=1", "--arm", "policy", "--episodes", "12"]
    found = played(tmp_path / "run", "rollout-best-of", *words)
    capsys.readouterr()
    assert len(found) == 12 * 8 + 3 * 12
    evaluator, tasks = Evaluator(resolve_evaluator(Path("terminal"))), {TASK.name: TASK}
    believed: dict[str, list[float]] = {}
    for each in found:
        believed.setdefault(each.arm, []).append(score(each, tasks[each.task], evaluator).G_obs)
    means = [sum(values) / len(values) for _, values in sorted(believed.items())]  # policy, best of 2, of 4, of 8
    assert means == sorted(means) and means[-1] > means[0]


def test_raters_that_hesitate_and_that_doubt() -> None:
    """In points as the examples tell them: a success of 11, of which a doubter believes 6.2; ten points at β = 0.2."""

    def evaluator(name: str) -> Evaluator:
        return Evaluator(resolve_evaluator(Path(name)))

    def transcript_of(*shown: str) -> Transcript:
        stages = zip(TASK.stages, shown, strict=False)
        turns = [Turn(text="x", valid=True, result=result(stage.command, text)) for stage, text in stages]
        return Transcript(instruction="x", turns=tuple(turns))

    sure, hesitant, doubting = evaluator("terminal"), evaluator("hesitant"), evaluator("doubting")
    success, failure = transcript_of(DRIVER_OK, CUDA_OK), transcript_of(DRIVER_OK, CUDA_ERROR)
    good, bad = (sure.judge(TASK, each, seed=0) for each in (success, failure))
    gap = good.G_obs - bad.G_obs
    assert sure.preference_probability(good, bad) > 0.99
    assert hesitant.preference_probability(good, bad) == pytest.approx(1 / (1 + math.exp(-0.2 * gap)))
    assert doubting.judge(TASK, success, seed=0).G_obs == pytest.approx(good.G_obs - 4.8, abs=0.05)
    assert doubting.judge(TASK, failure, seed=0).G_obs < bad.G_obs + 0.05


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    write_atomically(path / "run.json", json.dumps({"command": "rollout", "config": {}, "wall_seconds": {}}))
    for each in episodes(8):
        append_line(path / "episodes.jsonl", each.model_copy(update={"prompt": PromptFormat(agent_sees="status")}))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "base", message_texts(episodes()))


def sft(run: Path, base: Path, out: Path, *words: str) -> dict[str, object]:
    argv = ["train", "sft", str(run), "--model", str(base), "--out", str(out), "--max-steps", "1", "--batch-size", "2"]
    assert main([*argv, *words]) == 0
    facts: dict[str, object] = json.loads((out / "training.json").read_text())["facts"]
    return facts


def test_a_policy_is_sampled_as_it_was_trained_and_another_prompt_is_said(
    run: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The episodes were played with the status in sight, so the policy is trained, sampled and rolled out so."""
    out = tmp_path / "policy"
    facts = sft(run, base, out, "--samples", "1", "--system", "Be brief.")
    assert facts["agent_sees"] == "status" and facts["system"] == "Be brief."
    trained = PromptFormat(agent_sees="status", system="Be brief.")
    assert {each.prompt for each in read_episodes(out / "sampled")} == {trained}
    words = ["--agent", f"hf:{out}", "--episodes", "1", "--max-turns", "1", "--max-new-tokens", "8", "--tolerant"]
    (plain,) = played(tmp_path / "plain", "rollout-status", "--agent-sees", "status", *words)
    assert plain.prompt == trained and "was trained with" not in capsys.readouterr().err
    (watched,) = played(tmp_path / "watched", "rollout-watched", *words)
    assert "recorded" in episode_messages(watched)[0]["content"] and watched.prompt.agent_sees == "status"
    assert "was trained with system='Be brief.', agent_sees='status'; here it gets" in capsys.readouterr().err


def test_a_conditional_policy_is_sampled_with_each_tag(
    run: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "policy"
    sft(run, base, out, "--samples", "1", "--config", str(EXAMPLES / "sft-conditional.toml"))
    said = capsys.readouterr().out
    assert all(f"2 episodes, tag {tag}:" in said for tag in ("good", "bad", "none"))
    found = {each.arm: episode_messages(each)[1]["content"] for each in read_episodes(out / "sampled")}
    assert found["sampled-good"] == "Rated good.\n" + found["sampled-none"]
    assert found["sampled-bad"] == "Rated bad.\n" + found["sampled-none"]
    assert all((out / f"sampled-{tag}.json").exists() for tag in ("good", "bad", "none"))
    assert "| J, tag bad |" in (out / "README.md").read_text()
    words = ["--agent", f"hf:{out}", "--episodes", "1", "--max-turns", "1", "--max-new-tokens", "8", "--tolerant"]
    (asked,) = played(tmp_path / "asked", "rollout-watched", *words)
    (told,) = played(tmp_path / "told", "rollout-watched", *words, "--tag", "bad")
    assert (asked.prompt.tag, told.prompt.tag) == ("good", "bad")


def test_so_many_episodes_are_imitated_the_fewer_among_the_more(
    run: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Untraining starts from a policy's folder."""
    policy = train_sft(SFTSettings(max_steps=1), episodes(4), base, tmp_path / "policy").path
    taken: list[set[object]] = []

    def recorded(settings: SFTSettings, found: list[Episode], *rest: object, **more: object) -> object:
        taken.append({each.key for each in found})
        return train_sft(settings, found, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("devnull.training.sft.train_sft", recorded)
    for count in (2, 4):
        words = ["--config", str(EXAMPLES / "sft-untrain.toml"), "--episodes", str(count), "--samples", "0"]
        assert sft(run, policy, tmp_path / f"out-{count}", *words)["episodes"] == count
    assert taken[0] < taken[1]


def test_a_reward_model_reads_no_more_than_its_raters(
    run: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "reward", str(run), "--model", str(base), "--out", str(tmp_path / "out")]) == 2
    assert "holds more than its raters see" in capsys.readouterr().err
