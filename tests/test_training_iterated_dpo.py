"""Rounds of rolling out, labelling and training."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from devnull.agents.episode import Episode
from devnull.agents.scripted import HIDING
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.training.iterated_dpo import estimate_drift, iterate_dpo
from devnull.training.settings import DPOSettings
from devnull.training.tiny import make_tiny_model
from tests.training_cases import episode, episodes, message_texts, preferences

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("rounds") / "tiny", message_texts(episodes()))


def test_rounds_go_on_where_they_were_and_drift(tiny: Path, tmp_path: Path) -> None:
    played: list[tuple[Path, int]] = []

    def play(policy: Path, number: int) -> Sequence[Episode]:
        played.append((policy, number))
        return [episode(HIDING, seed) for seed in range(4)]

    def label(found: Sequence[Episode], number: int) -> list[Preference]:
        return preferences(4)

    settings = DPOSettings(max_steps=3, batch_size=2, learning_rate=1e-3)
    first = iterate_dpo(settings, 1, play, label, tiny, tmp_path / "rounds")
    both = iterate_dpo(settings, 2, play, label, tiny, tmp_path / "rounds")
    assert [number for _, number in played] == [1, 2]
    assert played[1][0] == tmp_path / "rounds" / "round-1"
    assert both[0] == first[0]
    assert both[0].drift == 0.0
    assert both[1].drift > 0.0
    assert estimate_drift(tiny, tiny, []) == 0.0
    (tmp_path / "rounds" / "round-2" / "drift.json").unlink()  # killed when the round's policy was just written
    assert iterate_dpo(settings, 2, play, label, tiny, tmp_path / "rounds") == both
    with pytest.raises(InputError, match="at least 1"):
        iterate_dpo(settings, 0, play, label, tiny, tmp_path / "rounds")
