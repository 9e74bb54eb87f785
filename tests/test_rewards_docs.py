"""The page about evaluators names every dial, every example and the ladder's prices as they are."""

import re
from pathlib import Path

from devnull.rewards.belief.table import TableParameters
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.views import SENSOR_LADDER, observe
from devnull.sandbox.command import CommandResult
from devnull.sandbox.transcript import Transcript, Turn

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "evaluators.md").read_text()


def test_every_dial_is_explained() -> None:
    dials = {*EvaluatorConfig.model_fields, *TableParameters.model_fields} - {"name"}
    unsaid = {dial for dial in dials if not re.search(rf"\b{dial}\b", PAGE)}
    assert not unsaid


def test_the_ladders_prices_are_as_told() -> None:
    result = CommandResult(command="x", shown="", exit_code=0, seconds=0, cwd="/")
    turn = Turn(text="x", valid=True, result=result)
    transcript = Transcript(instruction="x", turns=(turn, turn), report="done")
    for sensors in SENSOR_LADDER:
        row = re.search(rf"^\| `{sensors.name}` \| .* \| ([\d.]+) \|$", PAGE, re.M)
        assert row, sensors.name
        assert float(row[1]) == observe(transcript, sensors).cost


def test_defaults_of_the_tables_are_as_told() -> None:
    defaults = TableParameters()
    for key, told in re.findall(r"^\| `(p_\w+|credulity)` \| ([\d.]+) \|", PAGE, re.M):
        assert getattr(defaults, key) == float(told)


def test_examples_that_the_page_names_exist() -> None:
    for name in re.findall(r"examples/evaluators/[\w-]+\.toml", PAGE):
        assert (ROOT / name).exists()
