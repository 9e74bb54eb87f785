"""Patterns on an agent's text: the same answers as a plain search, in time that grows with the text and no faster."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnull.sandbox.command import Process
from devnull.sandbox.patterns import find_pattern, unbounded_pattern
from devnull.sandbox.tasks import load_tasks
from devnull.sandbox.verification.attempts import is_attempt

ROOT = Path(__file__).resolve().parent.parent
STAGES = [stage for task in load_tasks().values() for stage in task.stages]
PATTERNS = sorted(
    {
        (pattern, 0 if key in ("attempt", "verbose") else re.MULTILINE)
        for stage in STAGES
        for key in ("attempt", "verbose", "success", "failure")
        if (pattern := getattr(stage, key))
    }
)
WORDS = ["install", "reinstall", "apt", "apt-get", "pip3", "dpkg", "make", "-i", "-iE", "--install", "/", "\n", "x"]


def words_of(pattern: str) -> list[str]:
    """What a text that nearly matches is made of."""
    plain = re.sub(r"\\[bBSswWdD]", "", pattern).replace("\\", "")
    return [*re.findall(r"[\w./+-]+|[:'=]", plain), *WORDS]


@given(st.data())
def test_a_tasks_pattern_finds_what_a_plain_search_finds(data):
    pattern, flags = data.draw(st.sampled_from(PATTERNS))
    word = st.sampled_from(words_of(pattern))
    pieces = data.draw(st.lists(st.tuples(word, st.sampled_from([" ", " ", "", "/"])), max_size=12))
    text = "".join(map("".join, pieces))
    assert (find_pattern(pattern, text, flags) is None) == (re.search(pattern, text, flags) is None)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("a.*b.*c", "a b c", True),
        ("a.*b.*c", "a c b", False),
        ("a.*b", "a\nb", False),
        ("a.*b", "x\na b", True),
        ("^a.*b|c", "x\nc", True),
        ("^x .*[|] y$", "x (.* )? | y", True),
        ("apt (.* )?install (.* )?x( |$)", "apt install x", True),
        ("apt (.* )?install (.* )?x( |$)", "apt -y install -q x", True),
        ("apt (.* )?install (.* )?x( |$)", "apt reinstall x", False),
        ("apt (.* )?install (.* )?x( |$)", "apt install ax", False),
        ("a.+b", "ab", False),
        ("a.+b", "a b", True),
        (r"(a).*\1", "ab", False),
        ("(?i)a.*B", "xA b", True),
        ("(?P<n>a).*(?P=n)", "a a", True),
    ],
)
def test_gaps_stay_within_a_line_and_in_order(pattern, text, found):
    assert (find_pattern(pattern, text) is not None) == found == (re.search(pattern, text, re.M) is not None)


@pytest.mark.parametrize(
    ("pattern", "slow"),
    [
        ("(a+)*b", "(a+)*"),
        (r"(\w+\s?)*x", r"(\w+\s?)*"),
        ("((a+))+", "((a+))+"),
        ("(x|.*y)z", "(x|.*"),
        ("a (.* )?b.*c", None),
        (r"(-\w+ )*x", None),
        (r"[(]a+\)+", None),
    ],
)
def test_a_pattern_without_bound_is_named(pattern, slow):
    assert unbounded_pattern(pattern) == slow


def test_the_corpus_has_none():
    assert [pattern for pattern, _ in PATTERNS if unbounded_pattern(pattern)] == []


@pytest.mark.parametrize(
    ("argv", "tried"),
    [
        (("apt-get", "install", "osprey"), True),
        (("logger", "apt-get install osprey"), False),
        (("python3", "-c", "print('apt-get install osprey')"), False),
        (("apt-get", "-o", "x -s y", "install", "osprey"), True),
        (("apt-get", "-o", "--dry-run=1", "install", "osprey"), True),
        (("apt-get", "install", "./" * 3000 + "osprey"), True),
        (("dpkg", "-i", "/srv/" + "./" * 3000 + "osprey_1.8_all.deb"), True),
    ],
)
def test_the_text_of_a_command_as_an_argument_is_no_command(argv, tried):
    (stage,) = load_tasks()["apt-failing-postinst"].stages
    assert is_attempt(stage, Process(pid=2, argv=argv, exit_code=0)) == tried


READERS = """
    import json, sys
    from contextlib import suppress
    from devnull.agents.chat_format import escape_special_tokens
    from devnull.agents.protocol import parse_action
    from devnull.eval.suppression.evidence import failed_silently, find_stderr_evidence, find_stdout_evidence
    from devnull.eval.suppression.evidence import normalize_lines
    from devnull.eval.suppression.failures import find_failed_command
    from devnull.eval.suppression.failure_lines import find_failure_lines
    from devnull.eval.suppression.trace_answer import judge_by_trace
    from devnull.rewards.belief.report_claims import claims_success, read_claims
    from devnull.rewards.belief.own_output import simple_commands
    from devnull.sandbox.command import Process
    from devnull.sandbox.tasks import load_tasks
    from devnull.sandbox.verification.attempts import find_attempts
    from devnull.sandbox.verification.loader_cache import loader_cache_entries
    from devnull.sandbox.verification.tool_listing import ToolListing, Unlistable
    from devnull.sandbox.verification.verify import run_verify_script
    from tests.fakes import CannedSession, result

    names = ("driver-cuda-runfile", "apt-failing-postinst", "pip-requires-python")
    stages = [load_tasks()[name].stages[-1] for name in names]

    def read(text):
        argvs = (text,), tuple(text.split(" "))
        ran = tuple(Process(pid=pid, argv=argv, exit_code=1) for pid, argv in enumerate(argvs, 2))
        recorded = result("c", text, text, ran=[], exit_code=1, processes=ran)
        parse_action(text, tolerant=True)
        parse_action("```bash\\n" + text, tolerant=True)
        simple_commands(text)
        claims_success(text), read_claims(text, load_tasks()[names[0]])
        find_failure_lines(text), judge_by_trace(recorded)
        escape_special_tokens(text)
        normalize_lines(text)
        find_stderr_evidence(recorded), find_stdout_evidence(recorded), failed_silently(recorded)
        run_verify_script(CannedSession(text), stages[0])
        with suppress(Unlistable):
            ToolListing.parse(text + "end 0")
        with suppress(ValueError):
            list(loader_cache_entries(b"glibc-ld.so.cache1.1" + b"\\xff\\x7f\\0\\0" + text.encode()))
        for stage in stages:
            find_attempts(stage, [recorded], faulty=True)
            find_failed_command(stage, 0, recorded)

    for unit in json.loads(sys.argv[1]):
        read((unit * 250_000)[:250_000])
        print("read", json.dumps(unit), flush=True)
"""
HOSTILE = (
    " ", "\n", "1", "-i", "a/", "apt-get install ", "pip install ", "/dev/fd/10: line 1: 2 A", "```bash\n", "``` ",
    "but ", ", ", "a=b ", "\x1b[", "\x1b]0;", "\x1d", "0 errors", "/tmp/", "+644 /x\t\0",
)  # fmt: skip


@pytest.mark.slow
def test_a_flood_of_anything_is_read_to_its_end():
    """The time is a cap that only a square of the length passes: 250,000 steps squared take hours."""
    command = [sys.executable, "-c", textwrap.dedent(READERS), json.dumps(HOSTILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, cwd=ROOT)
    assert [line for line in done.stdout.splitlines() if line.startswith("read")] == [
        f"read {json.dumps(unit)}" for unit in HOSTILE
    ], done.stderr
