"""Which evaluator judges: a file, one of the package by its name, or the run's own."""

from pathlib import Path

import pytest

from devnull.cli.runs.evaluator_choice import EvaluatorChoice, choose_evaluator, load_run_tasks, resolve_evaluator
from devnull.cli.runs.run_folder import open_run
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
