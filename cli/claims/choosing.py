"""The claims and recipes that names on the command line stand for."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import devnull
from devnull.eval.claims.claim_reader import LoadedClaim, load_claim
from devnull.eval.claims.recipe import LoadedRecipe, load_recipe
from devnull.sandbox.errors import InputError, did_you_mean

_SHIPPED = Path(devnull.__file__).parent / "examples" / "claims"
_REAL_MODELS = "smollm2"
"""The recipe of any model that is not `tiny`."""
_MODEL_NAME = re.compile(r"tiny:run|\w[\w.-]*/\w[\w.-]*")
"""A model that is no folder: a short name, or one of the hub, `owner/name`."""
_MODEL_FILES = ("config.json", "adapter_config.json")
"""A model's folder holds one of them."""
TABLE = "table"
"""The rung of the exact theory, which runs nothing."""


def shipped_claims() -> list[LoadedClaim]:
    """The claims that come with the package, in the order of their numbers."""
    return [load_claim(path) for path in sorted(_SHIPPED.glob("*.toml"), key=_number)]


def _number(path: Path) -> tuple[int, str]:
    digits = "".join(character for character in path.stem if character.isdigit())
    return int(digits or 0), path.stem


def find_claims(names: Iterable[str]) -> list[LoadedClaim]:
    """The claims of these names, or of files. Raises `InputError` with the nearest name."""
    shipped = {path.stem: path for path in _SHIPPED.glob("*.toml")}
    found = []
    for name in names:
        if name not in shipped and not Path(name).is_file():
            raise InputError(_no_claim(name, shipped))
        found.append(load_claim(shipped.get(name, Path(name))))
    versions = [claim.version for claim in found]
    if len(set(versions)) < len(versions):
        raise InputError(f"a claim is named twice: {', '.join(versions)}")
    return found


def _no_claim(name: str, shipped: Collection[str]) -> str:
    """That there is no claim of that name, and which is near."""
    path = Path(name)
    if path.is_dir():
        return f"{name} is a folder; name the file of a claim"
    if "/" in name or path.suffix == ".toml":
        return f"{name}: no such file{did_you_mean(name, map(str, path.parent.glob('*.toml')))}"
    base, _, revision = name.partition("@")
    same = next((each for each in shipped if each.casefold() == base.casefold()), None)
    if same is not None:
        return (
            f"no claim {name!r}; did you mean {same!r}?{' a claim is named without its revision' if revision else ''}"
        )
    known = ", ".join(sorted(shipped, key=lambda each: _number(Path(each))))
    return f"no claim {name!r}{did_you_mean(name, shipped) or f'; there are {known}'}"


def find_recipe(rung: str) -> LoadedRecipe:
    """The recipe of a rung: its name, a file of one, or a model's name or folder. Raises `InputError` with the nearest
    name."""
    shipped = {path.stem: path for path in (_SHIPPED / "recipes").glob("*.toml")}
    if rung in shipped:
        return load_recipe(shipped[rung])
    if rung.endswith(".toml") or Path(rung).is_file():
        recipe = load_recipe(Path(rung))
        if recipe.name == TABLE:
            raise InputError(f"{rung}: `{TABLE}` is the rung of the exact theory; give the recipe's file another name")
        return recipe
    if rung and Path(rung).is_dir():
        if not any((Path(rung) / file).exists() for file in _MODEL_FILES):
            raise InputError(f"--rung {rung}: a folder without config.json is no model")
    elif not _MODEL_NAME.fullmatch(rung):
        rungs = [TABLE, *shipped]
        near = did_you_mean(rung.casefold(), rungs) or f"; there are {', '.join(sorted(rungs))}"
        raise InputError(f"--rung {rung!r}: no recipe, no file or folder, and no model (owner/name){near}")
    real = load_recipe(_SHIPPED / "recipes" / f"{_REAL_MODELS}.toml")
    return real.model_copy(update={"name": rung, "file": real.file.model_copy(update={"model": rung})})


def choose_seeds(claim: LoadedClaim, count: int | None) -> Sequence[int]:
    """The first `count` training seeds of a claim's file, or all. Raises `InputError`."""
    seeds = claim.file.seeds
    if count is None:
        return seeds
    if not 2 <= count <= len(seeds):
        raise InputError(f"--seeds is {count}; {claim.name} has {len(seeds)} training seeds, and 2 are the fewest")
    return seeds[:count]
