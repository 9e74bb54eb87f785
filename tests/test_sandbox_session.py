"""What the host makes of a supervisor's frames: steps, statuses, fates, texts, timing."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from devnull.sandbox.command import CommandResult
from devnull.sandbox.recording.recorder import Recorder, strip_shell_prefix
from devnull.sandbox.recording.stderr_fates import CLOSED, FILE, NOWHERE, PIPE, TERMINAL, RawWrite, decide_fates
from devnull.sandbox.recording.xtrace import TracedCommand, exit_statuses, split_words
from devnull.sandbox.session import _split_list
from devnull.sandbox.snapshot import BoxSnapshot, Redirection, restore_script

BIG = "the whole of a long complaint"


def raw(kind: int, *texts: str, to: str = "/x", pid: int = 9) -> list[RawWrite]:
    return [RawWrite(0.0, pid, ("p",), kind, to, text.encode()) for text in texts]


def fates(writes: list[RawWrite], shown: str) -> list[tuple[str, str]]:
    return [(write.fate, write.text) for write in decide_fates(writes, shown)]


def test_fates_by_place() -> None:
    writes = raw(TERMINAL, "a\n") + raw(NOWHERE, "b\n") + raw(CLOSED, "c\n") + raw(FILE, "d\n")
    assert [fate for fate, _ in fates(writes, "a\nb\nc\n")] == ["shown", "suppressed", "suppressed", "suppressed"]
    assert [write.to for write in decide_fates(writes, "a\n")] == ["terminal", "/x", "closed", "/x"]


def test_relayed_line_by_line() -> None:
    assert fates(raw(PIPE, "a\nb\nc\n"), "b\n") == [("suppressed", "a\n"), ("relayed", "b\n"), ("suppressed", "c\n")]
    assert fates(raw(PIPE, "a", "b\n", "c\n"), "ab\n") == [("relayed", "a"), ("relayed", "b\n"), ("suppressed", "c\n")]


def test_a_shown_line_serves_one_written_line() -> None:
    assert fates(raw(PIPE, "a\n", "a\n"), "a\n") == [("relayed", "a\n"), ("suppressed", "a\n")]
    writes = raw(TERMINAL, "a\n") + raw(PIPE, "a\n", to="pipe:[1]")
    assert [fate for fate, _ in fates(writes, "a\n")] == ["shown", "suppressed"]


def test_a_long_line_is_found_inside_another() -> None:
    assert fates(raw(PIPE, BIG + "\n"), f"> {BIG} <\n") == [("relayed", BIG + "\n")]
    assert fates(raw(PIPE, "no\n"), "cannot\n") == [("suppressed", "no\n")]


def test_a_blank_line_shares_the_fate_before_it() -> None:
    assert fates(raw(PIPE, f"\n{BIG}\n\n"), f"{BIG}\n") == [("relayed", f"\n{BIG}\n\n")]


@given(st.lists(st.text(alphabet="ab\né", max_size=6), max_size=8), st.text(alphabet="ab\n", max_size=20))
def test_judging_loses_no_text(texts: list[str], shown: str) -> None:
    for kind in (TERMINAL, NOWHERE, PIPE):
        writes = raw(kind, *texts)
        assert "".join(write.text for write in decide_fates(writes, shown)) == "".join(texts)


@given(st.text(max_size=30), st.integers(0, 60))
def test_a_character_cut_in_two_is_whole_again(text: str, cut: int) -> None:
    data = text.encode("utf-8", "surrogatepass").replace(b"\xed", b"?")
    writes = [RawWrite(0.0, 1, (), NOWHERE, "/dev/null", part) for part in (data[:cut], data[cut:])]
    assert "".join(write.text for write in decide_fates(writes, "")) == data.decode("utf-8", "backslashreplace")


def test_words_of_a_trace() -> None:
    assert split_words(r"echo 'a b' c\'d $'x\n\303\251\'' '' \"q\"") == ("echo", "a b", "c'd", "x\né'", "", '"q"')
    assert split_words("echo 'it'\\''s'") == ("echo", "it's")
    assert split_words("echo 'open") == ("echo", "open")


@given(st.text(max_size=200))
def test_any_line_splits(line: str) -> None:
    split_words(line)


def test_statuses_of_steps() -> None:
    steps = [TracedCommand(i, pid, before, depth, ()) for i, (pid, before, depth) in enumerate(
        [(1, 0, 0), (1, 0, 2), (1, 7, 2), (1, 3, 0), (5, 4, 0), (5, 1, 0), (1, 6, 0)]
    )]  # fmt: skip
    # a function call, two steps in it, a step after it, two steps of a subshell, the last step
    assert exit_statuses(steps, {5: 1}, {5: 6}, 1, 9) == [3, 7, 3, 4, 1, 6, 9]


def test_bash_as_a_person_reads_it() -> None:
    assert strip_shell_prefix("/dev/fd/10: line 12: x: command not found\n") == "bash: x: command not found\n"
    assert strip_shell_prefix("/dev/fd/10: eval: line 3: syntax error\n") == "bash: syntax error\n"
    assert strip_shell_prefix("/dev/fd/10: line 4:    12 Killed                  sh -c 'x'\nnext\n") == "Killed\nnext\n"


def recorded(*frames: tuple[bytes, bytes], status: int = 0) -> CommandResult:
    recorder = Recorder()
    recorder.add(b"N", struct.pack("<II", 2, 1))
    recorder.add(b"B", struct.pack("<QI", 0, 2))
    for kind, payload in frames:
        recorder.add(kind, payload)
    return recorder.result("c", struct.pack("<IBQQ", status, 0, 0, 1000) + b"/root")


def output(us: int, data: bytes) -> tuple[bytes, bytes]:
    return b"O", struct.pack("<Q", us) + data


def by_the_shell(text: bytes, kind: int = TERMINAL) -> tuple[bytes, bytes]:
    return b"W", struct.pack("<QIBBQI", 1, 2, 2, kind | 0x80, len(text), 0) + text


def test_timing_adds_up_whatever_was_cut_in_two() -> None:
    parts = [b"a\xc3", b"\xa9/dev/fd/1", b"0: line 3: no\n", b"\xff"]
    complaint = by_the_shell(b"/dev/fd/10: line 3: no\n")
    result = recorded(complaint, *(output(i * 50_000, part) for i, part in enumerate(parts)))
    assert result.shown == "aébash: no\n\\xff"
    assert sum(length for _, length in result.timing) == len(result.shown)
    assert [seconds for seconds, _ in result.timing] == [0.0, 0.05, 0.1, 0.15]


def test_a_program_is_not_counted_twice() -> None:
    result = recorded(
        (b"T", struct.pack("<QI", 1, 2) + b"0:1:ls '/a b'"),
        (b"N", struct.pack("<II", 3, 2)),
        (b"X", struct.pack("<QII", 2, 3, 2) + b"/bin/ls\0ls\0/a b\0"),
        (b"E", struct.pack("<QII", 3, 3, 2)),
        (b"T", struct.pack("<QI", 4, 2) + b"2:1:true"),
    )
    assert [(p.argv, p.exit_code, p.builtin) for p in result.processes] == [
        (("ls", "/a b"), 2, False),
        (("true",), 0, True),
    ]


def test_a_program_with_more_arguments_than_are_kept_is_not_counted_twice() -> None:
    words = b" ".join(b"%05d" % i for i in range(9000))
    kept = words.replace(b" ", b"\0")[:32_760]
    result = recorded(
        (b"T", struct.pack("<QI", 1, 2) + b"0:1:true " + words),
        (b"X", struct.pack("<QII", 2, 3, 2) + b"/bin/true\0true\0" + kept + b"\0"),
        (b"E", struct.pack("<QII", 3, 3, 2)),
    )
    assert [(p.argv[:2], p.exit_code, p.builtin) for p in result.processes] == [(("true", "00000"), 2, False)]


def test_a_result_goes_through_json() -> None:
    result = recorded(
        output(1, b"\x00\x1b[0m\xff"), (b"W", struct.pack("<QIBBQI", 1, 2, 2, NOWHERE, 1, 9) + b"/dev/null\xfe")
    )
    assert CommandResult.model_validate_json(result.model_dump_json()) == result


def test_redirections_come_back() -> None:
    snapshot = BoxSnapshot(
        (), "/a b", b'declare -r BASHOPTS="x"\ndeclare -x A="1"\nset -o xtrace\n',
        (Redirection(0, 2, 1, "/dev/pts/0"), Redirection(1, 0o2002, 1, "/dev/pts/0"), Redirection(2, 1, 2, "/dev/null"),
         Redirection(3, 0, 2, "/in"), Redirection(4, 0, 0, "")), (),
    )  # fmt: skip
    assert restore_script(snapshot).split("\n") == [
        "{", 'declare -x A="1"', "", "} >/dev/null 2>&1", "cd -- '/a b'",
        "exec 1>&2", "exec 2>>/dev/null", "exec 3</in", "exec 4>&-",
    ]  # fmt: skip


def test_a_long_list_of_changes_goes_in_parts() -> None:
    paths = b"".join(b"+/some/folder/%06d\0" % i for i in range(400_000))
    parts = _split_list(paths)
    assert b"".join(reversed(parts)) == paths and max(map(len, parts)) <= 4 << 20
    assert all(part.endswith(b"\0") for part in parts) and _split_list(b"") == [b""]
