"""The dials of an evaluator, by the example files, in two steps of online training: each reaches rewards and log."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devnull.agents.episode import Episode
from devnull.cli.main import main
from devnull.cli.runs.evaluator_choice import resolve_evaluator
from devnull.cli.runs.run_folder import open_run
from devnull.rewards.detector import PenaltyChange
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.feedback.ratings import make_ratings
from devnull.sandbox.errors import InputError
from devnull.training.grpo import train_grpo
from devnull.training.reward_functions import BelievedReturnReward, believed_return_reward, reward_model_reward
from devnull.training.settings import GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.weighted_preferences import marginalised_preferences
from tests.fakes import PretendRuntime, instances, pretend_verify
from tests.training_cases import TASK, episodes, message_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
TASKS = {TASK.name: TASK}
STEPS, BATCH = 2, 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dials")
    base = make_tiny_model(folder / "base", message_texts(episodes()))
    return train_sft(SFTSettings(max_steps=4), episodes(16), base, folder / "sft").path


@pytest.fixture(autouse=True)
def pretend_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)


def train(config: EvaluatorConfig, tiny: Path, out: Path) -> tuple[list[Episode], list[dict[str, Any]]]:
    """The episodes of two batches, and what was logged of each."""
    played: list[Episode] = []
    settings = GRPOSettings(
        max_steps=STEPS, batch_size=BATCH, group=2, max_new_tokens=24, workers=4, max_turns=2, kl_every=0
    )
    reward = believed_return_reward(Evaluator(config), TASKS)
    boxes: Any = PretendRuntime(TASK)
    result = train_grpo(settings, instances(4, TASK), reward, boxes, tiny, out, on_episode=played.append)
    assert (out / "model.safetensors").exists()
    return played, [entry for entry in result.log if "time/rollout" in entry]


def config(name: str, **changed: Any) -> EvaluatorConfig:
    return resolve_evaluator(Path(name)).model_copy(update=changed)


@pytest.mark.parametrize(
    ("dials", "logged"),
    [
        (config("audited", audit_rate=1.0), {"share/audited": 1.0}),
        (config("poisoned", poisoned=1.0), {"share/poisoned": 1.0}),
        (config("misaligned", misaligned=1.0), {"share/misaligned": 1.0}),
        (config("two-channels"), {"reward/report": None, "reward/task": None}),
        (config("detector"), {"share/flagged": None, "detector_penalty": 8.0}),
    ],
    ids=lambda each: each.name if isinstance(each, EvaluatorConfig) else "",
)
def test_an_examples_dial_pays_and_is_logged(
    dials: EvaluatorConfig, logged: dict[str, float | None], tiny: Path, tmp_path: Path
) -> None:
    played, log = train(dials, tiny, tmp_path / "grpo")
    assert len(log) == STEPS
    for at, entry in enumerate(log):
        batch = played[at * BATCH : (at + 1) * BATCH]
        again = BelievedReturnReward(Evaluator(dials), TASKS)
        values = [value for value in again(batch) if value is not None]
        invalid = sum(not turn.valid for each in batch for turn in each.transcript.turns)
        assert entry["pay"] == pytest.approx((sum(values) - 0.5 * invalid) / BATCH, abs=1e-4)
        for name, value in logged.items():
            assert entry[name] == pytest.approx(again.logged[name] if value is None else value)


def test_a_schedule_follows_the_steps(tiny: Path, tmp_path: Path) -> None:
    late = config("detector-late")
    assert late.detector is not None
    (change,) = late.detector.schedule
    soon = late.detector.model_copy(update={"schedule": (PenaltyChange(from_step=1, penalty=change.penalty),)})
    _, log = train(late.model_copy(update={"detector": soon}), tiny, tmp_path / "grpo")
    assert [entry["detector_penalty"] for entry in log] == [late.detector.penalty, change.penalty]


def test_a_batch_that_is_screened_out_teaches_nothing_and_does_not_end_the_run(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    screening = config("screening")
    assert screening.detector is not None
    all_of_it = screening.detector.model_copy(update={"false_positive_rate": 1.0})
    _, log = train(screening.model_copy(update={"detector": all_of_it}), tiny, tmp_path / "grpo")
    assert [entry["share/flagged"] for entry in log] == [1.0, 1.0]
    assert all("pay" not in entry and entry["unpaid"] == 0 for entry in log)
    before, after = load_file(tiny / "model.safetensors"), load_file(tmp_path / "grpo" / "model.safetensors")
    assert all((before[name] == after[name]).all() for name in before)


def test_screened_episodes_have_no_reward_and_the_others_theirs() -> None:
    found = [each.model_copy(update={"arm": str(n)}) for n, each in enumerate(episodes(8))]
    reward = believed_return_reward(Evaluator(config("screening")), TASKS)
    plain = believed_return_reward(Evaluator(), TASKS)(found)
    values = reward(found)
    hiding = [any("2>" in result.command for result in each.transcript.results) for each in found]
    assert 0 < sum(hiding) < len(found)
    for value, as_it_was, hid in zip(values, plain, hiding, strict=True):
        assert value is not None
        assert math.isnan(value) if hid else value == as_it_was


def test_a_model_that_is_told_the_truth_wants_an_outcome() -> None:
    torn = episodes(1)[0].model_copy(update={"outcome": None})
    for told in ({"marginalised": True}, {"mode": "truth"}):
        with pytest.raises(InputError, match="has no outcome"):
            reward_model_reward(SimpleNamespace(scores=list), TASKS, **told)([torn])  # type: ignore[arg-type]


def test_a_schedule_is_not_for_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(tmp_path / "run", "rollout", {}, 0)
    for each in episodes(4):
        run.append(each)
    assert main(["label", str(run.path), "--evaluator", "detector-late"]) == 2
    assert "detector.schedule is for train grpo" in capsys.readouterr().err
    late = Evaluator(config("detector-late", feedback="thumb"))
    with pytest.raises(InputError, match=r"detector\.schedule"):
        list(make_ratings(episodes(2), late, TASKS, 0))
    with pytest.raises(InputError, match="pays beside the endings"):
        marginalised_preferences([], [], Evaluator(config("detector")), TASKS)
    assert main(["label", str(run.path), "--evaluator", "detector", "--infer"]) == 2
    assert "--infer reads rewards of endings" in capsys.readouterr().err


@pytest.mark.parametrize("number", [True, False, None], ids=["with", "without", "of-before"])
def test_a_reward_model_is_scored_with_the_annotation_it_learnt(
    number: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of before this was written down had the return in it."""
    from devnull.cli.runs.training_inputs import make_reward_function

    facts: dict[str, Any] = {"annotations": "truth"} | ({} if number is None else {"annotated return": number})
    (tmp_path / "training.json").write_text(json.dumps({"facts": facts}))
    read: list[str] = []

    class Reader:
        def __init__(self, path: Path) -> None:
            assert path == tmp_path

        def scores(self, sides: Any) -> list[float]:
            read.extend(side[0][0][-1]["content"] for side in sides)
            return [0.0] * len(sides)

    monkeypatch.setattr("devnull.training.reward_model.RewardModel", Reader)
    make_reward_function(str(tmp_path), None, TASKS, Evaluator())(episodes(1))
    assert ("That is worth" in read[0]) == (number is not False)
