"""Which evaluator judges: a file, one of the package by its name, or the run's own."""

import json
from pathlib import Path

import pytest

from devnull.cli.main import main
from devnull.cli.runs.evaluator_choice import (
    EvaluatorChoice,
    RewardOptions,
    choose_evaluator,
    load_run_tasks,
    resolve_evaluator,
)
from devnull.cli.runs.policy_episodes import open_policy_run
from devnull.cli.runs.run_folder import open_run, read_episodes
from devnull.rewards.belief.table import TableBelief
from devnull.sandbox.errors import InputError

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "evaluators"


def test_one_of_the_package_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_evaluator(Path("shuffled")) == resolve_evaluator(EXAMPLES / "shuffled.toml")
    (tmp_path / "shuffled").write_text('name = "mine"\n')
    assert resolve_evaluator(Path("shuffled")).name == "mine"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("shufled", "did you mean 'shuffled'"),
        ("zzz", "there are audited, "),
        ("shuffled.toml", "shuffled.toml: no such file"),
        ("folder/shuffled", "no such file"),
    ],
)
def test_a_name_that_is_none(name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=complaint):
        resolve_evaluator(Path(name))


def test_the_runs_own_unless_asked_otherwise(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", "demo", {"p_hide": 0.2, "hiding_penalty": 4.0}, 0).path

    def p_hide(choice: EvaluatorChoice) -> float:
        belief = choose_evaluator(run, choice).belief
        assert isinstance(belief, TableBelief)
        return belief.p_hide

    assert p_hide(EvaluatorChoice()) == 0.2
    assert p_hide(EvaluatorChoice(p_hide=0.7)) == 0.7
    tasks = load_run_tasks(run)
    assert {stage.rewards.hiding_penalty for task in tasks.values() for stage in task.stages} == {4.0}
    tasks = load_run_tasks(run, EvaluatorChoice(hiding_penalty=2.0))
    assert {stage.rewards.hiding_penalty for task in tasks.values() for stage in task.stages} == {2.0}


def test_a_task_that_is_none_is_named(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", "demo", {}, 0).path
    with pytest.raises(InputError, match="driver-cuda-runfle"):
        load_run_tasks(run, needed=["driver-cuda-runfle"])


def test_true_rewards_are_those_asked_for_else_the_runs(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", "rollout", {"verbosity_cost": 2.0}, 0).path

    def costs(choice: EvaluatorChoice) -> set[float]:
        return {stage.rewards.verbosity_cost for stage in load_run_tasks(run, choice)["verbose-build"].stages}

    assert costs(EvaluatorChoice()) == {2.0}
    assert costs(EvaluatorChoice(verbosity_cost=0.5, hiding_penalty=3.0)) == {0.5}
    nested = open_policy_run(tmp_path / "sampled", run, 0, RewardOptions(hiding_penalty=3.0))
    assert nested.header["config"] == {"learnt_from": "run", "hiding_penalty": 3.0, "verbosity_cost": 2.0}


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
@pytest.mark.parametrize("command", [("eval", "RUN"), ("label", "RUN"), ("rollout",), ("train", "grpo", "RUN")])
def test_a_reward_that_cannot_be_is_refused_before_anything_is_done(
    command: tuple[str, ...], value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(tmp_path) if word == "RUN" else word for word in command]
    assert main([*argv, "--verbosity-cost", value]) == 2
    said = capsys.readouterr().err
    assert f"--verbosity-cost is {float(value)}" in said and said.count("\n") == 1


def test_a_long_log_costs_what_the_run_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Example B: 11.5 for the verbose agent at the table's own cost of 1, 11 at 2."""
    out = tmp_path / "run"
    argv = ["rollout", "--agent", "verbose", "--tasks", "verbose-build", "--episodes", "6", "--out", str(out)]
    assert main([*argv, "--runtime", "rootless", "--verbosity-cost", "2"]) == 0
    capsys.readouterr()

    def J(*flags: str) -> float:
        assert main(["eval", str(out), "--json", *flags]) == 0
        return float(json.loads(capsys.readouterr().out)["arms"]["verbose"]["J"]["value"])

    own, dearer = J("--verbosity-cost", "1"), J()
    installed = sum(e.outcome is not None and not e.faulty for e in read_episodes(out)) / 6
    assert 0 < installed < 1
    assert own - dearer == pytest.approx(installed)
    assert J("--verbosity-cost", "2") == dearer
