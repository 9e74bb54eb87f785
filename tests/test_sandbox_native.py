"""The supervisor's C files know one another one way only: each uses just those before it in the Makefile's list."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from devnull.sandbox.supervisor import NATIVE

SOURCES = re.search(r"^SOURCES = ((?:.*\\\n)*.*)$", (NATIVE / "Makefile").read_text(), re.MULTILINE)
assert SOURCES is not None
MODULES = [name.removesuffix(".c") for name in SOURCES[1].replace("\\\n", " ").split()]


def included(module: str) -> set[str]:
    """The modules whose headers a module's file or its own header includes."""
    text = "".join(path.read_text() for path in NATIVE.glob(f"{module}.[ch]"))
    return set(re.findall(r'^#include "(\w+)\.h"$', text, re.MULTILINE))


def symbols(module: str, build: Path) -> tuple[set[str], set[str]]:
    """What a module gives to others, and what it takes from others or from libc."""
    listed = subprocess.run(
        ["nm", "-g", "-P", build / f"{module}.o"], capture_output=True, text=True, check=True
    ).stdout
    pairs = [line.split()[:2] for line in listed.splitlines()]
    return {name for name, kind in pairs if kind != "U"}, {name for name, kind in pairs if kind == "U"}


def test_the_list_is_whole() -> None:
    assert sorted(MODULES) == sorted(path.stem for path in NATIVE.glob("*.c") if path.stem != "fuzz")
    assert {path.stem for path in NATIVE.glob("*.h")} == {*MODULES} - {"main"}


def test_files_include_only_what_is_below() -> None:
    for place, module in enumerate(MODULES):
        assert included(module) <= {*MODULES[: place + 1]}, module


def test_every_file_says_what_it_is_for() -> None:
    for path in NATIVE.glob("*.[ch]"):
        assert path.read_text().startswith("/* "), path.name


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_calls_go_down_by_way_of_headers(tmp_path: Path) -> None:
    """No declaration by hand goes round the includes, and what no other file uses is static."""
    paths = [NATIVE / f"{module}.c" for module in MODULES]
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O0", "-c", *paths], cwd=tmp_path, check=True)
    gives, takes = {}, {}
    for module in MODULES:
        gives[module], takes[module] = symbols(module, tmp_path)
    for module in MODULES:
        used = {other for other in MODULES if gives[other] & takes[module]}
        assert used <= included(module), module
    assert set().union(*gives.values()) - set().union(*takes.values()) == {"main"}
