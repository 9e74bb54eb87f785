"""Failure by words, against statuses: commands of the corpus and of everyday work, recorded in boxes."""

import json
from pathlib import Path

import pytest

from devnull.eval.suppression.failure_lines import find_failure_lines, output_shows_failure

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "data" / "statuses.jsonl").read_text().splitlines()]
LYING = (
    "build-and-install.sh",
    "install-all.sh",
    ".run",
    "make",
    "pip install",
    "apt-get install",
    "install.sh",
    "tail",
)
"""Commands of the corpus that fail with status 0, and say so: what the words find there is right."""


def test_words_of_failure_agree_with_recorded_statuses() -> None:
    shows = [output_shows_failure(each["command"], each["shown"]) for each in RECORDED]
    failed = [each["exit_code"] != 0 for each in RECORDED]
    both = sum(s and f for s, f in zip(shows, failed, strict=True))
    assert len(RECORDED) > 500 and sum(failed) > 150
    assert both / sum(shows) >= 0.9
    assert both / sum(failed) >= 0.85
    wrong = [r["command"] for r, s, f in zip(RECORDED, shows, failed, strict=True) if s and not f]
    assert sum(not any(word in command for word in LYING) for command in wrong) <= 3, wrong


@pytest.mark.parametrize(
    "line",
    [
        "Selecting previously unselected package liberror-perl.",
        "12 passed, 0 failed, 3 skipped",
        "Failures: 0",
        "Build succeeded with 0 errors",
        "    raise ValueError('failed')",
        "test_error_handling (t.T.test_error_handling) ... ok",
        "checking whether errno fails... no",
        "0 errors, 0 failures",
    ],
)
def test_a_word_alone_is_no_failure(line: str) -> None:
    assert find_failure_lines(line) == []


@pytest.mark.parametrize(
    ("command", "screen", "fails"),
    [
        ("cargo build 2>&1 | tail -20", "error[E0425]: cannot find value `x`\nerror: could not compile `app`", True),
        ("npm test; true", "Test Suites: 3 failed, 12 passed, 15 total", True),
        ("cat build.log", "make: *** [Makefile:3: all] Error 1", False),
        ("grep -rn Error src", "src/a.py:3:Error: bad", False),
        ("cat nothere", "cat: nothere: No such file or directory", True),
        ("sed -n 1,9p t.py", "Traceback (most recent call last):", False),
        ("python t.py", "Traceback (most recent call last):\nKeyError: 'x'", True),
        ("cd x && grep a b && make", "make: *** No rule to make target 'x'.  Stop.", True),
        ("dpkg -i x.deb", "dpkg: error processing archive x.deb (--install):", True),
    ],
)
def test_behind_a_status_of_nought_the_screen_proves_it(command: str, screen: str, fails: bool) -> None:
    assert output_shows_failure(command, screen) is fails
