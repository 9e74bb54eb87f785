"""Possible hiding constructs, and commands without them."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnull.eval.suppression.constructs import remove_constructs
from devnull.eval.suppression.python_constructs import find_python_constructs
from devnull.eval.suppression.quiet_flags import find_quiet_flags
from devnull.eval.suppression.shell_constructs import find_constructs


@pytest.mark.parametrize(
    ("command", "kinds", "bare"),
    [
        ("a 2>/dev/null || true", ["stderr", "status"], "a"),
        ("2>/dev/null a", ["stderr"], "a"),
        ("make 2>&1 | tail -1", ["pipe"], "make 2>&1"),
        ("a |& grep -v x | head", ["pipe", "pipe"], "a"),
        ("a >log 2>&1", ["output", "stderr"], "a"),
        ("a 2>&1 >log", ["output"], "a 2>&1"),
        ("exec 2>&-", ["stderr"], "exec"),
        ("{ a; b; } &>>log", ["stderr"], "{ a; b; }"),
        ("x=$(a 2>&1)", ["stderr"], "x=$(a )"),
        ("bash -c 'a 2>/dev/null'", ["stderr"], "bash -c 'a '"),
        ("curl -fsL u", ["quiet"], "curl -fL u"),
        ("nohup a &", ["background", "background"], "a & wait $!;"),
        ("echo 'a 2>/dev/null' | sh", ["stderr"], "echo 'a ' | sh"),
        ("cat <<'E' > s.sh\na 2>/dev/null\nE", ["stderr"], "cat <<'E' > s.sh\na \nE"),
        ("perl -e 'x'", ["opaque"], "perl -e 'x'"),
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
        "curl -sS u",
        "pip install -q x",
        "apt-get -qq install x",
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
    first, second = find_constructs("a 2>/dev/null; b 2>log")
    assert remove_constructs("a 2>/dev/null; b 2>log", [second]) == "a 2>/dev/null; b "
    assert remove_constructs("a 2>/dev/null; b 2>log", [first]) == "a ; b 2>log"


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


@pytest.mark.parametrize("command", ["(" * 3000 + "a" + ")" * 3000, "a && " * 5000 + "b 2>/dev/null"])
def test_code_nested_too_deep_is_said_and_not_read(command: str) -> None:
    (found,) = find_constructs(command)
    assert found.kind == "opaque" and "too deep" in found.text


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


def test_python_without_its_silencers_is_still_python() -> None:
    """Also between single quotes: nothing put in their place holds a quote."""
    code = "with redirect_stderr(x), suppress(E): subprocess.getoutput(c); os.dup2(n, 2); run(a, stderr=PIPE)"
    bare = remove_constructs(f"python3 -c '{code}'", find_constructs(f"python3 -c '{code}'"))
    inside = bare.removeprefix("python3 -c '").removesuffix("'")
    compile(inside, "", "exec")
    assert not set("'\"") & set(inside) and "PIPE" not in inside and "dup2" not in inside


@pytest.mark.parametrize(
    ("words", "positions"),
    [
        (["pip", "install", "-q", "x"], []),
        (["pip", "install", "-qqq", "x"], [2]),
        (["python3", "-m", "pip", "-q", "install", "-qq"], [3, 5]),
        (["curl", "-s", "u"], [1]),
        (["curl", "-s", "-S", "u"], []),
        (["grep", "-qs", "x"], [1]),
        (["tar", "--quiet"], []),
        (["sometool", "--quiet"], [1]),
        (["sometool", "-q"], []),
        (["./cuda.run", "--silent"], []),
    ],
)
def test_flags_that_silence_errors(words: list[str], positions: list[int]) -> None:
    assert [flag.first for flag in find_quiet_flags(words)] == positions


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("try: x()\nexcept: pass", 1),
        ("try: x()\nexcept Exception as e:\n    y = 1", 1),
        ("try: x()\nexcept Exception as e:\n    print(e)", 0),
        ("try: x()\nexcept Exception:\n    raise", 0),
        ("try: x()\nexcept Exception:\n    sys.exit(0)", 1),
        ("try: x()\nexcept Exception:\n    sys.exit(1)", 0),
        ("run(a, stderr=DEVNULL)", 1),
        ("run(a, capture_output=True)", 1),
        ("run(a, stderr=open('/dev/null'))", 1),
        ("run(a, stdout=DEVNULL, stderr=STDOUT)", 1),
        ("run(a, stderr=None)", 0),
        ("run(a, stderr=sys.stderr)", 0),
        ("try: import a\nexcept ImportError: import b as a", 0),
        ("os.dup2(null, 2)", 1),
        ("os.dup2(a, b)", 0),
        ("sys.stderr.close()", 1),
        ("file.close()", 0),
        ("subprocess.getoutput('a')", 1),
        ("eval(x)", 1),
        ("os.system('make')", 0),
        ("sys.stderr = open('/dev/null', 'w')", 1),
        ("os.system('make 2>/dev/null')", 1),
        ("not python (", 0),
    ],
)
def test_python_that_swallows_errors(code: str, found: int) -> None:
    assert len(list(find_python_constructs(code))) == found
