"""Batches from which there is nothing to learn: they say so, and if they last, end the training."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from devnull.cli.terminal.progress import training_progress
from devnull.training.equal_groups import EQUAL, StopWhenEqual, share_of_equal_groups
from devnull.training.grpo import train_grpo
from devnull.training.settings import GRPOSettings
from devnull.training.tiny import make_tiny_model
from tests.fakes import PretendRuntime, instances, pretend_verify
from tests.training_cases import TASK, episodes, message_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
ALONE: Any = SimpleNamespace(device="cpu", reduce=lambda share, how: share)


def test_a_group_is_equal_where_no_two_of_its_rewards_differ() -> None:
    nan = float("nan")
    assert share_of_equal_groups([1, 1, 2, 2], 2) == 1
    assert share_of_equal_groups([1, 2, 2, 2], 2) == 0.5
    assert share_of_equal_groups([1, None, nan, 2, 1, 2], 2) == pytest.approx(2 / 3)
    assert share_of_equal_groups([None, None, None, None], 4) == 1


def test_it_stops_after_so_many_in_a_row_and_counts_on_after_a_break() -> None:
    watched, control = StopWhenEqual(3), SimpleNamespace(should_training_stop=False)
    for share in (1.0, 1.0, 0.5, 1.0, 1.0):
        watched.record(share, ALONE)
        watched.on_step_end(None, None, control)
    assert not control.should_training_stop and not watched.why_stopped()
    resumed = StopWhenEqual(3)
    logged = [{EQUAL: share} for share in (1.0, 1.0, 0.5, 1.0, 1.0)]
    resumed.on_train_begin(None, SimpleNamespace(log_history=[{"loss": 0.1}, *logged]), control)
    for each in (watched, resumed):
        control.should_training_stop = False
        each.record(1.0, ALONE)
        each.on_step_end(None, None, control)
        assert control.should_training_stop and "after 3 batches in a row" in each.why_stopped()
    never = StopWhenEqual(0)
    for _ in range(50):
        never.record(1.0, ALONE)
    assert not never.why_stopped()


def test_another_process_whose_rewards_differ_keeps_it_going() -> None:
    watched = StopWhenEqual(1)
    of_two: Any = SimpleNamespace(device="cpu", reduce=lambda share, how: (share + torch.tensor(0.5)) / 2)
    assert watched.record(1.0, of_two) == 0.75 and not watched.why_stopped()


def test_a_policy_that_never_differs_is_not_trained_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)
    tiny = make_tiny_model(tmp_path / "tiny", message_texts(episodes(4)))
    settings = GRPOSettings(
        max_steps=9, batch_size=2, group=2, max_new_tokens=8, max_turns=1, kl_every=0, max_equal_batches=2
    )
    runtime: Any = PretendRuntime(TASK)
    with training_progress("grpo") as callbacks:
        result = train_grpo(
            settings, instances(2, TASK), lambda found: [1.0] * len(found), runtime, tiny, tmp_path / "out",
            on_step=callbacks["grpo"],
        )  # fmt: skip
    assert result.steps == 2 and "the rewards of every group were equal" in result.stopped
    assert [entry[EQUAL] for entry in result.log if EQUAL in entry] == [1, 1]
    assert json.loads((result.path / "training.json").read_text())["facts"]["stopped"] == result.stopped
    assert capsys.readouterr().err.count("every group's rewards are equal") == 1
