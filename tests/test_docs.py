"""The docs name files, folders, modules and types that exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = "sandbox|agents|theory|rewards|training|eval|cli|src/devnull|tests|docs|examples|benchmarks|scripts"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "log.md"),
]
"""All but the dated findings, which name things as they were called on their day."""


def code(text: str) -> Iterator[str]:
    """What a page sets as code: fenced blocks, then spans between single backticks (which may break over a line)."""
    fence = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    yield from fence.findall(text)
    yield from re.findall(r"`([^`]+)`", fence.sub("", text))


def missing_paths(page: Path) -> set[str]:
    """Paths like `rewards/views.py` or `examples/*.toml` that match nothing; `NAME` and `<room>` stand for any name."""
    found = set()
    for piece in code(page.read_text()):
        found |= set(re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*<>-]*", piece))
    return {path for path in found if not any(ROOT.glob(re.sub(r"NAME|<\w+>", "*", path).rstrip("./")))}


def missing_names(page: Path) -> set[str]:
    """Dotted names like `devnull.theory.returns.Returns`, and `from devnull.x import y`, that cannot be imported."""
    missing = set()
    for piece in code(page.read_text()):
        names = re.findall(r"(?<![\w./-])devnull(?:\.\w+)+", piece)
        for module, imported in re.findall(r"^from (devnull[\w.]*) import ([\w, ]+)", piece, re.MULTILINE):
            names += [f"{module}.{name.split()[0]}" for name in imported.split(",")]
        for name in names:
            try:
                resolve_name(name)
            except (ImportError, AttributeError):
                missing.add(name)
    return missing


def broken_links(page: Path) -> set[str]:
    """Relative links to files that are not there; `make site` makes the gallery's reports, and checks links to them."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    made = re.compile(r"\w+://|gallery/\w+\.html$")
    return {link for link in links if not made.match(link) and not (page.parent / link).exists()}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    assert not missing_paths(page)
    assert not missing_names(page)
    assert not broken_links(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_imports_a_room_by_its_bare_name(page: Path) -> None:
    """`sandbox` is `devnull.sandbox`: the folders at the root are no packages of their own."""
    rooms = "sandbox|agents|theory|rewards|training|eval|cli"
    for piece in code(page.read_text()):
        assert not re.findall(rf"^(?:from|import) (?:{rooms})\b.*", piece, re.MULTILINE)
