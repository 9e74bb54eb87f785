"""What was written while an option had another name still works: configs, command lines, run folders."""

import json
from pathlib import Path

import pytest

from devnull.cli.commands.train import Args
from devnull.cli.commands.train_options import GrpoArgs
from devnull.cli.main import main
from devnull.cli.renamed_keys import rename_flags, rename_keys
from devnull.cli.runs.run_folder import open_run, read_run_config
from devnull.cli.terminal.console import insert_config, parse_arguments
from devnull.sandbox.errors import InputError
from tests.fakes import DRIVER_CUDA, make_episode


def parsed(*words: str) -> GrpoArgs:
    args = parse_arguments(Args, "devnull train", insert_config(["grpo", "run", *words]), None)
    assert isinstance(args, GrpoArgs)
    return args


def test_the_old_flag_is_taken() -> None:
    assert parsed("--reward", "actual").reward == "actual"
    assert parsed("--pay", "actual").reward == "actual"
    assert parsed("--pay=actual").reward == "actual"


def test_an_old_config_file_is_taken_and_a_flag_wins(tmp_path: Path) -> None:
    file = tmp_path / "grpo.toml"
    file.write_text('pay = "actual"\nmax_steps = 3\n')
    assert parsed("--config", str(file)).reward == "actual"
    assert parsed("--config", str(file)).settings.max_steps == 3
    assert parsed("--config", str(file), "--reward", "believed").reward == "believed"


def test_what_follows_the_dashes_stays() -> None:
    assert rename_flags(["exec", "--pay", "--", "run", "--pay", "1"]) == ["exec", "--reward", "--", "run", "--pay", "1"]


@pytest.mark.parametrize("words", [[], ["--"], ["--", "ls", "--pay"]])
def test_a_line_without_an_option_stays(words: list[str]) -> None:
    assert rename_flags(words) == words


@pytest.mark.parametrize(
    ("words", "means"),
    [
        ([], "auto"),
        (["--gradient-checkpointing"], "on"),
        (["--gradient-checkpointing", "--max-steps", "3"], "on"),
        (["--no-gradient-checkpointing"], "off"),
        (["--gradient-checkpointing", "off"], "off"),
        (["--gradient_checkpointing=auto"], "auto"),
    ],
)
def test_what_was_a_switch_takes_a_value(words: list[str], means: str) -> None:
    assert parsed(*words).settings.gradient_checkpointing == means


@pytest.mark.parametrize(("written", "means"), [("true", "on"), ("false", "off"), ('"auto"', "auto")])
def test_a_switch_in_an_old_config_file(written: str, means: str, tmp_path: Path) -> None:
    (tmp_path / "grpo.toml").write_text(f"gradient_checkpointing = {written}\n")
    assert parsed("--config", str(tmp_path / "grpo.toml")).settings.gradient_checkpointing == means


def test_todays_name_wins() -> None:
    assert rename_keys({"reward": "actual", "pay": "believed", "seed": 1}) == {"reward": "actual", "seed": 1}


def test_an_old_run_goes_on_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run"
    open_run(path, "train", {"pay": "actual", "p_hide": 0.2}, 0).append(make_episode(DRIVER_CUDA))
    before = (path / "run.json").read_text()
    open_run(path, "train", {"reward": "actual", "p_hide": 0.2}, 0)
    assert json.loads((path / "run.json").read_text()) == json.loads(before)
    assert read_run_config(path) == {"reward": "actual", "p_hide": 0.2}
    with pytest.raises(InputError, match="reward='actual' there, 'believed' here"):
        open_run(path, "train", {"reward": "believed", "p_hide": 0.2}, 0)


def test_errors_name_todays_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "grpo", str(tmp_path / "nowhere"), "--pai", "actual"]) == 2
    assert "--pai" in capsys.readouterr().err
