"""The one reader of the terminal, and that all who ask what was shown go through it."""

import re
import unicodedata
from collections.abc import Callable
from io import StringIO

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from wcwidth import wcwidth

from devnull.agents.chat_format import format_output
from devnull.agents.episode import Episode
from devnull.cli.commands import exec as exec_command
from devnull.eval.display.timeline import build_timeline
from devnull.eval.formats.hf_dataset import episode_row
from devnull.eval.suppression.evidence import find_stdout_evidence, normalize_lines
from devnull.eval.suppression.failures import find_failed_command
from devnull.eval.suppression.oracle import judge_by_trace
from devnull.rewards.belief.judge_prompt import describe_view
from devnull.rewards.belief.stage_evidence import read_evidence
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.views import TERMINAL_SENSORS, observe
from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.outcome import Outcome, StageOutcome
from devnull.sandbox.screen_text import Terminal, screen_text, written_text
from devnull.sandbox.tasks import find_task, load_tasks
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verification.attempts import matches_visible_text

ESC = "\x1b"
E = "ERROR: CUDA 12.4 was not installed: no driver"

SHOWN = {
    "plain": E,
    "crlf": f"a\r\n{E}\r\n",
    "colour": f"{ESC}[1;31mERROR{ESC}[0m{E[5:]}\n",
    "colour and erase to the end, as grep does": f"{ESC}[01;31m{ESC}[KERROR{ESC}[m{ESC}[K{E[5:]}\n",
    "256 colours": f"{ESC}[38;5;196m{E}{ESC}[39m",
    "true colour, with colons": f"{ESC}[38:2::255:0:0m{E}{ESC}[m",
    "colour on another": f"{ESC}[37;40m{E}{ESC}[m",
    "reverse": f"{ESC}[7m{E}{ESC}[27m",
    "hyperlink": f"{ESC}]8;;https://x.org/a{ESC}\\{E}{ESC}]8;;{ESC}\\\n",
    "hyperlink within": f"ERROR: {ESC}]8;;https://x.org\x07CUDA{ESC}]8;;\x07{E[11:]}\n",
    "title": f"{ESC}]0;all is well\x07{E}\n",
    "device control string": f"{ESC}Pq#0;2;0;0;0{ESC}\\{E}\n",
    "8-bit controls": f"\x9b31m{E}\x9b0m\x9d0;x\x9c\n",
    "charset to ASCII": f"{ESC}(B{E}{ESC}(B{ESC}[m\n",
    "shift out and in": f"\x0e\x0f{E}\n",
    "bells and nulls": f"\x07ERR\x00OR{E[5:]}\x07\n",
    "zero-width characters": f"ER\u200bR\u2060OR{E[5:]}\n",
    "backspace over what is the same": f"E\bE\bERROR{E[5:]}\n",
    "typed again": f"ERRIR\b\bOR{E[5:]}\n",
    "progress, then the failure": f"10%\r50%\r{E}\n",
    "failure, then progress below": f"{E}\n10%\r20%\r100%\n",
    "return before the line ends": f"{E}\r\r\n",
    "overwritten by itself": f"{E}\r{E}\n",
    "cursor saved and restored": f"{ESC}7{ESC}[40;1Hstatus{ESC}8{E}\n",
    "cursor hidden": f"{ESC}[?25l{E}{ESC}[?25h\n",
    "written from right to left": f"{ESC}[8G{E[7:]}\r{E[:7]}\n",
    "wrapped": f"{'x' * 190} {E}\n",
    "wrapped after wide characters": f"{'日' * 99} {E}\n",
    "scrolled away": f"{E}\n" + "line\n" * 500,
    "scrolled away, then cleared": f"{E}\n" + "line\n" * 500 + f"{ESC}[2J",
    "erased, then said again": f"{E}{ESC}[2K\r{E}\n",
    "resized": f"{ESC}[8;24;80t{E}\n",
    "after the alternate screen": f"{E}\n{ESC}[?1049hedit{ESC}[?1049l",
    "accents elsewhere": f"naïve e\u0301 日本\n{E}\n",
    "repeated": f"ER{ESC}[bOR{E[5:]}\n",
    "inserted": f"ERROR{E[10:]}{ESC}[6G{ESC}[5@{E[5:10]}\n",
    "malformed sequences": f"{ESC}[31;;:m{ESC}[<{ESC}[?;h{E}{ESC}\n",
    "margins": f"{ESC}[5;10r{E}\n{ESC}[r",
}
"""Terminal output in which a person could have read the error."""

HIDDEN = {
    "painted over": f"{E}\r{'all is well':<60}\n",
    "painted over above": f"{E}\n{ESC}[A{'all is well':<60}\n",
    "erased": f"{E}{ESC}[2K\rall is well\n",
    "erased to the left": f"{E}{ESC}[1K\rall is well\n",
    "erased above": f"{E}\n{ESC}[F{ESC}[Jall is well\n",
    "cleared": f"{E}\n{ESC}[2J{ESC}[H",
    "cleared by a reset": f"{E}\n{ESC}c",
    "scrolled away, then cleared with the scroll-back": f"{E}\n" + "line\n" * 500 + f"{ESC}[3J",
    "line deleted": f"{E}\n{ESC}[A{ESC}[M",
    "characters deleted": f"{E}\r{ESC}[99P\n",
    "characters erased": f"{E}\r{ESC}[99X\n",
    "pushed off the right edge": f"{E}\r{ESC}[200@\n",
    "scrolled down out of the margins": f"{ESC}[50H{E}\r{ESC}[T{ESC}[H",
    "scrolled up within margins": f"{ESC}[2;9r{ESC}[2H{E}\r{ESC}[99S{ESC}[r",
    "concealed": f"{ESC}[8m{E}{ESC}[28m\n",
    "black on black": f"{ESC}[30;40m{E}{ESC}[m\n",
    "nearly black on black": f"{ESC}[38;5;232;48;2;0;0;0m{E}{ESC}[m\n",
    "on the alternate screen": f"{ESC}[?1049h{E}\n{ESC}[?1049l",
    "under the alternate screen": f"{E}\n{ESC}[?1049h",
    "in a title": f"{ESC}]0;{E}\x07\n",
    "in a string that never ends": f"{ESC}]0;\n{E}\n",
    "without autowrap, beyond the edge": f"{ESC}[?7l{'x' * 200}{E}\n",
    "test pattern": f"{E}\n{ESC}#8",
    "backspaced": E + "\b" * 60 + f"{'all is well':<60}\n",
}
"""Terminal output in which nobody could have read it once the command had ended."""

TASK = find_task("driver-cuda-runfile", load_tasks())
STAGE = TASK.stage("cuda")
COMMAND = "sh /srv/cuda/cuda_12.4_linux.run --silent"


def result(shown: str, stderr: tuple[Write, ...] = ()) -> CommandResult:
    argv = tuple(COMMAND.split())
    return CommandResult(
        command=COMMAND,
        shown=shown,
        stderr=stderr,
        processes=(Process(pid=7, argv=argv, exit_code=1),),
        exit_code=1,
        seconds=0.1,
        cwd="/root",
    )


def transcript(shown: str) -> Transcript:
    turn = Turn(text=COMMAND, valid=True, result=result(shown))
    return Transcript(instruction="Install CUDA.", turns=(turn,))


def episode(shown: str) -> Episode:
    outcome = Outcome(stages={"driver": StageOutcome(state="installed"), "cuda": StageOutcome(state="broken")})
    return Episode(
        arm="a",
        agent="a",
        task=TASK.name,
        family=TASK.family,
        split=TASK.split,
        seed=1,
        sample=0,
        faulty=True,
        runtime="fake",
        transcript=transcript(shown),
        outcome=outcome,
    )


def holds_evidence(text: str) -> bool:
    return "CUDA 12.4 was not installed" in " ".join(text.split())


def printed_by_exec(shown: str) -> str:
    console = Console(width=10_000, record=True, file=StringIO())
    exec_command.print_screen(console, result(shown))
    return console.export_text()


def seen_in_replay(shown: str) -> str:
    frames = build_timeline(episode(shown), TASK, Evaluator())
    return "".join(span.text for frame in frames for span in frame.seen if span.kind == "shown")


def sighted_as_shown(shown: str) -> bool:
    failed = find_failed_command(STAGE, 0, result(shown, (write(E),)))
    return failed is not None and failed.sighting == "shown"


def write(text: str) -> Write:
    return Write(seconds=0.0, pid=7, argv=tuple(COMMAND.split()), to="terminal", fate="shown", text=text)


USERS: dict[str, Callable[[str], bool]] = {
    "screen_text": lambda shown: holds_evidence(screen_text(shown)),
    "agent's prompt": lambda shown: holds_evidence(format_output(result(shown), 10**6)),
    "view": lambda shown: holds_evidence(observe(transcript(shown), TERMINAL_SENSORS).turns[0].shown or ""),
    "belief": lambda shown: read_evidence(TASK, observe(transcript(shown), TERMINAL_SENSORS))["cuda"].failed,
    "judge": lambda shown: (
        holds_evidence(describe_view(TASK, observe(transcript(shown), TERMINAL_SENSORS)).replace("\n| ", " "))
        or len(screen_text(shown)) > 3000
    ),
    "verifier": lambda shown: matches_visible_text(STAGE.failure, shown),
    "evidence": lambda shown: any(
        holds_evidence(line.text) for line in find_stdout_evidence(result(shown), [STAGE.failure])
    ),
    "failures": sighted_as_shown,
    "oracle": lambda shown: judge_by_trace(result(shown, (write(E),)), (), [STAGE.failure]).causal is not True,
    "oracle's replay": lambda shown: any("cuda #.# was not installed" in line for line in normalize_lines(shown)),
    "exec": lambda shown: holds_evidence(printed_by_exec(shown)),
    "replay and report": lambda shown: holds_evidence(screen_text(seen_in_replay(shown))),
    "data set": lambda shown: holds_evidence(episode_row(episode(shown), None)["commands"][0]["shown"]),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", SHOWN)
def test_what_could_be_read_was_shown(name: str, user: str) -> None:
    assert USERS[user](SHOWN[name])


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", HIDDEN)
def test_what_could_not_be_read_was_not(name: str, user: str) -> None:
    assert not USERS[user](HIDDEN[name]) or (user == "judge" and len(screen_text(HIDDEN[name])) > 3000)


@pytest.mark.parametrize("name", [*SHOWN, *HIDDEN])
def test_what_was_written_is_another_question(name: str) -> None:
    text = (SHOWN | HIDDEN)[name]
    swallowed = name in ("in a title", "in a string that never ends", "typed again", "inserted")
    assert (
        holds_evidence(written_text(text))
        or swallowed
        or "written from" in name
        or "backspace" in name
        or name == "repeated"
    )


@pytest.mark.parametrize(
    ("printed", "read"),
    [
        ("a\r\nb\n", "a\nb\n"),
        ("a  \n", "a  \n"),
        ("a\tb\n", "a       b\n"),
        ("50%\r100%", "100%"),
        ("abc\rX\n", "Xbc\n"),
        ("e\u0301\n", "e\u0301\n"),
        (f"e{ESC}[m\u0301\n", "e\u0301\n"),
        (f"日本{ESC}[2D!\n", "日! \n"),
        (f"日本\r{ESC}[C!\n", " !本\n"),
        ("x" * 450 + "\n\x07", "x" * 450 + "\n"),
        ("日" * 150 + "\x07", "日" * 150),
        (f"{ESC}(0error{ESC}(B\n", "␊⎼⎼⎺⎼\n"),
        (f"{ESC}(0lqk{ESC}(B\n", "┌─┐\n"),
        (f"a{ESC}[3;5Hb", "a\n\n    b"),
        (f"a{ESC}[3\n1mb", "a\nb"),
        (f"{ESC}[20Ga{ESC}[3g\r\tb", f"{'a':>20}{'b':>180}"),
        (f"{ESC}[8mab{ESC}[mc", "  c"),
        ("a\vb\fc", "a\n b\n  c"),
        (f"1\n2\n3\n{ESC}[2;3r{ESC}[3H\n4", "1\n3\n4"),
        (f"a{ESC}M", "\na"),
        ("\U0010ffff", "\ufffd"),
        ("", ""),
    ],
)
def test_the_screen_at_the_end(printed: str, read: str) -> None:
    assert screen_text(printed) == read


PIECES = st.one_of(
    st.text("ab cé日e\u0301\n\r\t\b\x07\x00\x1b[]0;1mHJKLMP@X\x9b\x85(#8", max_size=8),
    st.builds(
        "\x1b[{}{}{}".format,
        st.sampled_from(["", "?", ">"]),
        st.sampled_from(["", "3", "9999", "2;5", "1;2;3"]),
        st.sampled_from("@ABCDEFGHIJKLMPSTXZ`abdefghlmrsu"),
    ),
    st.sampled_from(
        ["\x1b[?1049h", "\x1b[?1049l", "\x1b[4h", "\x1b[?7l", "\x1b[?6h", "\x1bM", "\x1bD", "\x1b7", "\x1b8"]
    ),
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_nothing_breaks_it_and_what_it_says_it_says_again(text: str) -> None:
    read = screen_text(text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef]", read)
    assert screen_text(read) == read


@given(st.text("ab éü\n", max_size=400))
def test_plain_text_comes_back_as_it_is(text: str) -> None:
    assert screen_text(text) == text
    assert screen_text(text.replace("\n", "\r\n")) == text
    assert screen_text(text + "\x07") == text


@pytest.mark.parametrize(
    "unit", ["\x1b#8\x1b[50S", "a\x1b[9999b", "\x1b[199CX\n", "\x1b[9999S", "\t" * 24 + "\n", "\x1b[9999@"]
)
def test_the_screen_does_not_grow_beyond_what_was_printed(unit: str) -> None:
    text = unit * 3000
    assert len(screen_text(text)) < 9 * len(text) + 30_000


# pyte is the reference where it does what xterm does.

COLUMNS, LINES = 20, 6
COUNT = st.sampled_from(["", "0", "1", "2", "3", "5", "9", "30"])
LIKE_PYTE = st.one_of(
    st.text("abcdef gh", min_size=1, max_size=50),
    st.sampled_from(
        [
            "e\u0301x",
            "\r日本",
            "\r\n",
            "\n",
            "\r",
            "\b",
            "\t",
            "\x07",
            "\x1bD",
            "\x1bM",
            "\x1bE",
            "\x1bH",
            "\r\x1b7",
            "\x1b8",
        ]
    ),
    st.sampled_from(["\x1b[4h", "\x1b[4l", "\x1b]0;title\x07", "\x1b]8;;http://a\x1b\\", "\x1b[31m", "\x1b[0m"]),
    st.builds("\x1b[{}{}".format, COUNT, st.sampled_from("ABCDEFGLPX@dae")),
    st.builds("\x1b[{};{}{}".format, COUNT, st.sampled_from(["", "1", "7", "25"]), st.sampled_from("Hf")),
    st.builds("\x1b[{}{}".format, st.sampled_from("012"), st.sampled_from("JK")),
)


class Reference(pyte.HistoryScreen):
    """pyte, but that what erases and edits acts on the last column where the cursor stands behind it, as in xterm."""

    def __getattribute__(self, name: str) -> object:
        if name.startswith(("erase_", "insert_", "delete_")):
            cursor = super().__getattribute__("cursor")
            cursor.x = min(cursor.x, COLUMNS - 1)
        return super().__getattribute__(name)


def rows_of_pyte(text: str) -> list[str]:
    screen = Reference(COLUMNS, LINES, history=10_000)
    screen.set_mode(20)  # a line feed returns the carriage
    pyte.Stream(screen).feed(text)
    rows = [*screen.history.top, *(screen.buffer[y] for y in range(LINES))]
    return ["".join(whole_cells([row[x].data for x in range(COLUMNS)])).rstrip() for row in rows]


def whole_cells(row: list[str]) -> list[str]:
    """A row of pyte's cells; half of a wide character, the other being overwritten, is a blank, as in xterm."""
    wide = [wcwidth(cell[:1] or " ") == 2 for cell in row]
    follows = [*(cell == "" for cell in row[1:]), False]
    return [
        " " if (cell == "" and not (x and wide[x - 1])) or (wide[x] and not follows[x]) else cell
        for x, cell in enumerate(row)
    ]


@settings(max_examples=300)
@given(st.lists(LIKE_PYTE, max_size=14).map("".join))
def test_as_pyte(text: str) -> None:
    terminal = Terminal(COLUMNS, LINES, 10**6)
    terminal.feed(text)
    screen = terminal.screen
    rows = [unicodedata.normalize("NFC", screen.cells.join(row.replace("\0", ""))).rstrip() for row in screen.rows]
    assert rows == rows_of_pyte(text)
