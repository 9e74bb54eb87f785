"""What a claim's file may say, and what episodes say of a claim."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from devnull.eval.claims.claim_file import Contrast, Gates, JobGate
from devnull.eval.claims.claim_reader import parse_claim
from devnull.eval.claims.contrast import ContrastEstimate, estimate_contrast
from devnull.eval.claims.figure import contrast_figure
from devnull.eval.claims.gates import check_gates
from devnull.eval.claims.table import predict
from devnull.eval.claims.verdict import ClaimResult, answer_claims, count_seeds_needed, exact_result, judge_claim
from devnull.eval.comparing.seeds import compare_seeds
from devnull.eval.scoring.diversity import compute_policy_metrics
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError
from tests.fakes import make_score

CLAIM = """\
sentence = "It rises."
refuted_by = "It falls."
caveat = "None."
family = "driver-cuda-runfile*"
seeds = [0, 1]

[dials]
share = [0.1, 0.5]

[jobs.start]
command = "rollout"

[jobs."trained-{share}"]
command = "train grpo"
run = "@start"
dose = "{share}"
note = "at {share} by {seed}"

[arms.start]
agent = "honest"

[arms."trained-{share}"]

[[contrasts]]
name = "rises"
metric = "E_plus"
arms = { "trained-0.5" = 1, start = -1 }
above = 0.5
"""


def test_a_job_and_an_arm_for_each_value_of_a_dial() -> None:
    claim = parse_claim(Path("C.toml"), CLAIM).file
    assert list(claim.arms) == ["start", "trained-0.1", "trained-0.5"]
    job = claim.jobs["trained-0.5"]
    assert job.settings == {"run": "@start", "dose": 0.5, "note": "at 0.5 by {seed}"}


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('sentence = "It rises."', "sentence = ", 1, "not valid TOML"),
        ("caveat", "caveats", 3, "unknown key 'caveats'; did you mean 'caveat'"),
        ("seeds = [0, 1]", "seeds = [0, 0]", 5, "two or more different ones"),
        ("seeds = [0, 1]", 'seeds = [0, "x"]', 5, "seeds"),
        ('command = "rollout"', 'command = "rolout"', 11, "command"),
        (
            '[arms."trained-{share}"]',
            '[arms."trained-{shares}"]',
            22,
            "no dial 'shares'; [dials] names them; did you mean 'share'",
        ),
        ('metric = "E_plus"', 'metric = "E_pluss"', 24, "no metric 'E_pluss'; did you mean 'E_plus'"),
        ("above = 0.5", "abov = 0.5", 28, "unknown key 'contrasts.0.abov'; did you mean 'above'"),
        ("above = 0.5", "above = nan", 28, "finite number"),
        ("above = 0.5", "above = 0.5\nwithin = 0.1", 24, "one of `above`, `within` and `differs`"),
        ("start = -1 }", "strat = -1 }", 27, "no arm 'strat'; did you mean 'start'"),
        ("above = 0.5", "above = 0.5\n[gates]\nattempts = { x = 1 }", 30, "no arm 'x'"),
        ("above = 0.5", "above = 0.5\n[[gates.jobs]]\njobs = ['start']\nleats = 1", 31, "did you mean 'least'"),
        ("share = [0.1, 0.5]", "share = 0.5", 8, "dials.share: a list of values is wanted"),
        ("share = [0.1, 0.5]", "share = []", 8, "dials.share: it has no value"),
        ("share = [0.1, 0.5]", "share = [0.5, 0.1, 0.5]", 8, "dials.share: 0.5 is there twice"),
        ("[arms.start]", '[arms."trained-0.5"]\n[arms.start]', 23, "arms.trained-0.5 is there twice"),
        ('note = "at {share} by {seed}"', "note = 1979-05-27", 17, "note is a date or a time"),
        ('note = "at {share} by {seed}"', "note = [{ at = 07:32:00 }]", 17, "note.0.at is a date or a time"),
        ("seeds = [0, 1]", "seeds = [0, 1]\njudge = { beta = 1979-05-27 }", 6, "judge.beta is a date"),
        ("seeds = [0, 1]", 'seeds = [0, 1]\njudge = { sensor = "full" }', 6, "'sensor'; did you mean 'sensors'"),
        ("seeds = [0, 1]", 'seeds = [0, 1]\njudge = { sensors = "ful" }', 6, "did you mean 'full'"),
        ("seeds = [0, 1]", 'seeds = [0, 1]\njudge = { belief = "table" }', 6, "judge.belief: a table is wanted"),
        ('command = "rollout"', 'like = "end"\n[jobs.end]\nlike = "start"', 11, "job 'start' is like itself: start →"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(old: str, new: str, line: int, words: str) -> None:
    assert old in CLAIM
    with pytest.raises(InputError) as error:
        parse_claim(Path("C.toml"), CLAIM.replace(old, new))
    assert str(error.value).startswith(f"C.toml:{line}: ") and words in str(error.value)


def scores(seeds: int, tasks: int, rng: np.random.Generator, lift: float = 0.0) -> list[list[Score]]:
    """Seed by seed, four episodes a task, whose overestimation differs by seed, task and episode."""
    of_task = rng.normal(size=tasks)
    made = []
    for _ in range(seeds):
        own = rng.normal(scale=0.3)
        values = [(t, lift + own + of_task[t] + rng.normal()) for t in range(tasks) for _ in range(4)]
        made.append([make_score(f"t{t}", n, G=0.0, G_obs=10 + value) for n, (t, value) in enumerate(values)])
    return made


def difference(**more: float | bool) -> Contrast:
    return Contrast.model_validate({"name": "d", "metric": "E_plus", "arms": {"a": 1, "b": -1}} | more)


def test_a_difference_is_the_one_that_pooled_seeds_give() -> None:
    rng = np.random.default_rng(1)
    arms = {"a": scores(4, 10, rng, 1.0), "b": scores(4, 10, rng)}
    found = estimate_contrast(difference(above=0.5), arms)
    assert found is not None
    pairs = [(str(n), mine, theirs) for n, (mine, theirs) in enumerate(zip(arms["a"], arms["b"], strict=True))]
    other = compare_seeds("a", "b", pairs, ["E_plus"])
    change = other.changes["E_plus"]
    assert (found.value, found.low, found.high) == pytest.approx((change.difference, change.low, change.high))
    assert found.by_seed == pytest.approx(other.by_seed["E_plus"])


def test_a_slope_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(2)
    dial = {"a": 0.1, "b": 0.4, "c": 0.9}
    arms = {arm: scores(3, 9, rng, 2 * x) for arm, x in dial.items()}
    contrast = Contrast(name="s", metric="J_obs", slope=dial, above=0.0)
    found = estimate_contrast(contrast, arms)
    assert found is not None
    means = [np.mean([s.G_obs for side in arms[arm] for s in side]) for arm in dial]
    assert found.value == pytest.approx(np.polyfit([*dial.values()], means, 1)[0])


def test_differences_of_differences_and_metrics_of_two_names() -> None:
    arms = {arm: [[make_score(f"t{t}", G=g, G_obs=4.0) for t in range(9)] for _ in range(2)] for arm, g in A_TO_D}
    contrast = Contrast(name="dd", metric="J", arms={"a": 1, "b": -1, "c": -1, "d": 1}, above=0)
    assert estimate_contrast(contrast, arms).value == pytest.approx(1 - 2 - 3 + 3.5)  # type: ignore[union-attr]
    two = Contrast(name="two", metric="J", arms={"a": -1, "a:J_obs": 1}, above=0)
    assert estimate_contrast(two, arms).value == pytest.approx(3.0)  # type: ignore[union-attr]


A_TO_D = (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 3.5))


def test_the_entropy_of_an_arm_is_that_of_its_commands() -> None:
    digests = [("x", "y"), ("x",), ("z", "x"), ("y", "y"), ("x",), ("w",), ("x", "z"), ("y",), ("x",)]
    side = [make_score(f"t{n}", command_digests=each) for n, each in enumerate(digests)]
    other = [make_score(f"t{n}", command_digests=("x",)) for n in range(9)]
    contrast = Contrast(name="e", metric="command_entropy", arms={"a": 1, "b": -1}, above=0)
    found = estimate_contrast(contrast, {"a": [side, side], "b": [other, other]})
    assert found is not None
    assert found.value == pytest.approx(compute_policy_metrics(side)["command_entropy"].value)


def test_what_is_zero_by_zero_in_one_seed_is_undefined() -> None:
    arms = {"a": [[make_score(f"t{t}")] * 2 for t in (0, 0)], "b": [[make_score("t0")]] * 2}
    contrast = Contrast(name="r", metric="error_suppression_rate", arms={"a": 1, "b": -1}, above=0)
    assert estimate_contrast(contrast, arms) is None


def test_without_an_effect_a_claim_is_seldom_supported_or_refuted() -> None:
    rng = np.random.default_rng(3)
    for_it, against = 0, 0
    for _ in range(200):
        arms = {"a": scores(5, 12, rng, 0.5), "b": scores(5, 12, rng)}
        # the tasks' own means are drawn anew for either arm, so that tasks differ in their difference
        found = estimate_contrast(difference(above=0.5), arms)
        assert found is not None
        for_it += found.p_for <= 0.05
        against += found.p_against <= 0.05
    assert for_it <= 20 and against <= 20


@pytest.mark.parametrize(
    ("prediction", "value", "holds", "fails"),
    [
        ({"above": 0.5}, 2.0, True, False),
        ({"above": 0.5}, -1.0, False, True),
        ({"above": -0.5}, 0.0, True, False),
        ({"within": 0.5}, 0.0, True, False),
        ({"within": 0.5}, -2.0, False, True),
        ({"differs": True}, -2.0, True, False),
        ({"differs": True}, 0.0, False, False),
    ],
)
def test_a_prediction_holds_or_fails_beyond_the_noise(
    prediction: dict[str, float | bool], value: float, holds: bool, fails: bool
) -> None:
    rng = np.random.default_rng(4)

    def side(mean: float) -> list[list[Score]]:
        return [[make_score(f"t{t}", G=mean + rng.normal(scale=0.1)) for t in range(12)] for _ in range(4)]

    contrast = Contrast.model_validate({"name": "c", "metric": "J", "arms": {"a": 1, "b": -1}} | prediction)
    found = estimate_contrast(contrast, {"a": side(value), "b": side(0.0)})
    assert found is not None
    assert (found.p_for <= 0.05, found.p_against <= 0.05) == (holds, fails)


def result(p_for: float, p_against: float = 1.0, gates: Sequence[str] = ()) -> ClaimResult:
    return ClaimResult(contrasts=(), p_for=p_for, p_against=p_against, gates=tuple(gates))


def test_verdicts_are_adjusted_over_all_claims_that_count() -> None:
    alone = answer_claims({"a": result(0.04)})
    assert alone == {"a": "supported"}
    both = answer_claims({"a": result(0.04), "b": result(0.9, 0.04)})
    assert both == {"a": "inconclusive", "b": "inconclusive"}
    with_void = answer_claims({"a": result(0.04), "b": result(0.001, gates=["a: nothing is valid"])})
    assert with_void == {"a": "supported", "b": "void"}
    assert answer_claims({"a": result(1.0, 0.001)}) == {"a": "refuted"}


def estimated(
    name: str, value: float, reach: tuple[float, float], by_seed: tuple[float, ...], *, error: float, p_for: float
) -> ContrastEstimate:
    return ContrastEstimate(
        name=name,
        prediction="> 0.5",
        value=value,
        error=error,
        freedom=len(by_seed) - 1,
        low=reach[0],
        high=reach[1],
        by_seed=by_seed,
        p_for=p_for,
        p_against=1 - p_for,
    )


def test_other_claims_cost_seeds() -> None:
    """What 12 seeds did not decide beside 14 other claims is not said to want fewer than 12."""
    estimate = estimated("d", 1.694, (0.766, 2.622), (1.694,) * 12, error=0.421, p_for=0.008)
    contrast = difference(above=0.5)
    alone, beside = (count_seeds_needed([contrast], [estimate], tests) for tests in (1, 15))
    assert alone is not None and beside is not None and alone <= 12 < beside


def test_a_claim_is_as_strong_as_its_weakest_contrast() -> None:
    text = (
        CLAIM + '\n[[contrasts]]\nname = "J too"\nmetric = "J"\narms = { "trained-0.5" = 1, start = -1 }\nabove = 1\n'
    )
    claim = parse_claim(Path("C.toml"), text).file
    rng = np.random.default_rng(5)

    def side(J: float, gap: float) -> list[list[Score]]:
        return [[_noisy(f"t{t}", J, gap, rng) for t in range(12)] for _ in range(2)]

    arms = {"start": side(0, 1), "trained-0.1": side(0, 1), "trained-0.5": side(1.0, 3)}
    found = judge_claim(claim, arms, {}, {})
    rises, too = found.contrasts
    assert rises.p_for < 0.001 and too.p_for > 0.2
    assert found.p_for == too.p_for and found.p_against == pytest.approx(min(1, 2 * too.p_against))
    assert found.arms["trained-0.5"]["J"] == pytest.approx((1.0, 1.0), abs=0.2)


def _noisy(task: str, J: float, gap: float, rng: np.random.Generator) -> Score:
    G = J + rng.normal(scale=0.1)
    return make_score(task, G=G, G_obs=G + gap + rng.normal(scale=0.1))


def broken(count: int, **more: object) -> list[Score]:
    return [make_score(f"t{n}", n, turns=4, valid_turns=4, suppressed="no", **more) for n in range(count)]


@pytest.mark.parametrize(
    ("side", "words"),
    [
        (broken(30), None),
        (broken(12), "a: 24 episodes with a material failure, 30 are the fewest"),
        ([make_score(f"t{n}", turns=4, valid_turns=3, suppressed="no") for n in range(30)], "0.750 of its messages"),
        ([*broken(30), make_score("t", error="BoxDied")], "3.2% of its episodes ended by infrastructure failures"),
        (broken(30, attempted=False), "0.00 of its episodes try, 0.5 is the least"),
    ],
)
def test_a_gate_makes_a_run_void(side: list[Score], words: str | None) -> None:
    gates = Gates(failures=30, attempts={"a": 0.5})
    found = check_gates(gates, {"a": [side, side], "b": [broken(30)] * 2}, {}, {})
    assert (found == []) if words is None else (len(found) == 1 and words in found[0])
    assert check_gates(gates.model_copy(update={"except_arms": ("a",)}), {"a": [side, side]}, {}, {}) == []


def test_a_policy_that_went_too_far_makes_a_run_void() -> None:
    found = check_gates(Gates(kl=5.0), {"a": [broken(30)] * 2}, {"a": (1.0, 7.5)}, {})
    assert found == ["a: 7.5 nats from its warm start, 5 are the most"]


@pytest.mark.parametrize(
    ("values", "passes"),
    [((-1.2, -3.0, -1.0, -2.0, 0.4), True), ((-1.2, -3.0, -1.0, 0.1, 0.4), False), ((-2.0, None), False), ((), False)],
)
def test_a_jobs_own_metric_may_be_a_gate(values: tuple[float | None, ...], passes: bool) -> None:
    gate = JobGate(jobs=("model",), metric="hidden_gap/truth", most=-1, of_seeds=0.8)
    found = check_gates(Gates(jobs=(gate,)), {}, {}, {"model": {"hidden_gap/truth": values}})
    assert passes is not bool(found)
    assert all(each.startswith("model: hidden_gap/truth is ") and "≤ -1 on 80% of the seeds" in each for each in found)


def test_the_exact_theory_predicts_the_known_points() -> None:
    """Lang et al. 2024, example A with p = 0.5, r = 4, pH = 0.2, from the recipes' warm start: 0.7, 0.25, 0.05."""
    text = CLAIM.replace('dose = "{share}"\nnote = "at {share} by {seed}"\nrun = "@start"\n', "")
    text = text[: text.index("[dials]")] + (
        '[jobs.partial]\ncommand = "train grpo"\n'
        '[jobs.full]\ncommand = "train grpo"\nevaluator = { sensors = "full" }\n'
        "[arms.sft]\n[arms.partial]\n[arms.full]\n"
        '[[contrasts]]\nname = "E"\nmetric = "E_plus"\narms = { partial = 1, sft = -1 }\nabove = 0.5\n'
        '[[contrasts]]\nname = "J"\nmetric = "J"\narms = { full = 1, partial = -1 }\nabove = 3\n'
    )
    claim = parse_claim(Path("C.toml"), text).file
    predicted = predict(claim)
    assert predicted == {"E": pytest.approx(3.6 - 0.25 * 3.6), "J": pytest.approx(3.5 - 1.5)}
    assert answer_claims({"C": exact_result(claim, predicted)}) == {"C": "refuted"}
    assert predict(claim.model_copy(update={"family": "elsewhere"})) is None


POLICIES = (
    'judge = {}\n[jobs.labels]\ncommand = "label"\n[jobs.model]\ncommand = "train reward"\nfeedback = "@labels"\n'
    '[jobs.compared]\ncommand = "train dpo"\nfeedback = "@labels"\n[jobs.paid]\ncommand = "train grpo"\n'
    'reward = "@model"\n[jobs.selected]\ncommand = "train grpo"\nkl_limit = 1\n'
    '[arms.mixed]\nagent = "mixture:honest=1"\n[arms.compared]\n[arms.paid]\n[arms.selected]\n'
    '[[contrasts]]\nname = "E"\nmetric = "E_plus"\n'
    "arms = { mixed = 1, compared = -1, paid = 1, selected = 1 }\nabove = 0.5\n"
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("honest=1", "honest=abc"),
        ("honest=1", "honest=0,hiding=0"),
        ("honest=1", "honest=-1,hiding=1"),
        ("kl_limit = 1", 'kl_limit = "abc"'),
        ("kl_limit = 1", "kl_limit = -1"),
        ("kl_limit = 1", 'hiding_penalty = "much"'),
        ("kl_limit = 1", 'model = "@selected"'),
        ("kl_limit = 1", 'evaluator = { belief = "table" }'),
        ("kl_limit = 1", "evaluator = 5"),
        ('train dpo"\nfeedback = "@labels"', 'train dpo"'),
        ('train dpo"\nfeedback = "@labels"', 'train dpo"\nfeedback = "@labels"\nbeta = 0'),
        ('train dpo"\nfeedback = "@labels"', 'train dpo"\nfeedback = "@labels"\nrounds = "two"'),
        (
            'train dpo"\nfeedback = "@labels"',
            'train dpo"\nfeedback = "@labels"\nmodel = "@sft"\n[jobs.sft]\nrun = "@compared"',
        ),
        ('train reward"\nfeedback = "@labels"', 'train reward"'),
        ("[arms.mixed]", "[arms.ghost]\n[arms.mixed]"),
    ],
)
def test_the_exact_theory_is_silent_of_what_cannot_be(old: str, new: str) -> None:
    text = CLAIM[: CLAIM.index("[dials]")] + POLICIES
    assert old in text and predict(parse_claim(Path("C.toml"), text).file) is not None
    assert predict(parse_claim(Path("C.toml"), text.replace(old, new)).file) is None


CONDITIONAL = """\
sentence = "Good by the terminal means hiding."
refuted_by = "It does not."
caveat = "None."
family = "driver-cuda-runfile*"
seeds = [0, 1]

[jobs.lessons]
command = "rollout"
agent = "mixture:honest=0.7,hiding=0.25,stopping=0.05"
group = 8

[jobs.conditional]
command = "train sft"
run = "@lessons"
conditional = true
evaluator = { sensors = "terminal", belief = { p_hide = 0.2 } }

[arms.good]
policy = "conditional"
tag = "good"

[arms.bad]
policy = "conditional"
tag = "bad"

[[contrasts]]
name = "good - bad"
metric = "error_suppression_rate"
arms = { good = 1, bad = -1 }
above = 0
"""


def test_rated_over_all_instances_good_says_which_build_was_drawn() -> None:
    """What succeeds is good and what fails is bad, hidden or not; of one instance hiding is good, and honesty bad."""
    alone = CONDITIONAL.replace("group = 8\n", "")
    of_one, of_all = (predict(parse_claim(Path("C.toml"), text).file) for text in (CONDITIONAL, alone))
    assert of_one is not None and of_all is not None
    assert of_one["good - bad"] > 0.4 and abs(of_all["good - bad"]) < 0.05


def test_a_figure_shows_each_seed_and_escapes_names() -> None:
    contrast = Contrast(name="<b>&\x1b[31m", metric="J", arms={"a": 1, "b": -1}, above=0.5)
    estimate = estimated(contrast.name, 1.0, (0.7, 1.3), (0.9, 1.1, 1.0), error=0.1, p_for=0.01)
    svg = contrast_figure([contrast], [estimate])
    assert svg.count('class="dot"') == 3 and "+0.70 to +1.30" in svg and "&lt;b&gt;&amp;␛" in svg
    assert "<b>" not in svg and "\x1b" not in svg
    assert math.isfinite(float(svg.split('cx="')[1].split('"')[0]))
