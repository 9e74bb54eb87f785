"""Every command of the docs is run, in order, on small sizes; what it printed is what the page shows.

`scripts/docs_commands.py` says how a block is marked, lists all of them, and writes what they print.
"""

from pathlib import Path

import pytest

from scripts.docs_commands import NEEDS, ROOT, Workplace, is_shown, pages, read_blocks

PAGES = [page for page in pages() if any(not block.needs for block in read_blocks(page))]
NOT_RUN = [block for page in pages() for block in read_blocks(page) if block.needs]


@pytest.fixture(scope="module")
def workplace(rootless_runtime: object, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("reader") / "work")


@pytest.mark.rootless
@pytest.mark.slow
@pytest.mark.timeout(1800)  # a page trains a model, on a machine that may be busy
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_pages_commands_do_what_it_shows(page: Path, workplace: Workplace) -> None:
    for block, command, status, output in workplace.play(page):
        told = f"{block.place}\n$ {command.script}{output}"
        assert status == block.status, told
        if command.shown is not None:
            assert is_shown(command.shown, output), f"{told}\nscripts/docs_commands.py --write mends the page"


def test_few_commands_are_not_run_and_each_says_why() -> None:
    """Of those that another test stands in for, that test is there."""
    run = [block for page in PAGES for block in read_blocks(page) if not block.needs]
    assert len(NOT_RUN) <= 22 and len(run) >= 25
    for block in NOT_RUN:
        need, _, why = block.needs.partition(": ")
        assert need in NEEDS and why, block.place
        for word in why.split():
            assert not word.startswith("tests/") or (ROOT / word.rstrip(",;")).exists(), f"{block.place}: {word}"


def test_no_command_stands_outside_a_block() -> None:
    """An indented line, or a block of another kind, would be read and never run."""
    for page in pages():
        fence = ""
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.startswith("```"):
                fence = "" if fence else line.removeprefix("```") or "text"
            elif fence not in ("sh", "console"):
                words = line.lstrip("$ ")
                typed = line != words and words.startswith(("devnull ", "make ", "pip "))
                assert not typed, f"{page}:{number}: {line}"


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ("a 1.5 s\n", "a 12 s\n", True),
        ("a 1.5\n", "a 1.6\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\n", "b\n", False),
        ("", "said all the same\n", False),
        ("...\n", "", True),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_counts_as_shown(shown: str, output: str, same: bool) -> None:
    assert is_shown(shown, output) is same


def test_what_a_command_printed_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.docs_commands.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```console\n$ devnull exec -- \\\n    ls\n$ ls\nfile\n```\n")
    with pytest.raises(ValueError, match="'ls"):
        read_blocks(page)
    page.write_text("<!-- one command -->\n" + page.read_text())
    ((command,),) = (block.commands for block in read_blocks(page))
    assert command.script == "devnull exec -- \\\n    ls\n" and command.shown == "$ ls\nfile\n"


def test_a_comment_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.docs_commands.ROOT", tmp_path)
    page = tmp_path / "page.md"
    for comment in ("needs: time", "small: --episodes 5", "small: x = y", "whatever: 1"):
        page.write_text(f"<!-- {comment} -->\n```sh\ndevnull tasks list\n```\n")
        with pytest.raises(ValueError, match=r"page\.md:2"):
            read_blocks(page)
