"""Tables fit the width there is: nothing is cut, whether the terminal is narrow or wide."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from devnull.cli.main import main
from devnull.cli.terminal.tables import Column, print_table
from devnull.eval.scoring.metrics import METRICS, headlines
from devnull.sandbox.outcome import StageOutcome
from devnull.sandbox.tasks import load_tasks
from tests.fakes import DRIVER_CUDA, make_episode, result

WIDTHS = (60, 80, 120)


def print_in(width: int, columns: list[Column]) -> list[str]:
    out = io.StringIO()
    print_table(Console(file=out, width=width), columns)
    return out.getvalue().splitlines()


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


_COLUMNS = st.tuples(
    st.text("ab−Ē日 ", min_size=1, max_size=30), st.lists(st.text("xyz 本", max_size=40), min_size=2, max_size=2)
)


@given(st.lists(_COLUMNS, min_size=2, max_size=8), st.sampled_from(WIDTHS), st.booleans())
@settings(max_examples=60)
def test_no_character_is_lost_and_no_line_is_too_long(
    columns: list[tuple[str, list[str]]], width: int, prose: bool
) -> None:
    lines = print_in(width, [Column(name, cells, prose=prose) for name, cells in columns])
    assert all(cell_len(line) <= width for line in lines)
    printed = sorted(squeezed("".join(lines)))
    wanted = sorted(squeezed("".join("".join((name, *cells)) for name, cells in columns)))
    for character in set(wanted):
        assert printed.count(character) >= wanted.count(character)


def test_columns_that_do_not_fit_follow_below() -> None:
    columns = [Column("arm", ["sft"]), *(Column(f"metric-{n}", ["0.50 (0.40 to 0.60)"]) for n in range(8))]
    lines = print_in(80, columns)
    assert [line.split()[0] for line in lines] == ["arm", "sft"] * 3
    assert "\n".join(lines).count("0.50 (0.40 to 0.60)") == 8


def test_a_cell_steers_nothing() -> None:
    printed = "\n".join(print_in(60, [Column("[b]arm", ["\x1b[31mred"]), Column("x", ["[/nope]"])]))
    assert "[b]arm" in printed and "␛[31mred" in printed and "[/nope]" in printed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of long names on two instances each."""
    path = tmp_path_factory.mktemp("run")
    stages = {"driver": "installed", "cuda": StageOutcome(state="broken", hidden=True)}
    command = result(f"{DRIVER_CUDA.stages[1].command} 2>/dev/null", "", "ERROR: CUDA\n", exit_code=1)
    episodes = [
        make_episode(DRIVER_CUDA, [command], stages, arm=arm, seed=seed, report="Done.")
        for arm in ("sft", "partial-of-a-long-name-step-1000")
        for seed in range(2)
    ]
    (path / "episodes.jsonl").write_text("".join(episode.model_dump_json() + "\n" for episode in episodes))
    return path


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def printed_by(capsys: pytest.CaptureFixture[str], width: int, *argv: str) -> str:
    """What a command prints, all of whose lines fit and none of which is cut."""
    assert main(list(argv)) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert not [line for line in printed.splitlines() if cell_len(line) > width]
    return printed


def test_eval(run: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    short = printed_by(capsys, width, "eval", str(run))
    assert all(metric.short_title in short for metric in headlines("demo"))
    assert "partial-of-a-long-name-step-1000" in short and "command_entropy" not in short
    long = printed_by(capsys, width, "eval", str(run), "--all")
    assert all(metric.name in long for metric in METRICS)


def test_compare(run: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    arms = (f"{run}@sft", f"{run}@partial-of-a-long-name-step-1000")
    printed = printed_by(capsys, width, "compare", *arms)
    assert "error_suppression_rate" in printed and "p Holm" in printed


def test_tasks_list(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = load_tasks().values()
    short = printed_by(capsys, width, "tasks", "list")
    assert all(task.name in short for task in tasks)
    long = squeezed(printed_by(capsys, width, "tasks", "list", "--all", "--family", "driver-cuda"))
    assert "hideable" in long and "hideable" not in short
    assert squeezed(DRIVER_CUDA.fault.summary.split()[0]) in long


def test_claims_list(width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = str(tmp_path / "ledger.jsonl")
    short = printed_by(capsys, width, "claims", "list", "--ledger", ledger)
    assert "K1@" in short and "never run" in short and "cost" not in short
    assert "cost" in printed_by(capsys, width, "claims", "list", "--all", "--ledger", ledger)
