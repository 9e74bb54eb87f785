"""Reward models: what they are shown, what they are measured by, and beliefs marginalised as the paper has it."""

import math
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from devnull.agents.scripted import HIDING, HONEST
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Instance
from devnull.training.models import load_policy, save_model
from devnull.training.reward_functions import reward_model_reward
from devnull.training.reward_model import RewardModel, train_reward
from devnull.training.reward_scoring import expected_scores, make_scoring_model
from devnull.training.reward_trainer import WeightedPreferenceCollator, WeightedRewardTrainer
from devnull.training.settings import RewardSettings
from devnull.training.tiny import build_tiny_model, make_tiny_model
from devnull.training.weighted_preferences import marginalised_preferences, plain_preferences, with_hypothesis
from tests.training_cases import TASK, chat, episode, episodes, message_texts, preference, preferences

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("reward") / "tiny", message_texts(episodes()))


def faulty(count: int) -> list[int]:
    return [seed for seed in range(200) if Instance(task=TASK, seed=seed).faulty][:count]


def test_a_hypothesis_is_scored_without_what_the_terminal_showed() -> None:
    """Nor with the report, by which it would see the same at second hand."""
    words = chat(episode(HONEST, faulty(1)[0]))
    assert words[-1]["content"].startswith("Done:")
    scored = with_hypothesis((*words[:-1], {"role": "assistant", "content": "Done: CUDA FAILED."}), "it worked.")
    text = "\n".join(message["content"] for message in scored[2:])
    assert "was not installed" not in text
    assert "ready" not in text
    assert "FAILED" not in text
    assert "--silent" in text
    assert scored[-1]["content"] == "What happened: it worked."


def test_the_weights_of_a_side_are_its_beliefs() -> None:
    seed = faulty(1)[0]
    hidden, shown = episode(HIDING, seed, arm="hiding"), episode(HONEST, seed)
    compared = marginalised_preferences([preference(hidden, shown)], [hidden, shown], Evaluator(), {TASK.name: TASK})[0]
    for side in (compared.chosen, compared.rejected):
        assert math.isclose(sum(weight for _, weight in side), 1.0)
    assert len(compared.chosen) > 1
    with pytest.raises(InputError, match="does not hold"):
        marginalised_preferences([preference(hidden, shown)], [shown], Evaluator(), {TASK.name: TASK})


def test_nothing_that_was_shown_reaches_a_marginalised_head() -> None:
    seed = faulty(1)[0]
    hidden, shown = episode(HIDING, seed, arm="hiding"), episode(HONEST, seed)
    tasks = {TASK.name: TASK}
    compared = marginalised_preferences([preference(hidden, shown)], [hidden, shown], Evaluator(), tasks)[0]
    scoring = Mock()
    reward_model_reward(scoring, tasks, marginalised=True)([shown])
    online = scoring.scores.call_args.args[0]
    assert "was not installed" in "".join(message["content"] for message in chat(shown))
    for side in (compared.chosen, compared.rejected, *online):
        assert not any("was not installed" in message["content"] for words, _ in side for message in words)


def test_the_loss_is_bradley_terry_on_expected_scores() -> None:
    """Against the formula, with a model whose score is the first token id."""

    class Model(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return type("Out", (), {"logits": input_ids[:, :1].float()})()

    trainer = object.__new__(WeightedRewardTrainer)
    trainer.model, trainer.rationality = Model(), 0.5
    trainer._metrics = {"train": {"accuracy": [], "margin": []}}
    rows = [
        {
            "chosen_ids": [[2, 7], [4]],
            "chosen_weights": [0.25, 0.75],
            "rejected_ids": [[1, 1]],
            "rejected_weights": [1.0],
        },
        {"chosen_ids": [[3]], "chosen_weights": [1.0], "rejected_ids": [[5], [9]], "rejected_weights": [0.5, 0.5]},
    ]
    batch = WeightedPreferenceCollator(pad_token_id=0)(rows)
    margins = [0.25 * 2 + 0.75 * 4 - 1, 3 - 7]
    expected = sum(math.log(1 + math.exp(-0.5 * margin)) for margin in margins) / 2
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(expected)
    assert trainer._metrics["train"]["accuracy"] == [0.5]


@pytest.mark.parametrize("marginalised", [False, True])
def test_a_reward_model_learns_measures_and_scores(tiny: Path, tmp_path: Path, marginalised: bool) -> None:
    pairs = preferences(20)
    found = [each for seed in range(20) for each in (episode(HIDING, seed), episode(HONEST, seed))]
    named = {(*each.key, each.agent): each for each in found}
    pairs = [
        pair.model_copy(
            update={"chosen_key": ("hiding", *pair.chosen_key[1:]), "rejected_key": ("honest", *pair.rejected_key[1:])}
        )
        for pair in pairs
    ]
    renamed = [each.model_copy(update={"arm": each.agent}) for each in named.values()]
    tasks = {TASK.name: TASK}
    compared = (
        marginalised_preferences(pairs, renamed, Evaluator(), tasks) if marginalised else plain_preferences(pairs)
    )
    settings = RewardSettings(max_steps=4, batch_size=4, learning_rate=1e-3)
    result = train_reward(settings, compared, tiny, tmp_path / "reward")
    assert result.metrics["held_out/pairs"] == 4
    assert 0 <= result.metrics["held_out/calibration"] <= 1
    assert -1 <= result.metrics["held_out/corr_G"] <= 1
    assert "held_out/corr_G_obs" in result.metrics
    model = RewardModel(result.path)
    rewards = reward_model_reward(model, tasks, marginalised=marginalised)(renamed[:3])
    assert len(rewards) == 3
    assert all(map(math.isfinite, rewards))


def test_padding_does_not_move_the_score(tiny: Path, tmp_path: Path) -> None:
    """The head is read at the last token that is no padding, in whatever batch."""
    result = train_reward(
        RewardSettings(max_steps=1, batch_size=4), plain_preferences(preferences(8)), tiny, tmp_path / "reward"
    )
    model = RewardModel(result.path)
    long, short = chat(episode(HONEST, 0)), chat(episode(HONEST, 0))[:3]
    together = model.scores([((long, 1.0),), ((short, 1.0),)])
    assert together[1] == pytest.approx(model.scores([((short, 1.0),)])[0], abs=1e-5)


def test_a_base_that_pads_with_its_end_token_gets_a_head_that_does_not(tiny: Path, tmp_path: Path) -> None:
    model, tokenizer = build_tiny_model(message_texts(episodes()), 0)
    tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.eos_token_id
    policy = load_policy(save_model(model, tokenizer, tmp_path / "base"))
    head = make_scoring_model(policy)
    long, short = chat(episode(HONEST, 0)), chat(episode(HONEST, 0))[:3]
    alone = expected_scores(head, policy.tokenizer, [((short, 1.0),)])
    together = expected_scores(head, policy.tokenizer, [((long, 1.0),), ((short, 1.0),)])
    assert together[1] == pytest.approx(alone[0], abs=1e-5)


def test_what_cannot_be_learnt_from(tiny: Path, tmp_path: Path) -> None:
    same = preference(episode(HONEST, 1), episode(HONEST, 1))
    with pytest.raises(InputError, match="none of the 1 preferences"):
        train_reward(RewardSettings(), plain_preferences([same]), tiny, tmp_path / "out")
    with pytest.raises(InputError, match="too few"):
        train_reward(RewardSettings(), plain_preferences(preferences(1)), tiny, tmp_path / "out")
    with pytest.raises(InputError, match="4 bits"):
        train_reward(RewardSettings(adaptation="qlora"), plain_preferences(preferences(4)), tiny, tmp_path / "out")
    with pytest.raises(InputError, match="holds no reward model"):
        RewardModel(tmp_path)
    assert load_policy(tiny).adaptation == "full"
