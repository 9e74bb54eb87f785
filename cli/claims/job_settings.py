"""The settings of a claim's jobs: the recipe's, under those of the job that one is like, under its own; and where each
stands in which file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from devnull.eval.claims.claim_file import JobCommand, Setting
from devnull.eval.claims.claim_reader import LoadedClaim
from devnull.eval.claims.recipe import LoadedRecipe
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.toml_positions import ValuePath


@dataclass(frozen=True)
class FilePlace:
    """Where something stands in the file of a claim or of a recipe."""

    file: LoadedClaim | LoadedRecipe
    at: ValuePath

    def error(self, message: str) -> InputError:
        """The message after file and line."""
        return self.file.error(self.at, message)


@dataclass(frozen=True)
class PlacedSettings:
    """Settings, the place of each, and that of all together."""

    place: FilePlace
    values: Mapping[str, Setting] = field(default_factory=dict)
    places: Mapping[str, FilePlace] = field(default_factory=dict)

    def under(self, place: FilePlace, values: Mapping[str, Setting]) -> "PlacedSettings":
        """With these over them, which stand at `place`."""
        places = {key: FilePlace(place.file, (*place.at, key)) for key in values}
        return PlacedSettings(place, {**self.values, **values}, {**self.places, **places})


def job_settings(
    claim: LoadedClaim, recipe: LoadedRecipe, name: str, wanted_by: FilePlace
) -> tuple[JobCommand, PlacedSettings]:
    """Command and settings of a job. Raises `InputError` where there is none of that name, or no command."""
    command, settings = _named(claim, recipe, name, wanted_by)
    if command is None:
        raise settings.place.error(f"job {name!r} has no command, and {recipe.path} no such job")
    default = default_settings(recipe, command)
    return command, PlacedSettings(
        settings.place, {**default.values, **settings.values}, {**default.places, **settings.places}
    )


def default_settings(recipe: LoadedRecipe, command: JobCommand) -> PlacedSettings:
    """What every job of a command has unless it says otherwise."""
    place = FilePlace(recipe, ("defaults", command))
    return PlacedSettings(place).under(place, recipe.file.defaults.get(command, {}))


def _named(
    claim: LoadedClaim, recipe: LoadedRecipe, name: str, wanted_by: FilePlace
) -> tuple[JobCommand | None, PlacedSettings]:
    own, shared = claim.file.jobs.get(name), recipe.file.jobs.get(name)
    place = FilePlace(recipe if own is None else claim, ("jobs", name))
    if own is None and shared is None:
        known = {*claim.file.jobs, *recipe.file.jobs}
        raise wanted_by.error(f"no job {name!r}{did_you_mean(name, known)}")
    command, settings = None, PlacedSettings(place)
    if own is not None and own.like is not None:
        command, settings = _named(claim, recipe, own.like, place)
    elif shared is not None:
        command, settings = shared.command, settings.under(FilePlace(recipe, ("jobs", name)), shared.settings)
    if own is not None:
        command, settings = own.command or command, settings.under(place, own.settings)
    return command, settings


def evaluation_settings(claim: LoadedClaim, recipe: LoadedRecipe, arm: str) -> PlacedSettings:
    """Of the rollout that evaluates an arm, whose agent is by default the policy that it names."""
    each, place = claim.file.arms[arm], FilePlace(claim, ("arms", arm))
    settings = default_settings(recipe, "rollout").under(place, {"arm": arm})
    settings = settings.under(FilePlace(recipe, ("evaluation",)), recipe.file.evaluation)
    if "agent" not in each.settings:
        settings = settings.under(place, {"agent": f"hf:@{each.policy or arm}"})
    return settings.under(place, each.settings)
