"""A rung of the ladder on which claims are played: the model, the jobs that all claims share, and usual settings."""

from pathlib import Path

from pydantic import Field

from devnull.eval.claims.claim_file import JobCommand, JobSettings, Setting
from devnull.eval.claims.claim_reader import parse_toml, validate_table
from devnull.sandbox.errors import InputError
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.toml_positions import ValuePath, find_line


class Recipe(Frozen, allow_inf_nan=False):
    """One rung. In settings `{seed}` is the training seed, `{model}` the model, and `{family}`, `{episodes}`,
    `{p_hide}` and `{hiding_penalty}` are the claim's."""

    summary: str
    """What it is, for people."""
    model: str
    """What the warm start begins with."""
    seconds: dict[JobCommand, float] = Field(default_factory=dict)
    """What a job of that command takes on one quiet core: for estimates of the budget only."""
    defaults: dict[JobCommand, dict[str, Setting]] = Field(default_factory=dict)
    """Command to the settings that every job of it has unless it says otherwise."""
    jobs: dict[str, JobSettings] = Field(default_factory=dict)
    """Those that a claim finds made: `demonstrations`, `sft`."""
    evaluation: dict[str, Setting] = Field(default_factory=dict)
    """Settings of the rollout that evaluates an arm."""


class LoadedRecipe(Frozen):
    """A recipe with its name, the text of its file, and where that lies."""

    name: str
    path: Path
    text: str
    file: Recipe

    def error(self, at: ValuePath, message: str) -> InputError:
        """The message after file and line of the value at `at`."""
        return InputError(f"{self.path}:{find_line(self.text, at)}: {message}")


def load_recipe(path: Path) -> LoadedRecipe:
    """Reads a recipe's file. Raises `InputError` with file and line."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return LoadedRecipe(
        name=path.stem, path=path, text=text, file=validate_table(Recipe, path, text, parse_toml(path, text))
    )
