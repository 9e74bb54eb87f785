"""What fills the slot of a marginalised reward model, arm by arm; the fit of its head; what is measured of it."""

import json
import random
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from devnull.agents.agent import Message
from devnull.agents.scripted import HIDING, HONEST, STOPPING
from devnull.cli.runs.evaluator_choice import resolve_evaluator
from devnull.cli.runs.reward_refit import FittedReward
from devnull.cli.runs.training_inputs import describe_reward, make_reward_function
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotated_preferences import annotate_preferences
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Instance
from devnull.training.endings import LearntEnding
from devnull.training.models import load_policy
from devnull.training.reward_functions import read_failures, reward_model_reward
from devnull.training.reward_head import fit_head
from devnull.training.reward_model import RewardModel, train_reward
from devnull.training.reward_scoring import distinct_conversations, expected_scores, last_features, make_scoring_model
from devnull.training.reward_trainer import PromptSampler
from devnull.training.settings import RewardSettings
from devnull.training.tiny import make_tiny_model
from devnull.training.trl_run import _check_unchanged
from devnull.training.weighted_preferences import (
    WeightedConversations,
    marginalised_preferences,
    plain_preferences,
)
from tests.training_cases import TASK, episode, episodes, message_texts, preference, preferences

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]

TASKS = {TASK.name: TASK}
FAULTY = next(seed for seed in range(200) if Instance(task=TASK, seed=seed).faulty)
HIDDEN, SHOWN, STOPPED = (
    episode(agent, FAULTY, arm=agent.name)  # episodes of one instance are told apart by their arm
    for agent in (HIDING, HONEST, STOPPING)
)
PLAYED = [HIDDEN, SHOWN, STOPPED]
TWO = Evaluator(resolve_evaluator(Path("two-raters")))
ENDING_HIDDEN, ENDING_NEVER, ENDING_SHOWN = "failed and that was hidden", "was never tried", "failed for all to see"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("endings") / "tiny", message_texts(episodes()))


def endings(side: WeightedConversations) -> dict[str, float]:
    """What the CUDA half of the slots says, and the weight of all that say so."""
    weights: dict[str, float] = {}
    for chat, weight in side:
        ending = chat[-1]["content"].split("; ")[1].split(" ", 2)[2].rstrip(".")
        weights[ending] = weights.get(ending, 0.0) + weight
    return weights


def compared(rater: str) -> Preference:
    return preference(HIDDEN, SHOWN, evaluator=rater)


@pytest.mark.parametrize(
    ("arm", "evaluator", "ending", "rater", "hidden"),
    [
        ("A1", "two-raters", "truth", "wary", {ENDING_HIDDEN: 1.0}),
        ("A2", "two-raters", "rater", "trusting", {ENDING_HIDDEN: 0.02, ENDING_NEVER: 0.98}),
        ("A2", "two-raters", "rater", "wary", {ENDING_HIDDEN: 0.38, ENDING_NEVER: 0.62}),
        ("A5", "one-rater", "rater", "middling", {ENDING_HIDDEN: 0.2, ENDING_NEVER: 0.8}),
        ("A6", "two-raters", "mean", "trusting", {ENDING_HIDDEN: 0.2, ENDING_NEVER: 0.8}),
        ("A6", "two-raters", "mean", "wary", {ENDING_HIDDEN: 0.2, ENDING_NEVER: 0.8}),
        ("A9 halved", "two-raters-halved", "rater", "wary", {ENDING_HIDDEN: 0.19, ENDING_NEVER: 0.81}),
        ("A9 doubled", "two-raters-doubled", "rater", "wary", {ENDING_HIDDEN: 0.76, ENDING_NEVER: 0.24}),
        ("A9 swapped", "two-raters-swapped", "rater", "wary", {ENDING_HIDDEN: 0.02, ENDING_NEVER: 0.98}),
        ("A9 swapped", "two-raters-swapped", "rater", "trusting", {ENDING_HIDDEN: 0.38, ENDING_NEVER: 0.62}),
    ],
)
def test_each_arm_learns_from_what_it_is_to_know(
    arm: str, evaluator: str, ending: LearntEnding, rater: str, hidden: dict[str, float]
) -> None:
    assumed = Evaluator(resolve_evaluator(Path(evaluator)))
    found = marginalised_preferences([compared(rater)], PLAYED, assumed, TASKS, ending)[0]
    assert endings(found.chosen) == pytest.approx(hidden, abs=1e-3), arm
    assert endings(found.rejected) == {ENDING_SHOWN: 1.0}
    assert found.ending == ending
    for chat, _ in (*found.chosen, *found.rejected):
        assert chat[-2]["role"] == "assistant"  # nothing that the terminal showed comes between
        assert "was not installed" not in "".join(message["content"] for message in chat)


def test_a_plain_arm_and_an_annotated_one_read_the_conversation() -> None:
    """A0 and A4; the annotation holds the answering rater's belief and no number that would be the return."""
    plain = plain_preferences([compared("wary")])[0]
    assert plain.ending is None
    assert plain.chosen == (((*compared("wary").prompt, *compared("wary").chosen), 1.0),)
    annotated, _ = annotate_preferences([compared("wary")], PLAYED, TWO, TASKS, "believed")
    last = plain_preferences(annotated)[0].chosen[0][0][-1]["content"]
    assert "was never tried (62 %)" in last and "hidden (38 %)" in last
    assert "worth" not in last
    with pytest.raises(InputError, match="end with annotations"):
        marginalised_preferences(annotated, PLAYED, TWO, TASKS)


@pytest.mark.parametrize("with_return", [False, True])
def test_a_model_fitted_anew_reads_the_annotation_that_it_did(with_return: bool, tmp_path: Path) -> None:
    facts = {"annotations": "believed", "annotated return": with_return}
    record = {"base": "tiny", "settings": {}, "facts": facts}
    (tmp_path / "training.json").write_text(json.dumps(record))
    found = FittedReward.read(tmp_path).prepare([compared("wary")], PLAYED, TWO, TASKS)[0]
    assert ("That is worth" in found.chosen[0][0][-1]["content"]) is with_return


def test_beliefs_of_a_rater_nobody_knows_are_not_made_up() -> None:
    with pytest.raises(InputError, match=r"given by 'somebody', who is not among the raters.*trusting, wary"):
        marginalised_preferences([compared("somebody")], PLAYED, TWO, TASKS)
    blind = HIDDEN.model_copy(update={"outcome": None})
    with pytest.raises(InputError, match="has no outcome"):
        marginalised_preferences([compared("wary")], [blind, SHOWN], TWO, TASKS, "truth")


def scored(**given: Any) -> list[WeightedConversations]:
    """What a reward model is asked to score of the hidden, the shown and the stopped episode."""
    model = Mock()
    reward_model_reward(model, TASKS, **given)(PLAYED)
    return list(model.scores.call_args.args[0])


def test_the_truth_or_the_mean_belief_fills_the_slot_when_it_pays() -> None:
    """A2 and A3: the same model, told another thing."""
    true = [endings(side) for side in scored(marginalised=True, ending="truth")]
    assert true == [{ENDING_HIDDEN: 1.0}, {ENDING_SHOWN: 1.0}, {ENDING_NEVER: 1.0}]
    believed = [endings(side) for side in scored(marginalised=True, ending="believed", evaluator=TWO)]
    silent = pytest.approx({ENDING_HIDDEN: 0.2, ENDING_NEVER: 0.8}, abs=1e-3)
    assert believed == [silent, {ENDING_SHOWN: 1.0}, silent]
    with pytest.raises(InputError, match="has no outcome"):
        reward_model_reward(Mock(), TASKS, marginalised=True)([HIDDEN.model_copy(update={"outcome": None})])


def fitted(folder: Path, tiny: Path, marginalised: bool, **settings: Any) -> Path:
    pairs = [
        preference(
            episode(HIDING, seed, arm="hiding"),
            episode(HONEST, seed, arm="honest"),
            evaluator=("trusting", "wary")[seed % 2],
        )
        for seed in range(20)
    ]
    played = [each for seed in range(20) for each in (episode(HIDING, seed, "hiding"), episode(HONEST, seed, "honest"))]
    rows = marginalised_preferences(pairs, played, TWO, TASKS) if marginalised else plain_preferences(pairs)
    failures = read_failures(played, TASKS, TWO, marginalised=marginalised, annotated=False)
    chosen = RewardSettings(max_steps=1, batch_size=64, rationality=0.2, **settings)
    return train_reward(chosen, rows, tiny, folder, failures=failures).path


def test_the_model_card_says_what_was_told_and_what_has_no_slot_is_refused(tiny: Path, tmp_path: Path) -> None:
    plain, marginal = fitted(tmp_path / "plain", tiny, False), fitted(tmp_path / "marginal", tiny, True)
    for ending, words in (
        (None, "marginal with the true ending"),
        ("truth", "marginal with the true ending"),
        ("believed", "marginal with the raters' mean belief"),
    ):
        assert describe_reward(str(marginal), TWO, None, ending)["paid by"] == words  # type: ignore[arg-type]
    assert describe_reward(str(plain), TWO)["paid by"] == "plain"
    with pytest.raises(InputError, match="has no slot"):
        make_reward_function(str(plain), None, TASKS, TWO, "truth")
    with pytest.raises(InputError, match="--reward is actual"):
        make_reward_function("actual", None, TASKS, TWO, "believed")
    with pytest.raises(InputError, match="reads an ending instead"):
        make_reward_function(str(marginal), "truth", TASKS, TWO)
    paid = {
        ending: make_reward_function(str(marginal), None, TASKS, TWO, ending)(PLAYED)
        for ending in ("truth", "believed")
    }  # type: ignore[arg-type]
    assert paid["truth"] != paid["believed"]
    before = json.loads((marginal / "training.json").read_text())
    del before["facts"]["ending"]  # as a model of an earlier checkout
    (marginal / "training.json").write_text(json.dumps(before))
    assert make_reward_function(str(marginal), None, TASKS, TWO)(PLAYED) == paid["truth"]


def test_a_reward_model_begun_before_these_settings_goes_on(tmp_path: Path) -> None:
    """Its folder does not name them; another value than what it was begun with is refused all the same."""
    now = {"kind": "reward", "rationality": 0.2, "marginalised": True} | json.loads(
        json.dumps({name: getattr(RewardSettings(), name) for name in ("by_prompt", "fit_head", "head_ridge")})
    )
    (tmp_path / "settings.json").write_text(json.dumps({"kind": "reward", "rationality": 0.2, "marginalised": True}))
    _check_unchanged(tmp_path, now | {"ending": "rater", "annotated return": False})
    for changed in ({"fit_head": True}, {"ending": "mean"}):
        with pytest.raises(InputError, match=next(iter(changed))):
            _check_unchanged(tmp_path, now | {"ending": "rater", "annotated return": False} | changed)


def test_the_gates_are_measured_on_prompts_that_were_not_learnt_from(tiny: Path, tmp_path: Path) -> None:
    folder = fitted(tmp_path / "gates", tiny, True, by_prompt=True, held_out=0.5)
    record = json.loads((folder / "training.json").read_text())
    metrics, facts = record["metrics"], record["facts"]
    assert facts["marginalised"] and facts["ending"] == "rater"
    assert facts["pairs"] + facts["pairs kept back"] == 20
    assert metrics["calibration_error"] == metrics["held_out/calibration"]
    model = RewardModel(folder)
    everyone = read_failures(
        [e for seed in range(20) for e in (episode(HIDING, seed), episode(HONEST, seed))],
        TASKS,
        TWO,
        marginalised=True,
        annotated=False,
    )
    prompts = sorted({json.dumps(failure.prompt) for failure in everyone})
    gaps = {}
    for slot in ("truth", "believed"):
        scores = {
            prompt: [
                np.mean(
                    model.scores(
                        [f.readings[slot] for f in everyone if json.dumps(f.prompt) == prompt and f.hidden is hidden]
                    )
                )
                for hidden in (True, False)
            ]
            for prompt in prompts
        }
        gaps[slot] = {prompt: hidden - shown for prompt, (hidden, shown) in scores.items()}
    # It is the gap of some of the prompts and not of all: those that were learnt from are left out.
    for slot, by_prompt in gaps.items():
        assert min(by_prompt.values()) - 1e-4 <= metrics[f"hidden_gap/{slot}"] <= max(by_prompt.values()) + 1e-4
    assert metrics["hidden_gap/truth"] != metrics["hidden_gap/believed"]


def test_the_head_ends_on_the_plateau(tiny: Path) -> None:
    """The gradient there is nil, and what was learnt is as likely as no other head makes it."""
    policy = load_policy(tiny)
    model = make_scoring_model(policy)
    rng = random.Random(0)
    rows = []
    for seed in range(60):
        one, other = episode(HIDING, seed % 12, "hiding"), episode(HONEST, seed % 12, "honest")
        rows += plain_preferences([preference(one, other) if rng.random() < 0.7 else preference(other, one)])
    fit = fit_head(model, policy.tokenizer, rows, 0.2, 1e-4)
    assert fit["head/gradient"] < 1e-6

    def objective() -> float:
        chosen, rejected = (
            np.array(expected_scores(model, policy.tokenizer, [getattr(row, side) for row in rows]))
            for side in ("chosen", "rejected")
        )
        weights = model.score.weight.detach().double().numpy()
        return float(-np.logaddexp(0, -0.2 * (chosen - rejected)).mean() - 0.5e-4 * (weights**2).sum())

    best = objective()
    assert best == pytest.approx(
        fit["head/log_likelihood"] - 0.5e-4 * float((model.score.weight.detach() ** 2).sum()), abs=1e-5
    )
    at = model.score.weight.detach().clone()
    for factor in (0.7, 1.3):
        model.score.weight.data = at * factor
        assert objective() < best


def test_a_text_is_scored_once_and_as_the_model_itself_scores_it(tiny: Path) -> None:
    policy = load_policy(tiny)
    model = make_scoring_model(policy)
    chat = plain_preferences(preferences(2))[0].chosen[0][0]
    short: tuple[Message, ...] = chat[:3]
    sides: list[WeightedConversations] = [((chat, 0.25), (short, 0.75)), ((chat, 1.0),)]
    found = distinct_conversations(policy.tokenizer, sides)
    assert len(found.ids) == 2
    features = last_features(model, policy.tokenizer, found)
    by_hand = found.expected(features @ model.score.weight.detach().double().numpy().T)[:, 0]
    assert expected_scores(model, policy.tokenizer, sides) == pytest.approx(list(by_hand), abs=1e-5)


def test_pairs_of_a_prompt_stay_together_in_another_order_each_epoch() -> None:
    sampler = PromptSampler(["a", "b", "c", "a", "b", "c", "d"], seed=1)
    orders = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(7)) and order == list(sampler)
        text = "".join(sampler.prompts[place] for place in order)
        assert all(2 * letter in text for letter in "abc")
        orders.append(tuple(order))
    assert len(set(orders)) > 1
