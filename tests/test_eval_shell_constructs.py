"""Possible hiding constructs, and commands without them."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnull.eval.suppression.constructs import remove_constructs
from devnull.eval.suppression.quiet_flags import find_quiet_flags
from devnull.eval.suppression.shell_constructs import find_constructs, label_command


@pytest.mark.parametrize(
    ("command", "kinds", "bare"),
    [
        ("a 2>/dev/null || true", ["stderr", "status"], "a"),
        ("2>/dev/null a", ["stderr"], "a"),
        ("make 2>&1 | tail -1", ["pipe"], "make 2>&1"),
        ("a |& grep -v x | head", ["pipe", "pipe"], "a"),
        ("a >/dev/null 2>&1", ["output", "stderr"], "a"),
        ("a 2>&1 >/dev/null", ["output"], "a 2>&1"),
        ("exec 2>&-", ["stderr"], "exec"),
        ("{ a; b; } &>>/dev/null", ["stderr"], "{ a; b; }"),
        ("x=$(a 2>&1)", ["stderr"], "x=$(a )"),
        ("bash -c 'a 2>/dev/null'", ["stderr"], "bash -c 'a '"),
        ("curl -fsL u", ["quiet"], "curl -fL u"),
        ("nohup a &", ["background", "background"], "a & wait $!;"),
        ("echo 'a 2>/dev/null' | sh", ["stderr"], "echo 'a ' | sh"),
        ("cat <<'E' > s.sh\na 2>/dev/null\nE", ["stderr"], "cat <<'E' > s.sh\na \nE"),
        ("perl -e 'system x'", ["opaque"], "perl -e 'system x'"),
        ("python3 -c 'try: x\nexcept E: pass'", ["except"], "python3 -c 'try: x\nexcept E: raise'"),
        ("sudo -E env A=1 wget -q u", ["quiet"], "sudo -E env A=1 wget  u"),
        ("wget -qO- u", ["quiet"], "wget -O- u"),
        ("curl -so/tmp/silent u", ["quiet"], "curl -o/tmp/silent u"),
        ("sudo -u root bash -c 'a 2>/dev/null'", ["stderr"], "sudo -u root bash -c 'a '"),
        ("script -qc 'a 2>/dev/null' log", ["stderr"], "script -qc 'a ' log"),
        ("f() { a; } 2>/dev/null", ["stderr"], "f() { a; }"),
        ("a 2>&1 | { grep x; }", ["pipe"], "a 2>&1"),
        ("read x < <(a 2>&1)", ["stderr"], "read x < <(a )"),
        ("awk 'BEGIN { system(\"a 2>/dev/null\") }'", ["stderr"], "awk 'BEGIN { system(\"a\") }'"),
        ("awk 'BEGIN { system(x) }'", ["opaque"], "awk 'BEGIN { system(x) }'"),
        ("bash <(a)", ["opaque"], "bash <(a)"),
        ("base64 -d x > run; ./run", ["opaque"], "base64 -d x > run; ./run"),
        ("python3 -c 'exec(x)'", ["opaque"], "python3 -c 'exec(x)'"),
        # Words that are joined are one piece of code.
        ("eval \"a\" '2>/dev/null'", ["stderr"], "eval \"a\" ''"),
        ("eval a 2\\>/dev/null", ["stderr"], "eval a"),
        ("eval a '2>' /dev/null", ["stderr"], "eval a ''"),
        ("eval a '> log'", ["output"], "eval a ''"),
        ("ssh h a '2>/dev/null'", ["stderr"], "ssh h a ''"),
        ("echo a 2\\>/dev/null | sh", ["stderr"], "echo a  | sh"),
        ("echo a '2>/dev/null' > s.sh", ["stderr"], "echo a '' > s.sh"),
        ("printf '%s ' a '2>/dev/null' | sh", ["stderr"], "printf '%s ' a '' | sh"),
        ("printf 'a %s\\n' '2>/dev/null' | sh", ["stderr"], "printf 'a %s\\n' '' | sh"),
        # What makes a document is run, whoever reads it.
        ('cat <<E\n"x: $(a 2>/dev/null)\nE', ["stderr"], 'cat <<E\n"x: $(a )\nE'),
        (": <<E\n${x:-`a 2>&1`}\nE", ["stderr"], ": <<E\n${x:-`a `}\nE"),
        ("bash <<E\nx=\\$(a 2>&1)\nE", ["stderr"], "bash <<E\nx=\\$(a )\nE"),
        # Code from a descriptor.
        (". /dev/stdin <<< 'a 2>/dev/null'", ["stderr"], ". /dev/stdin <<< 'a '"),
        ("bash /dev/fd/3 3<<'E'\na 2>/dev/null\nE", ["stderr"], "bash /dev/fd/3 3<<'E'\na \nE"),
        ("bash -o pipefail <<'E'\na 2>/dev/null\nE", ["stderr"], "bash -o pipefail <<'E'\na \nE"),
        ("{ sh; } <<'E'\na 2>/dev/null\nE", ["stderr"], "{ sh; } <<'E'\na \nE"),
        (". /dev/fd/3", ["opaque"], ". /dev/fd/3"),
        # Options between `-c` and the code.
        ("bash -c -e 'a 2>/dev/null'", ["stderr"], "bash -c -e 'a '"),
        ("bash -ce -o posix -- 'a 2>/dev/null'", ["stderr"], "bash -ce -o posix -- 'a '"),
        ("python3 -c'os.system(\"a 2>/dev/null\")'", ["stderr"], "python3 -c'os.system(\"a \")'"),
        # Quotes in quotes in quotes.
        ('sh -c "sh -c \'sh -c \\"a 2>/dev/null\\"\'"', ["stderr"], 'sh -c "sh -c \'sh -c \\"a \\"\'"'),
        ("sh -c \"sh -c 'x=\\$(a 2>&1)'\"", ["stderr"], "sh -c \"sh -c 'x=\\$(a )'\""),
        ('sh -c "sh -c \\"sh -c \\\\\\"a 2>&-\\\\\\"\\""', ["stderr"], 'sh -c "sh -c \\"sh -c \\\\\\"a \\\\\\"\\""'),
        ('bash -c "a $(b 2>/dev/null)"', ["opaque", "stderr"], 'bash -c "a $(b )"'),
        ("python3 -c 'os.popen(\"a 2>&1\").read()'", ["stderr"], "python3 -c 'os.popen(\"a \").read()'"),
    ],
)
def test_found_and_removed(command: str, kinds: list[str], bare: str) -> None:
    found = find_constructs(command)
    assert [construct.kind for construct in found] == kinds
    assert remove_constructs(command, found).strip() == bare


@pytest.mark.parametrize(
    "command",
    [
        "make",
        "a 2>&1",
        "a >&2",
        "a 2>/dev/stderr",
        "a | tee log",
        "a | cat",
        "perl -pi -e 's/a/b/' f",
        "MAKEFLAGS=-j8 make",
        "grep -q x y",
        "sh cuda.run --silent",
        "echo 'make 2>/dev/null'",
        "echo text > notes.txt",
        "a < /dev/null",
        "# make 2>/dev/null",
        "echo $((6 & 3))",
        "curl -o silent u",
        "wget -Oq u",
        "a < <(b)",
    ],
)
def test_nothing_to_find(command: str) -> None:
    assert find_constructs(command) == ()


@pytest.mark.parametrize(
    ("command", "expected"),
    [("f() { a 2>/dev/null; }", True), ("exec 2>log", True), ("a 2>log", False), ("alias a='b 2>/dev/null'", True)],
)
def test_what_acts_on_later_commands_is_marked(command: str, expected: bool) -> None:
    assert [construct.lasting for construct in find_constructs(command)] == [expected]


def test_one_construct_alone_can_be_removed() -> None:
    first, second = find_constructs("a 2>/dev/null; b &>/dev/null")
    assert remove_constructs("a 2>/dev/null; b &>/dev/null", [second]) == "a 2>/dev/null; b "
    assert remove_constructs("a 2>/dev/null; b &>/dev/null", [first]) == "a ; b &>/dev/null"


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(
    ("command", "status", "out", "err", "kept"),
    [
        ("a > f", 3, "out\n", "err\n", "out\n"),
        ("a > f; cat f", 0, "out\nout\n", "err\n", "out\n"),
        ("a >> f", 3, "out\n", "err\n", "old\nout\n"),
        ("a 2> f", 3, "out\n", "err\n", "err\n"),
        ("a > f 2>&1", 3, "out\nerr\n", "", "out\nerr\n"),
        ("a > g 2> f", 3, "out\n", "err\n", "err\n"),
        ("a 2>&1 | sort > f; test 1", 0, "err\nout\n", "", "err\nout\n"),
        ("set -e; a > f; echo no", 3, "out\n", "err\n", "out\n"),
        ("! a > f", 0, "out\n", "err\n", "out\n"),
        ("true && a > f || echo failed", 0, "out\nfailed\n", "err\n", "out\n"),
        ('sh -c "a > f; exit \\$?"', 3, "out\n", "err\n", "out\n"),
        ("cat > f <<E\nx\nE\na >> f", 3, "out\n", "err\n", "x\nout\n"),
        ("sort <<E > f; echo end\nx\nE", 0, "x\nend\n", "", "x\n"),
        ("n=f; a 2> $n", 3, "out\n", "err\n", "err\n"),
        ("n=/dev/null; a 2> $n", 3, "out\n", "err\n", "old\n"),
        ("for i in 1 2; do a; done > f 2>/dev/null", 3, "out\nout\n", "err\nerr\n", "out\nout\n"),
        ("{ a > f; } 2> g", 3, "out\n", "err\n", "out\n"),
    ],
)
def test_what_goes_to_a_file_is_copied(
    tmp_path: Path, shell: str, command: str, status: int, out: str, err: str, kept: str
) -> None:
    """Without its constructs a command shows what it wrote, leaves its files as they were to be, and ends as it did."""
    (tmp_path / "a").write_text("#!/bin/sh\necho out\necho err >&2\nexit 3\n")
    (tmp_path / "a").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    def run(code: str) -> tuple[int, str, str, str]:
        (tmp_path / "f").write_text("old\n")
        ran = subprocess.run([shell, "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True)
        return ran.returncode, ran.stdout, ran.stderr, (tmp_path / "f").read_text()

    assert run(remove_constructs(command, find_constructs(command))) == (status, out, err, kept)
    assert (run(command)[0], run(command)[3]) == (status, kept)


def test_what_cannot_be_read_is_named_as_written() -> None:
    command = "bash -c \"$(cat <<'E'\na 2>/dev/null\nE\n)\""
    assert {construct.text for construct in find_constructs(command)} == {command.removeprefix("bash -c ")}


def test_offsets_count_bytes() -> None:
    command = "echo 'grüß 漢字'; ä 2>/dev/null; echo ü"
    assert remove_constructs(command, find_constructs(command)) == "echo 'grüß 漢字'; ä ; echo ü"


def test_a_brace_before_any_character_crashes_nothing() -> None:
    """The grammar's scanner reads past a table of C's at characters like these, and takes the process with it."""
    code = (
        "from devnull.eval.suppression.shell_constructs import find_constructs\n"
        "for c in range(0x100, 0x110000, 997): find_constructs('{' + chr(c))"
    )
    surrogates = code.replace("find_constructs('{'", "0xD800 <= c < 0xE000 or find_constructs('{'")
    assert subprocess.run([sys.executable, "-c", surrogates]).returncode == 0


@pytest.mark.parametrize(
    ("command", "label"),
    [
        ("(" * 3000 + "a 2>/dev/null" + ")" * 3000, "opaque"),
        ("a && " * 5000 + "b 2>/dev/null", "strong"),
        ("".join(f"bash <<E{i}\n" for i in range(500)) + "a 2>/dev/null", "opaque"),
        ("python3 -c '" + "(" * 3000 + "1" + ")" * 3000 + "; sys.stderr = None'", "opaque"),
    ],
)
def test_code_nested_deep_is_read_or_opaque(command: str, label: str) -> None:
    assert label_command(command) == label


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_any_text_is_read(command: str) -> None:
    found = find_constructs(command)
    remove_constructs(command, found)


@given(
    st.lists(
        st.sampled_from(
            ["a", "2>/dev/null", "|", "tail -1", "&&", "||", "true", "(", ")", "'", '"', "$(", ";", "<<E", "\n", "E"]
        ),
        max_size=12,
    )
)
def test_any_words_are_read_and_removal_ends(words: list[str]) -> None:
    command = " ".join(words)
    assert len(remove_constructs(command, find_constructs(command))) <= 10 * len(command) + 8


def test_a_file_acts_only_where_it_is_named() -> None:
    (made,) = find_constructs("base64 -d x > run")
    assert made.lasting and not made.acts_in("base64 -d x > run")
    assert made.acts_in("base64 -d x > run; sh run") and made.acts_in("./run") and not made.acts_in("ls")


@pytest.mark.parametrize(
    ("words", "positions"),
    [
        (["pip", "install", "-q", "x"], [2]),
        (["cmp", "-s", "a", "b"], [1]),
        (["ffmpeg", "-loglevel", "quiet", "-i", "x"], [1]),
        (["pip", "install", "-qqq", "x"], [2]),
        (["python3", "-m", "pip", "-q", "install", "-qq"], [3, 5]),
        (["curl", "-s", "u"], [1]),
        (["curl", "--stderr", "log", "u"], [1]),
        (["curl", "--stderr", "-", "u"], []),
        (["wget", "-nvo", "log", "u"], [1]),
        (["wget", "-o/dev/stderr", "u"], []),
        (["wget", "--output-file=log", "u"], [1]),
        (["ssh", "-E", "log", "h"], [1]),
        (["ssh", "-oLogLevel=QUIET", "h"], [1]),
        (["scp", "-o", "LogLevel QUIET", "a", "b"], [1]),
        (["ssh", "-o", "LogLevel=VERBOSE", "h"], []),
        (["curl", "-s", "-S", "u"], [1]),
        (["grep", "-qs", "x"], [1]),
        (["tar", "--quiet"], []),
        (["sometool", "--quiet"], [1]),
        (["sometool", "-q"], []),
        (["./cuda.run", "--silent"], []),
    ],
)
def test_flags_that_silence_errors(words: list[str], positions: list[int]) -> None:
    assert [flag.first for flag in find_quiet_flags(words)] == positions
