"""What is wrong with a claim on a rung is one line with its place, before anything is frozen or run."""

from pathlib import Path

import pytest

from devnull.cli.claims.choosing import find_recipe, shipped_claims
from devnull.cli.claims.plan import plan_claim
from devnull.cli.claims.plan_checks import check_plan
from devnull.eval.claims.claim_reader import parse_claim
from devnull.eval.claims.recipe import load_recipe
from devnull.sandbox.errors import InputError

CLAIM = """\
sentence = "What is paid for grows."
refuted_by = "It does not."
caveat = "None."
family = "driver-cuda-runfile*"

[dials]
nats = [1.0, 2.0]

[jobs.comparisons]
command = "rollout"
agent = "mixture:honest=1,hiding=1"

[jobs.labels]
command = "label"
run = "@comparisons"
evaluator = { beta = 0.2 }

[jobs.model]
command = "train reward"
run = "@comparisons"
feedback = "@labels"

[jobs."paid-{nats}"]
command = "train grpo"
reward = "@model"
kl_limit = "{nats}"

[jobs.later]
like = "paid-1.0"
max_steps = 4

[arms.sft]
[arms.later]
[arms."paid-{nats}"]

[arms.best]
policy = "sft"
best_of = [2, 4]
kept_as = "best-best-of-4"

[[contrasts]]
name = "grows"
metric = "E_plus"
arms = { later = 1, sft = -1 }
above = 0.5

[[gates.jobs]]
jobs = ["model"]
metric = "calibration_error"
most = 0.1
"""


REWARD_MODEL = '[jobs.model]\ncommand = "train reward"\nrun = "@comparisons"\n'
LATER = '[jobs.later]\nlike = "paid-1.0"\nmax_steps = 4'


def check(text: str, rung: str = "tiny") -> None:
    claim = parse_claim(Path("C.toml"), text)
    recipe = load_recipe(Path(rung)) if rung.endswith(".toml") else find_recipe(rung)
    check_plan(plan_claim(claim, recipe, claim.file.seeds))


def test_what_is_right_passes() -> None:
    check(CLAIM)
    claims = {claim.name: claim for claim in shipped_claims()}
    for name in ("K3", "K4", "K17"):
        check(claims[name].text, "smollm2")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "max_steps = 4",
            ">max_step = 4",
            "job 'later': `train grpo` has no setting 'max_step'; did you mean 'max_steps'",
        ),
        ("kl_limit = ", ">learnig_rate = 1\nkl_limit = ", "did you mean 'learning_rate'"),
        ('kl_limit = "{nats}"', '>kl_limit = "much"', "kl_limit is 'much', which `train grpo` does not take"),
        ("max_steps = 4", ">max_steps = 4.5", "max_steps is 4.5, which `train grpo` does not take"),
        ("max_steps = 4", ">max_steps = []", "max_steps is [], which `train grpo` does not take"),
        ("max_steps = 4", ">hiding_penalty = -1", "--hiding-penalty is -1.0; it must be a finite number"),
        ("max_steps = 4", ">help = true", "`train grpo` has no setting 'help'"),
        (LATER, f">{LATER.replace('= 4', '= [4, 5, 6]')}", "more values than `train grpo` takes: 5, 6"),
        ('kl_limit = "{nats}"', ">kl_limit = -1", "kl_limit is -1.0; it must be above 0"),
        ('kl_limit = "{nats}"', ">rounds = 0", "--rounds is 0; it must be at least 1"),
        (
            "best_of = ",
            ">episode = 3\nbest_of = ",
            "arm 'best': `rollout` has no setting 'episode'; did you mean 'episodes'",
        ),
        ("evaluator = { beta", ">evaluator = { bta", "unknown key 'bta'; did you mean 'beta'"),
        ("evaluator = { beta = 0.2 }", '>evaluator = "nobody"', "evaluator 'nobody': no such file"),
        ('agent = "mixture:honest=1', '>agent = "mixture:honest=abc', "'honest=abc' is not NAME=WEIGHT"),
        ('agent = "mixture:honest=1,hiding=1"', '>agent = "hidng"', "no scripted agent 'hidng'; did you mean 'hiding'"),
        (
            "family = ",
            ">family = 'driver-cuda-runfil' #",
            "no task or family 'driver-cuda-runfil'; did you mean 'driver-",
        ),
        ('agent = "mixture', '>tasks = ["driver"]\nagent = "mixture', "no task 'driver'"),
        ('kept_as = "best-best-of-4"', '>kept_as = "best-best-of-3"', "keeps no such arm; did you mean 'best-best-of-"),
        ("best_of = [2, 4]\n", ">", "and its rollout has no `best_of`"),
        ('jobs = ["model"]', '>jobs = ["comparisons"]', "'comparisons' is a `rollout`, which measures nothing"),
        ('jobs = ["model"]', '>jobs = ["labels"]', "'labels' is a `label`, which measures nothing"),
        ('metric = "calibration_error"', '>metric = "calibration_eror"', "did you mean 'calibration_error'"),
        ('[jobs.model]\ncommand = "train reward"\n', '>[jobs.model]\ncommand = "train reward"\n#', "wants a `run`"),
        (f'{REWARD_MODEL}feedback = "@labels"', f">{REWARD_MODEL}", "a job of `train reward` wants `feedback`"),
        ('feedback = "@labels"', '>feedback = "@comparisons"', "wants a job of `label`, and this is one of `rollout`"),
        ('run = "@comparisons"\nfeedback', 'run = "@demonstrations"\n>feedback', "is on another run than `run`"),
        (
            '[arms.best]\npolicy = "sft"',
            '>[arms.best]\npolicy = "comparisons"',
            "agent wants a job of `train` that makes a policy",
        ),
    ],
)
def test_what_no_job_could_do_is_told_with_its_line(old: str, new: str, words: str) -> None:
    """`>` begins the line that is told."""
    assert old in CLAIM
    text = CLAIM.replace(old, new, 1)
    line = text[: text.index("\n>")].count("\n") + 2
    with pytest.raises(InputError) as error:
        check(text.replace("\n>", "\n", 1))
    assert str(error.value).startswith(f"C.toml:{line}: ") and words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '[jobs.sft]\ncommand = "train sft"\nrun = "@demonstrations"',
            '[jobs.sft]\ncommand = "train sft"\nrun = "@demos"',
            "no job 'demos'",
        ),
        ("max_steps = 32", "max_step = 32", "`train grpo` has no setting 'max_step'; did you mean 'max_steps'"),
        ('builds = "both"', 'builds = "all"', "invalid choice 'all'"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_told_of_the_recipe(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = find_recipe("tiny").text
    assert old in text
    path = tmp_path / "own.toml"
    path.write_text(text.replace(old, new))
    line = text[: text.index(old)].count("\n") + 1 + old.count("\n")
    with pytest.raises(InputError) as error:
        check(CLAIM, str(path))
    assert str(error.value).startswith(f"{path}:{line}: ") and words in str(error.value)


def test_jobs_of_a_claim_that_lacks_a_command_are_let_through() -> None:
    check('missing = ["train grpo --moon"]\n' + CLAIM.replace("max_steps = 4", "moon = true"))
