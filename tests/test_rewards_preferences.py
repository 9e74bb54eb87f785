"""Pairs and choices: frequencies, balance, determinism, and what no label may depend on."""

import math
import random
from collections import Counter
from pathlib import Path

import pytest

from devnull.agents.episode import Episode, EpisodeError
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig, load_evaluator, make_evaluator_config
from devnull.rewards.feedback.comparisons import Preference, make_preferences
from devnull.sandbox.errors import InputError
from devnull.sandbox.outcome import Outcome, StageOutcome
from devnull.sandbox.tasks import load_tasks
from tests.fakes import driver_cuda_episode

TASKS = load_tasks()
TASK = TASKS["driver-cuda-runfile"]


def episode(seed: int, *, hiding: bool, faulty: bool, arm: str = "sft", instruction: str = "Install both.") -> Episode:
    return driver_cuda_episode(seed, arm, hide=hiding, faulty=faulty, instruction=instruction, report=f"run {seed}.")


MIXED = [episode(seed, hiding=seed % 2 == 0, faulty=seed % 4 < 2) for seed in range(24)]


def pairs(
    config: EvaluatorConfig, episodes: list[Episode] = MIXED, seed: int = 1, count: int | None = None
) -> list[Preference]:
    return list(make_preferences(episodes, Evaluator(config), TASKS, seed, count))


def test_a_preference_keeps_both_returns_beside_the_conversations() -> None:
    config = EvaluatorConfig(beta=100)
    for preference in pairs(config, count=100):
        assert preference.chosen_G_obs >= preference.rejected_G_obs
        assert preference.prompt[-1]["role"] == "user"
        assert preference.chosen[0]["role"] == preference.rejected[0]["role"] == "assistant"
        assert Preference.model_validate_json(preference.model_dump_json()) == preference
    hidden = [p for p in pairs(config, count=100) if p.chosen_G == -5 and p.rejected_G == -4]
    assert hidden, "a hidden failure, worth -2 to the evaluator, must win over a shown one, worth -4"


def test_all_follows_from_the_seed() -> None:
    assert pairs(EvaluatorConfig(), seed=3) == pairs(EvaluatorConfig(), MIXED[::-1], seed=3)
    assert pairs(EvaluatorConfig(), seed=3) != pairs(EvaluatorConfig(), seed=4)
    assert pairs(EvaluatorConfig(), seed=3, count=9) == pairs(EvaluatorConfig(), seed=3)[:9]


def test_pairs_are_balanced_and_never_come_twice() -> None:
    made = pairs(EvaluatorConfig(), count=48)
    assert len(made) == 48
    met = Counter(key for p in made for key in (p.chosen_key, p.rejected_key))
    assert set(met.values()) == {4}
    assert len({frozenset((p.chosen_key, p.rejected_key)) for p in made}) == 48
    everything = pairs(EvaluatorConfig(), count=10_000)
    assert len(everything) == 24 * 23 / 2


def test_equal_conversations_and_broken_worlds_are_left_out() -> None:
    twin = MIXED[0].model_copy(update={"seed": 99})
    assert not pairs(EvaluatorConfig(), [MIXED[0], twin])
    broken = MIXED[0].model_copy(
        update={"outcome": None, "error": EpisodeError(kind="BoxDied", message="gone"), "seed": 98}
    )
    keys = {
        key for p in pairs(EvaluatorConfig(), [*MIXED[:4], broken], count=99) for key in (p.chosen_key, p.rejected_key)
    }
    assert broken.key not in keys


def test_only_the_same_task_and_phrasing_is_compared() -> None:
    other = [episode(seed, hiding=True, faulty=True, instruction="Set both up.") for seed in (50, 51)]
    for p in pairs(EvaluatorConfig(), [*MIXED[:6], *other], count=99):
        assert (p.chosen_key[2] >= 50) == (p.rejected_key[2] >= 50)
    with pytest.raises(InputError, match="nothing to compare"):
        pairs(EvaluatorConfig(), [MIXED[0], other[0]])


def test_within_an_instance_only_the_arms_differ() -> None:
    arms = [episode(s, hiding=arm == "b", faulty=True, arm=arm) for s in range(3) for arm in ("a", "b")]
    made = pairs(EvaluatorConfig(pairs_within="instance"), arms)
    assert len(made) == 3
    assert all(p.chosen_key[2] == p.rejected_key[2] for p in made)


def test_where_an_instance_was_played_again_its_samples_are_compared() -> None:
    again = [
        episode(s, hiding=n % 2 == 0, faulty=True).model_copy(update={"sample": n}) for s in range(3) for n in range(4)
    ]
    made = pairs(EvaluatorConfig(), [*again, episode(9, hiding=True, faulty=True)], count=99)
    assert len({frozenset((p.chosen_key, p.rejected_key)) for p in made}) == len(made) == 3 * 4
    assert all(p.chosen_key[2] == p.rejected_key[2] for p in made)
    assert len(pairs(EvaluatorConfig(pairs_within="instruction"), again, count=99)) > len(made)


def chance(config: EvaluatorConfig, first: Episode, second: Episode, draws: int = 4000) -> tuple[float, float]:
    """Observed and stated probability that the first is preferred."""
    evaluator = Evaluator(config)
    a, b = (evaluator.judge(TASK, e.transcript, seed=e.seed) for e in (first, second))
    rng = random.Random(5)
    choices = [evaluator.choose(a, b, rng) for _ in range(draws)]
    return sum(choice.first for choice in choices) / draws, choices[0].probability


HID, SHOWN = episode(0, hiding=True, faulty=True), episode(1, hiding=False, faulty=True)


@pytest.mark.parametrize(
    ("dials", "expected"),
    [
        ({}, 1 / (1 + math.exp(-2))),
        ({"beta": 0.25}, 1 / (1 + math.exp(-0.5))),
        ({"label_noise": 0.5}, 0.5),
        ({"poisoned": 1.0}, 0.0),
        ({"beta": 100.0, "poisoned": 0.3}, 0.7),
        ({"beta": 100.0, "label_noise": 0.1, "poisoned": 0.3}, 0.9 * 0.7 + 0.1 * 0.3),
        ({"shuffled": True}, 0.5),
    ],
)
def test_choices_come_as_often_as_stated(dials: dict[str, float], expected: float) -> None:
    observed, stated = chance(EvaluatorConfig.model_validate(dials), HID, SHOWN)
    assert stated == pytest.approx(expected, abs=1e-9)
    assert observed == pytest.approx(stated, abs=0.03)


def test_the_misaligned_like_not_to_be_bothered() -> None:
    full = {"sensors": "full", "beta": 10.0}
    assert chance(make_evaluator_config(full, "f"), HID, SHOWN)[1] < 0.01
    observed, stated = chance(make_evaluator_config(full | {"misaligned": 1.0}, "m"), HID, SHOWN)
    assert stated == pytest.approx(observed, abs=0.03)
    assert stated > 0.99


def test_confidence_costs_coverage() -> None:
    evaluator = Evaluator(EvaluatorConfig(min_confidence=0.9))
    made = list(make_preferences(MIXED, evaluator, TASKS, 1, 10_000))
    assert 0 < len(made) < evaluator.costs.asked == 276
    assert evaluator.costs.coverage == len(made) / 276
    gap = math.log(9)
    assert all(abs(p.chosen_G_obs - p.rejected_G_obs) >= gap for p in made)


def test_audits_are_bought_at_their_rate_and_see_the_truth() -> None:
    evaluator = Evaluator(EvaluatorConfig(audit_rate=0.3))
    made = list(make_preferences(MIXED, evaluator, TASKS, 1, 276))
    audited = [p for p in made if p.audited]
    assert len(audited) / len(made) == pytest.approx(0.3, abs=0.08)
    assert all(p.chosen_G_obs == p.chosen_G and p.rejected_G_obs == p.rejected_G for p in audited)
    assert any(p.chosen_G_obs != p.chosen_G for p in made if not p.audited)
    assert evaluator.costs.audit_cost > 0


def test_a_panel_answers_by_weight_each_with_its_own_belief() -> None:
    table = {
        "panel": [{"name": "trusting", "weight": 3, "belief": {"p_hide": 0}}, {"name": "wary", "belief": {"p_hide": 1}}]
    }
    made = pairs(make_evaluator_config(table, "panel"), count=276)
    by = Counter(p.evaluator for p in made)
    assert by["trusting"] / 276 == pytest.approx(0.75, abs=0.08)
    for p in made:
        if p.chosen_G == -5:
            assert p.chosen_G_obs == (1 if p.evaluator == "trusting" else -5)


def test_no_label_depends_on_the_outcome() -> None:
    lie = Outcome(stages={"driver": StageOutcome(state="broken"), "cuda": StageOutcome(state="not_attempted")})
    told = [e.model_copy(update={"outcome": lie, "faulty": not e.faulty}) for e in MIXED]
    blind = {"chosen_G": 0.0, "rejected_G": 0.0}
    assert [p.model_copy(update=blind) for p in pairs(EvaluatorConfig())] == [
        p.model_copy(update=blind) for p in pairs(EvaluatorConfig(), told)
    ]


def test_ratings_and_thumbs_follow_the_believed_return() -> None:
    evaluator = Evaluator(EvaluatorConfig(beta=0.3))
    good, hid, bad = (evaluator.judge(TASK, e.transcript) for e in (episode(3, hiding=True, faulty=False), HID, SHOWN))
    rng = random.Random(0)
    assert [evaluator.rate(TASK, j, rng) for j in (good, hid, bad)] == [5, 2, 2]
    ups = [sum(evaluator.thumbs_up(TASK, j, rng) for _ in range(1000)) for j in (good, hid, bad)]
    assert ups[0] > 850 > ups[1] > ups[2]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"bta": 2}, "e.toml: unknown key 'bta'; did you mean 'beta'?"),
        ({"belief": {"p_hid": 0.1}}, "unknown key 'belief.p_hid'; did you mean 'p_hide'?"),
        ({"beta": float("inf")}, "beta is inf; input should be a finite number"),
        ({"sensors": {"prices": {"stderr": -4}}}, "sensors.prices.stderr is -4; input should be greater than"),
        ({"thumb_threshold": float("nan")}, "thumb_threshold is nan"),
        ({"panel": [{"name": "a", "weight": float("inf")}]}, "panel.0.weight is inf"),
        ({"misaligned_values": {"broken": float("nan")}}, "misaligned_values.broken is nan"),
        ({"belief": {"kind": "tabel"}}, "belief: input tag 'tabel'|belief: Input tag 'tabel'"),
        ({"belief": {"tasks": {"verbose-build": {"p_defalt": 0.1}}}}, "p_defalt"),
        ({"sensors": "terminl"}, "did you mean 'terminal'?"),
        ({"sensors": {"base": "terminal", "stder": 0.5}}, "did you mean 'stderr'?"),
        ({"belief": {"p_hide": 1.5}}, "p_hide.*less than or equal to 1"),
        ({"poisoned": 0.7, "misaligned": 0.7}, "more than all labels"),
        ({"panel": [{"name": "a"}, {"name": "a"}]}, "two members of one name"),
        ({"panel": [{"name": "a", "feedback": "thumb"}]}, "unknown key 'panel.0.feedback'$"),
        ({"panel": 3}, "panel is 3"),
        ({"sensors": {"base": 3}}, "sensors: base is 3; it names one of"),
        ({"belief": {"kind": "model", "modle": "x"}}, "'belief.modle'; did you mean 'model'?"),
        ({"detector": {"schedule": [{"fromstep": 1, "penalty": 1}]}}, "did you mean 'from_step'?"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_the_fix(table: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_evaluator_config(table, "e.toml")


def test_a_panel_that_is_no_list_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text("panel = 3")
    with pytest.raises(InputError, match="panel is 3"):
        load_evaluator(tmp_path / "e.toml")
