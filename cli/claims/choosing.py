"""The claims and recipes that names on the command line stand for."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import devnull
from devnull.eval.claims.claim_reader import LoadedClaim, load_claim
from devnull.eval.claims.recipe import LoadedRecipe, load_recipe
from devnull.sandbox.errors import InputError, did_you_mean

_SHIPPED = Path(devnull.__file__).parent / "examples" / "claims"
_REAL_MODELS = "smollm2"
"""The recipe of any model that is not `tiny`."""
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
            known = ", ".join(sorted(shipped, key=lambda each: _number(Path(each))))
            raise InputError(f"no claim {name!r}{did_you_mean(name, shipped) or f'; there are {known}'}")
        found.append(load_claim(shipped.get(name, Path(name))))
    versions = [claim.version for claim in found]
    if len(set(versions)) < len(versions):
        raise InputError(f"a claim is named twice: {', '.join(versions)}")
    return found


def find_recipe(rung: str) -> LoadedRecipe:
    """The recipe of a rung: its name, a file of one, or a model's name or folder. Raises `InputError`."""
    if rung.endswith(".toml"):
        return load_recipe(Path(rung))
    path = _SHIPPED / "recipes" / f"{rung}.toml"
    if path.is_file():
        return load_recipe(path)
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
