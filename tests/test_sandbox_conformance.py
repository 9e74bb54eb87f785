# ruff: noqa: E501 - tables of commands and what they print
"""One behaviour for every runtime: the same cases against fake, docker, rootless as root and rootless as a user."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.command import CommandResult
from sandbox.errors import InfrastructureError
from sandbox.runtime import Limits
from sandbox.runtime_fake import FakeRuntime
from sandbox.runtime_rootless import ProcessBox, RootlessRuntime
from sandbox.session import BoxSession
from sandbox.supervisor import find_supervisor

NOBODY = 65534
LIMITS = Limits(seconds=20, memory_bytes=256 << 20, disk_bytes=64 << 20, pids=64)


@dataclass(frozen=True)
class Kind:
    """One runtime under test."""

    name: str
    start: Callable[[Limits], BoxSession]

    @property
    def isolates(self) -> bool:
        return self.name != "fake"


@pytest.fixture(scope="session")
def docker_image() -> str:
    from sandbox.image import find_image

    try:
        image = find_image()
    except InfrastructureError as error:
        pytest.skip(str(error))
    if image is None:
        from sandbox.runtime_docker import connect

        older = connect().images.list(filters={"label": "org.devnull.image=1"})
        if not older:
            pytest.skip("no task image; build it: devnull image build")
        image = str(older[0].id)
    return image


@pytest.fixture(scope="session")
def rootfs() -> Path:
    """The task image's root file system, whose supervisor may be an older one: the tests bring their own."""
    from sandbox.recipe import cache_folder

    found = sorted(cache_folder().glob("rootfs-*/bin/bash"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip("no root file system; make it: devnull image export")
    return found[-1].parent.parent


@pytest.fixture(scope="session")
def users_rootfs(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy that belongs to an ordinary user, as an export made by that user does."""
    if os.getuid():
        yield rootfs
        return
    folder = Path("/var/tmp/devnull-test-rootfs")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    try:
        left_out = ["--exclude=./srv", "--exclude=./usr/lib/gcc", "--exclude=./usr/share"]
        subprocess.run(
            f"tar -C {rootfs} {' '.join(left_out)} -c . | tar -C {folder} --owner={NOBODY} -x && "
            f"chown -R {NOBODY}:{NOBODY} {folder} && mkdir -p {folder}/usr/share",
            shell=True,
            check=True,
        )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where every user can run it."""
    folder = Path("/var/tmp/devnull-test-bin")
    folder.mkdir(mode=0o755, exist_ok=True)
    program = folder / f"supervisor-{os.getpid()}"
    shutil.copy(os.environ.get("DEVNULL_TEST_SUPERVISOR") or find_supervisor(), program)
    program.chmod(0o755)
    yield program
    program.unlink()


def docker_kind(request: pytest.FixtureRequest) -> Callable[[Limits], BoxSession]:
    from sandbox.runtime_docker import DockerRuntime

    return DockerRuntime(request.getfixturevalue("docker_image"), request.getfixturevalue("supervisor")).start


def root_kind(request: pytest.FixtureRequest) -> Callable[[Limits], BoxSession]:
    if os.getuid():
        pytest.skip("needs root")
    return RootlessRuntime(request.getfixturevalue("rootfs"), request.getfixturevalue("supervisor")).start


def user_kind(request: pytest.FixtureRequest) -> Callable[[Limits], BoxSession]:
    folder, program = request.getfixturevalue("users_rootfs"), request.getfixturevalue("supervisor")
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []

    def start(limits: Limits) -> BoxSession:
        box = [str(program), "box", "--root", str(folder), "--disk", str(limits.disk_bytes)]
        more = ["--pids", str(limits.pids), "--memory", str(limits.memory_bytes)]
        return BoxSession(lambda: ProcessBox([*become, *box, *more]), limits)

    return start


KINDS: dict[str, Callable[[pytest.FixtureRequest], Callable[[Limits], BoxSession]]] = {
    "fake": lambda request: FakeRuntime(request.getfixturevalue("supervisor")).start,
    "docker": docker_kind,
    "rootless-root": root_kind,
    "rootless-user": user_kind,
}


@pytest.fixture(
    params=[
        "fake",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("rootless-root", marks=pytest.mark.rootless),
        pytest.param("rootless-user", marks=pytest.mark.rootless),
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param, KINDS[request.param](request))


@pytest.fixture
def session(kind: Kind) -> Iterator[BoxSession]:
    started = kind.start(LIMITS)
    yield started
    started.close()


@pytest.fixture
def isolated(kind: Kind) -> Iterator[BoxSession]:
    if not kind.isolates:
        pytest.skip("fake isolates nothing")
    started = kind.start(LIMITS)
    yield started
    started.close()


def fates(result: CommandResult) -> set[str]:
    return {write.fate for write in result.stderr}


def statuses(result: CommandResult) -> dict[str, int | None]:
    return {" ".join(process.argv): process.exit_code for process in result.processes}


@dataclass(frozen=True)
class Case:
    """A command, and all that must be known of it."""

    name: str
    command: str
    shown: str = ""
    exit_code: int = 0
    stderr: str = ""
    suppressed: str = ""


LS = "ls: cannot access '/none': No such file or directory\n"
CD = "bash: cd: /x: No such file or directory\n"
ERR = "sh -c 'echo oops >&2; exit 7'"
CASES = [
    Case("stdout", "echo hi", "hi\n"),
    Case("stderr is shown", "echo hi >&2", "hi\n", 0, "hi\n"),
    Case("both in order", "echo 1; echo 2 >&2; echo 3; echo 4 >&2", "1\n2\n3\n4\n", 0, "2\n4\n"),
    Case("program's stderr", "ls /none", LS, 2, LS),
    Case("2>/dev/null", "ls /none 2>/dev/null", "", 2, LS, LS),
    Case("&>/dev/null", "ls / /none &>/dev/null", "", 2, LS, LS),
    Case(">/dev/null 2>&1", "ls / /none >/dev/null 2>&1", "", 2, LS, LS),
    Case("2>&1 >/dev/null", "ls / /none 2>&1 >/dev/null", LS, 2, LS),
    Case("2>&- of a program", "ls /none 2>&-", "", 2, LS, LS),
    Case("2>&- of a builtin", "cd /x 2>&-", "", 1, CD, CD),
    Case("2>log", f"{ERR} 2>log", "", 7, "oops\n", "oops\n"),
    Case("2>>log", f"{ERR} 2>>log; {ERR} 2>>log", "", 7, "oops\noops\n", "oops\noops\n"),
    Case("2>log, then cat", f"{ERR} 2>log; cat log", "oops\n", 0, "oops\n"),
    Case("discarded pipe", f"{ERR} 2>&1 | cat >/dev/null", "", 0, "oops\n", "oops\n"),
    Case("relayed pipe", f"{ERR} |& cat", "oops\n", 0, "oops\n"),
    Case("|& tail -1", "sh -c 'echo a >&2; echo b >&2' |& tail -1", "b\n", 0, "a\nb\n", "a\n"),
    Case("|& sed adds a prefix", "sh -c 'echo a long complaint >&2' |& sed 's/^/> /'", "> a long complaint\n", 0, "a long complaint\n"),
    Case("|| true", "ls /none 2>/dev/null || true", "", 0, LS, LS),
    Case("subshell", f"({ERR}; exit 3) 2>/dev/null", "", 3, "oops\n", "oops\n"),
    Case("group", f"{{ {ERR}; echo out; }} 2>/dev/null", "out\n", 0, "oops\n", "oops\n"),
    Case("function", f"f() {{ {ERR}; return 5; }}; f 2>/dev/null", "", 5, "oops\n", "oops\n"),
    Case("substitution", f"x=$({ERR} 2>&1); echo got", "got\n", 0, "oops\n", "oops\n"),
    Case("substitution, printed", f"x=$({ERR} 2>&1); echo $x", "oops\n", 0, "oops\n"),
    Case("pipeline", f"{ERR} 2>/dev/null | wc -l", "0\n", 0, "oops\n", "oops\n"),
    Case("background job", f"{ERR} 2>/dev/null & wait $!", "", 7, "oops\n", "oops\n"),
    Case("loop", "for i in 1 2 3; do echo $i >&2; done 2>/dev/null", "", 0, "1\n2\n3\n", "1\n2\n3\n"),
    Case("1>&2 of a group", "{ echo a; echo b >/dev/null; echo c; } >&2", "a\nc\n", 0, "a\nc\n"),
    Case(">&2 into /dev/null", "{ echo a >&2; echo b; } 2>/dev/null", "b\n", 0, "a\n", "a\n"),
    Case("swapped", "{ echo out; echo err >&2; } 3>&1 1>&2 2>&3 | cat >/dev/null", "out\n", 0, "out\nerr\n", "err\n"),
    Case("here-document", "cat <<E\none\ntwo\nE", "one\ntwo\n"),
    Case("here-string", "cat <<<word", "word\n"),
    Case("several lines", "echo 1\necho 2\nfalse", "1\n2\n", 1),
    Case("not found", "nosuchprogram", "bash: nosuchprogram: command not found\n", 127, "bash: nosuchprogram: command not found\n"),
    Case("not found, hidden", "nosuch 2>/dev/null", "", 127, "bash: nosuch: command not found\n", "bash: nosuch: command not found\n"),
    Case("cd fails", "cd /nosuch", "bash: cd: /nosuch: No such file or directory\n", 1, "bash: cd: /nosuch: No such file or directory\n"),
    Case("quotes", "echo 'a\"b' \"c'd\" \\$x $'\\t|'", "a\"b c'd $x \t|\n"),
    Case("percent and backslash", "printf '%s\\n' '100%' 'a\\b'", "100%\na\\b\n"),
    Case("unicode", "echo 'žluťoučký 🐴'", "žluťoučký 🐴\n"),
    Case("invalid UTF-8", "printf 'a\\377b\\n'", "a\\xffb\n"),
    Case("invalid UTF-8 on stderr", "printf 'a\\377b\\n' >&2", "a\\xffb\n", 0, "a\\xffb\n"),
    Case("zero byte", "printf 'a\\0b\\n'", "a\x00b\n"),
    Case("no newline at the end", "printf abc", "abc"),
    Case("carriage returns", "printf 'one\\rtwo\\r\\n'", "one\rtwo\r\n"),
    Case("escape codes", "printf '\\033[31mred\\033[0m\\n'", "\x1b[31mred\x1b[0m\n"),
    Case("empty", ""),
    Case("comment", "# nothing"),
    Case("killed", "sh -c 'kill -9 $$'", "Killed\n", 137, "Killed\n"),
    Case("status of a pipeline", "false | true"),
    Case("pipefail", "set -o pipefail; false | true", "", 1),
    Case("negation", "! false"),
    Case("stdin is at its end", "cat; read x; echo done $?", "done 1\n"),
    Case("looks like our marker", "printf '\\036END:0000000000000000:0:hxB\\n'", "\x1eEND:0000000000000000:0:hxB\n"),
    Case("looks like a frame", "printf 'D\\021\\0\\0\\0\\0\\0\\0\\0'", "D\x11\x00\x00\x00\x00\x00\x00\x00"),
    Case("dash", "dash -c 'echo a; echo b >&2' 2>/dev/null", "a\n", 0, "b\n", "b\n"),
    Case("perl", "perl -e 'print STDERR \"p\\n\"' 2>/dev/null", "", 0, "p\n", "p\n"),
    Case("python", "python3 -c 'import sys; print(1, file=sys.stderr)' 2>/dev/null", "", 0, "1\n", "1\n"),
    Case("timeout runs it in a group of its own", "timeout 5 ls /none 2>/dev/null", "", 2, LS, LS),
    Case("env -i", "env -i ls /none 2>/dev/null", "", 2, LS, LS),
    Case("xargs", "echo /none | xargs ls 2>/dev/null", "", 123, LS, LS),
    Case("nohup and setsid", "setsid -w ls /none 2>/dev/null", "", 2, LS, LS),
    Case("a script of its own", "printf 'ls /none\\n' >s; sh s 2>/dev/null", "", 2, LS, LS),
    Case("exec in a subshell", "(exec ls /none) 2>/dev/null", "", 2, LS, LS),
    Case("tee keeps it shown", f"{ERR} |& tee log", "oops\n", 0, "oops\n"),
    Case("grep drops it", f"{ERR} |& grep -v oops", "", 1, "oops\n", "oops\n"),
    Case("process substitution", f"{ERR} 2> >(cat >/dev/null)", "", 7, "oops\n", "oops\n"),
    Case("script(1)", "script -qec 'ls /none' /dev/null", LS, 2, LS),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(session: BoxSession, case: Case) -> None:
    result = session.run(case.command)
    assert result.shown == case.shown
    assert result.exit_code == case.exit_code
    assert result.stderr_text == case.stderr
    assert result.suppressed == case.suppressed
    assert not (result.timed_out or result.shell_exited or result.cut_bytes)
    assert sum(length for _, length in result.timing) == len(result.shown)


def test_state_lasts_over_commands(session: BoxSession) -> None:
    session.run("mkdir d; cd d; export A=1; B=2; f() { echo f$1; }; shopt -s nullglob; umask 027")
    result = session.run("echo $A $B; f 3; umask; shopt -q nullglob && echo ${PWD##*/}")
    assert result.shown == "1 2\nf3\n0027\nd\n"
    assert result.cwd.endswith("/d")


def test_exit_status_is_there_for_the_next_command(session: BoxSession) -> None:
    for status in (0, 1, 2, 42):
        session.run(f"(exit {status})")
        assert session.run("echo $?").shown == f"{status}\n"


def test_exec_redirection_lasts(session: BoxSession) -> None:
    session.run("exec 2>/dev/null")
    hidden = session.run("ls /none; echo a >&2; echo b")
    assert (hidden.shown, hidden.suppressed) == ("b\n", LS + "a\n")
    session.run("exec 2>&1")
    assert session.run("ls /none").shown == LS


def test_exec_stdout_closed(session: BoxSession) -> None:
    session.run("exec >&-")
    result = session.run("ls /; echo x; ls /none")
    assert LS in result.shown and result.exit_code == 2
    assert session.run("exec >&2; echo back").shown == "back\n"


def test_every_descriptor_closed(session: BoxSession) -> None:
    session.run('for i in {0..254}; do eval "exec $i<&-"; done')
    result = session.run("ls /none; echo lost")
    assert result.shown == "" and LS in result.suppressed
    assert session.run("exec 0</dev/null 1>/dev/tty 2>&1; echo back").shown == "back\n"


def test_exit_and_exec_end_the_shell_not_the_session(session: BoxSession) -> None:
    session.run("mkdir e; cd e; X=1")
    gone = session.run("exit 3")
    assert (gone.exit_code, gone.shell_exited) == (3, True)
    after = session.run("echo [$X]")
    assert after.shown == "[]\n" and after.cwd.endswith("/e") and not after.shell_exited
    replaced = session.run("exec sh -c 'echo out; echo err >&2; exit 4' 2>/dev/null")
    assert (replaced.exit_code, replaced.shell_exited, replaced.shown, replaced.suppressed) == (
        4,
        True,
        "out\n",
        "err\n",
    )


def test_a_shell_that_kills_itself(session: BoxSession) -> None:
    result = session.run("echo before; kill -9 $$")
    assert (result.shown, result.exit_code, result.shell_exited) == ("before\n", 137, True)
    assert session.run("echo after").shown == "after\n"


def test_statuses_of_builtins_and_programs(session: BoxSession) -> None:
    result = session.run(
        "true; false; test -e /none; ls /none 2>/dev/null; cd /; sh -c 'exit 9'; [[ a == b ]]; type x 2>&1; :"
    )
    known = statuses(result)
    assert known["true"] == 0 and known["false"] == 1 and known["test -e /none"] == 1 and known["cd /"] == 0
    assert known["ls /none"] == 2 and known["sh -c exit 9"] == 9 and known["[[ a == b ]]"] == 1 and known["type x"] == 1
    builtin = {process.argv[0]: process.builtin for process in result.processes}
    assert builtin["test"] and not builtin["ls"]


def test_statuses_in_functions_subshells_and_pipelines(session: BoxSession) -> None:
    known = statuses(session.run("f() { false; return 4; }; f; (exit 5); false | sh -c 'exit 6'; x=$(exit 8)"))
    assert known["f"] == 4 and known["return 4"] == 4 and known["exit 5"] == 5 and known["false"] == 1
    assert known["sh -c exit 6"] == 6 and known["exit 8"] == 8


def test_statuses_of_what_a_program_starts(session: BoxSession) -> None:
    known = statuses(session.run("sh -c 'ls /none; sh -c \"exit 3\"; true' 2>/dev/null; sh -c 'kill -9 $$'"))
    assert known["ls /none"] == 2 and known["sh -c exit 3"] == 3
    assert known["sh -c kill -9 $$"] == 137


def test_writers_are_named(session: BoxSession) -> None:
    result = session.run("sh -c 'ls /none' 2>/dev/null; echo x >&2")
    assert {write.argv for write in result.stderr} == {("ls", "/none"), ("bash",)}
    assert result.stderr[0].to == "/dev/null"


def test_agents_own_xtrace_is_shown(session: BoxSession) -> None:
    result = session.run("set -x; echo a; set +x; echo b")
    assert result.shown == "+ echo a\na\n+ set +x\nb\n"
    assert result.stderr_text == "+ echo a\n+ set +x\n"
    session.run("set -x")
    assert session.run("echo c").shown == "+ echo c\nc\n"


def test_errexit_ends_the_shell(session: BoxSession) -> None:
    result = session.run("set -e; true; false; echo never")
    assert (result.shown, result.exit_code, result.shell_exited) == ("", 1, True)
    session.run("set -e")
    assert session.run("true").exit_code == 0


def test_syntax_errors(session: BoxSession) -> None:
    for broken in ("echo )", "if true", "echo 'open", "for", "echo ${x!y}"):
        result = session.run(broken)
        assert result.exit_code not in (0, None) and result.shown.startswith("bash: "), broken
        assert "END" not in result.shown and "eval" not in result.shown
    assert session.run("echo fine").shown == "fine\n"


def test_aliases_and_functions_of_the_agent_are_not_in_the_way(session: BoxSession) -> None:
    session.run(
        "shopt -s expand_aliases; alias printf=false true=false; printf() { echo no; }; builtin() { echo no; }; set() { :; }"
    )
    result = session.run("echo still here >&2; (exit 3)")
    assert (result.shown, result.exit_code) == ("still here\n", 3)


def test_stdin(session: BoxSession) -> None:
    assert session.run("read a; read b; echo $b $a", stdin=b"one\ntwo\n").shown == "two one\n"
    assert session.run("cat", stdin=b"no newline").shown == "no newline"
    assert session.run("wc -c", stdin=b"line of text\n" * 2000).shown == "26000\n"
    assert session.run("cat").shown == ""


def test_timeout_kills_and_the_session_goes_on(session: BoxSession) -> None:
    session.run("mkdir t; cd t; export KEPT=1")
    result = session.run("echo begun; sleep 60 & sleep 60; echo never", timeout=0.3)
    assert result.timed_out and result.exit_code is None and result.shown.startswith("begun\n") and result.seconds < 5
    after = session.run("pgrep sleep >/dev/null; echo $? $KEPT")
    assert after.cwd.endswith("/t")


def test_timeout_of_what_ignores_signals(session: BoxSession) -> None:
    result = session.run("sh -c 'trap \"\" INT TERM; while :; do sleep 60; done'", timeout=0.3)
    assert result.timed_out and result.seconds < 5
    assert session.run("echo on").shown == "on\n"


def test_timeout_of_the_shell_itself(session: BoxSession) -> None:
    result = session.run("trap '' INT; while :; do :; done", timeout=0.3)
    assert result.timed_out and result.shell_exited and result.seconds < 5
    assert session.run("echo on").shown == "on\n"


def test_timeout_leaves_earlier_jobs_alone(session: BoxSession) -> None:
    session.run("sleep 30 & echo $! >job; sleep 0.05")
    assert session.run("sleep 30", timeout=0.2).timed_out
    assert session.run("kill -0 $(cat job) && echo alive").shown == "alive\n"


def test_stopped_shell(session: BoxSession) -> None:
    assert session.run("kill -STOP $$", timeout=0.3).timed_out
    assert session.run("echo on").shown == "on\n"


def test_background_output_comes_with_the_next_command(session: BoxSession) -> None:
    session.run("(while [ ! -e go ]; do sleep 0.01; done; echo late; echo done >&2; : >gone) &")
    result = session.run(": >go; while [ ! -e gone ]; do sleep 0.01; done; echo now")
    assert result.shown == "late\ndone\nnow\n"


def test_shown_limit(kind: Kind) -> None:
    with kind.start(LIMITS.model_copy(update={"shown_bytes": 1000})) as session:
        result = session.run("head -c 5000 /dev/zero | tr '\\0' x")
        assert result.shown == "x" * 1000 and result.cut_bytes == 4000
        assert session.run("echo next").cut_bytes == 0


def test_recorded_limit(kind: Kind) -> None:
    with kind.start(LIMITS.model_copy(update={"recorded_bytes": 1000})) as session:
        result = session.run("sh -c 'head -c 5000 /dev/zero >&2' 2>/dev/null")
        assert len(result.suppressed) <= 1000 and result.cut_bytes >= 4000


def test_flood_of_100_megabytes(session: BoxSession) -> None:
    result = session.run("head -c 100000000 /dev/zero | tr '\\0' '\\n'", timeout=120)
    assert len(result.shown) == 1 << 20 and result.cut_bytes == 100_000_000 - (1 << 20)
    assert session.run("echo next").shown == "next\n"


def test_20000_lines_of_stderr(session: BoxSession) -> None:
    result = session.run("for ((i = 0; i < 20000; i++)); do echo line $i >&2; done 2>/dev/null", timeout=120)
    assert result.suppressed.splitlines() == [f"line {i}" for i in range(20000)]


def test_long_command_lines(session: BoxSession) -> None:
    assert session.run(f"x={'y' * 300_000}; echo ${{#x}}").shown == "300000\n"
    assert session.run("echo '" + "é\n" * 5000 + "' | wc -l").shown == "5001\n"


def test_terminal_is_put_right(session: BoxSession) -> None:
    session.run("stty -opost echo -icanon intr x; stty cols 20")
    assert session.run("echo a; cat", stdin=b"b\n").shown == "a\nb\n"


def test_files(session: BoxSession) -> None:
    home = session.run("cd; pwd").shown.strip()
    data = bytes(range(256)) * 40_000
    session.write_file(f"{home}/new/deep/file", data, mode=0o751)
    assert session.run("stat -c '%a %s' new/deep/file").shown == f"751 {len(data)}\n"
    assert session.read_file(f"{home}/new/deep/file", limit=len(data)) == data
    assert session.read_file(f"{home}/new/deep/file", limit=10) == data[:10]
    assert session.read_file(f"{home}/none") is None and session.read_file(f"{home}/new/deep/file/x") is None
    session.write_file(f"{home}/empty", b"")
    assert session.read_file(f"{home}/empty") == b""
    with pytest.raises(OSError):
        session.read_file(f"{home}/new")


def test_verify_is_clean(session: BoxSession) -> None:
    session.run(
        "echo 'echo rc' >~/.bashrc; cp ~/.bashrc ~/.profile; export BASH_ENV=~/.bashrc ENV=~/.bashrc LD_PRELOAD=/none.so;"
        "export PATH=/nowhere; test() { echo fooled; }; export -f test; alias ls=echo; exec 2>/dev/null; sleep 98765 & cd /tmp"
    )
    result = session.verify("test -e /bin/bash; echo $? $PATH $LD_PRELOAD; pgrep -f 'sleep 9876[5]'; ls /none; exit 3")
    assert result.shown == f"0 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n{LS}"
    assert result.exit_code == 3


def test_snapshot_and_restore(session: BoxSession) -> None:
    session.run("mkdir keep; echo 1 >keep/a; ln -s a keep/l; chmod 4750 keep/a; touch -d @1000 keep/a; echo old >gone")
    session.run("cd keep; export A='x y'; B=2; f() { echo f; }; set -u; exec 2>/dev/null 4>>out")
    snapshot = session.snapshot()
    assert not snapshot.lost
    for _ in range(2):
        session.run("rm a; echo 2 >b; rm ../gone; cd /; unset A; exec 2>&1")
        session.restore(snapshot)
        result = session.run(
            "stat -c '%a %Y' a; readlink l; cat ../gone; ls -x; echo $A $B; f; echo four >&4; cat out; ls /none"
        )
        assert result.shown == "4750 1000\na\nold\na  l  out\nx y 2\nf\nfour\n"
        assert result.suppressed == LS


def test_sessions_do_not_meet(kind: Kind) -> None:
    with kind.start(LIMITS) as one, kind.start(LIMITS) as two:
        one.run("echo 1 >mine; A=1")
        assert two.run("cat mine 2>&1; echo [$A]").shown.endswith("[]\n")
        assert one.run("cat mine").shown == "1\n"


def test_close_twice(kind: Kind) -> None:
    session = kind.start(LIMITS)
    session.run("sleep 1000 & yes >/dev/null &")
    session.close()
    session.close()
    with pytest.raises(InfrastructureError, match="closed"):
        session.run("true")


# ---- what the supervisor cannot see: docs/sandbox.md lists these; each case here shows one


def test_miss_a_copy_of_stderr_above_2(session: BoxSession) -> None:
    result = session.run("python3 -c 'import os; os.write(os.dup(2), b\"unseen\\n\")' 2>/dev/null")
    assert result.stderr_text == ""
    assert (
        session.run("python3 -c 'import os; os.write(os.dup(2), b\"x\\n\")'").shown == "x\n"
    )  # not recorded, but shown


def test_miss_dev_stderr_opened_anew(session: BoxSession) -> None:
    assert session.run("sh -c 'echo unseen >/dev/stderr' 2>/dev/null").stderr_text == ""


def test_miss_builtins_of_other_shells(session: BoxSession) -> None:
    assert "false" not in statuses(session.run("bash -c 'false; ls /'"))


def test_miss_builtins_after_trace_is_off(session: BoxSession) -> None:
    assert "false" not in statuses(session.run("set +x; false"))
    assert statuses(session.run("false"))["false"] == 1  # the next command is traced again


def test_miss_status_under_negation(session: BoxSession) -> None:
    assert statuses(session.run("! false"))["false"] == 0


def test_miss_death_by_signal_out_of_the_shells_sight(session: BoxSession) -> None:
    result = session.run("sh -c 'perl -e \"kill 9, \\$\\$\"; exit 3'")
    assert statuses(result)["perl -e kill 9, $$"] is None and result.exit_code == 3


def test_miss_text_that_is_spliced_from_a_pipe(session: BoxSession) -> None:
    script = "import os; r, w = os.pipe(); os.write(w, b'unseen'); os.splice(r, 2, 6)"
    assert session.run(f'python3 -c "{script}" 2>&1 | cat').stderr_text == ""


def test_miss_what_a_later_command_shows(session: BoxSession) -> None:
    assert session.run(f"{ERR} 2>log").suppressed == "oops\n"
    assert session.run("cat log").shown == "oops\n"


def test_miss_short_or_changed_lines_in_a_pipe(session: BoxSession) -> None:
    assert session.run(f"{ERR} |& tr a-z A-Z").suppressed == "oops\n"


RACE = """
import ctypes, mmap, os
shared = mmap.mmap(-1, 4096)
address = ctypes.addressof(ctypes.c_char.from_buffer(shared))
flipper = os.fork()
if flipper == 0:
    while True:
        shared[0:1] = b'A'
        shared[0:1] = b'B'
write = ctypes.CDLL(None).write
for _ in range(5000):
    write(2, ctypes.c_void_p(address), 1)
os.kill(flipper, 9)
"""


def test_miss_memory_changed_between_look_and_write(session: BoxSession) -> None:
    """Another thread, or a process that shares memory, may change the bytes after they were recorded."""
    home = session.run("pwd").shown.strip()
    session.write_file(f"{home}/race.py", RACE.encode())
    result = session.run("python3 race.py 2>log")
    written = session.read_file(f"{home}/log")
    assert written is not None and len(written) == len(result.suppressed) == 5000
    assert written.decode() != result.suppressed


def test_the_trace_is_visible_to_the_agent(session: BoxSession) -> None:
    assert "x" in session.run("echo $-").shown


# ---- what only a box can promise


def test_pid_one_cannot_be_harmed(isolated: BoxSession) -> None:
    isolated.run("kill -9 1; kill -STOP 1; kill -TERM 1; kill -9 -1")
    result = isolated.run("ls /none 2>/dev/null; echo on")
    assert (result.shown, result.suppressed) == ("on\n", LS)


def test_pid_one_cannot_be_read_or_traced(isolated: BoxSession) -> None:
    result = isolated.run(
        "cat /proc/1/environ /proc/1/mem; ls /proc/1/fd; : >/proc/1/fd/1; python3 -c 'import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))'"
    )
    assert result.shown.count("Permission denied") >= 3
    assert result.shown.endswith("-1\n")


def test_fork_bomb(isolated: BoxSession) -> None:
    result = isolated.run("b() { b | b & }; b 2>/dev/null; sleep 60", timeout=1.0)
    assert result.timed_out or result.shell_exited or result.exit_code is not None
    assert isolated.run("echo alive").shown.endswith("alive\n")


def test_process_limit(isolated: BoxSession) -> None:
    result = isolated.run("for i in {1..200}; do sleep 100 & done 2>/dev/null; ls /proc | grep -c '^[0-9]'", timeout=5)
    assert "fork" in result.suppressed or result.timed_out
    assert isolated.run("echo alive").shown.endswith("alive\n")


def test_memory_limit(isolated: BoxSession) -> None:
    result = isolated.run("python3 -c 'x = bytearray(400 << 20); print(len(x))'", timeout=20)
    assert result.exit_code not in (0, None)
    assert isolated.run("echo alive").shown == "alive\n"


def test_full_disk(isolated: BoxSession) -> None:
    result = isolated.run("head -c 600000000 /dev/zero >/tmp/big; echo $?")
    assert "No space left on device" in result.shown and result.shown.endswith("1\n")
    assert isolated.run("ls /none 2>/dev/null; echo on").suppressed == LS
    with pytest.raises(OSError, match="No space"):
        isolated.write_file("/tmp/more", b"x" * 1_000_000)
    isolated.run("rm /tmp/big")
    isolated.write_file("/tmp/more", b"x" * 1_000_000)


def test_no_network(isolated: BoxSession) -> None:
    result = isolated.run("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | xargs; exec 3<>/dev/tcp/1.1.1.1/80")
    assert "nreachable" in result.shown and "eth0" not in result.shown


def test_few_capabilities(isolated: BoxSession) -> None:
    result = isolated.run(
        "mount -t tmpfs x /mnt; mknod x b 8 0 && cat x; unshare -r true; chroot / true; date -s @0; hostname x"
    )
    assert "unshare" in result.shown and result.exit_code != 0
    assert isolated.run("grep CapEff /proc/self/status").shown.split()[1] in (
        "00000000000000eb",
        "00000000000000cb",
        "000001ffffffffff",
    )


def test_proc_sys_is_read_only(isolated: BoxSession) -> None:
    result = isolated.run("echo '|/bin/sh' >/proc/sys/kernel/core_pattern; echo b >/proc/sysrq-trigger")
    assert result.exit_code != 0 and ("Read-only" in result.shown or "denied" in result.shown)


def test_ulimit_and_files(isolated: BoxSession) -> None:
    isolated.run("ulimit -n 3; ulimit -f 0; ulimit -s 100")
    isolated.run("ulimit -v 10000")
    assert isolated.run("exit").shell_exited
    assert isolated.run("ls /none 2>/dev/null").suppressed == LS


FILTER = """
import ctypes, struct, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
allow = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
code = ctypes.create_string_buffer(allow)
prog = struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))
assert libc.prctl(22, 2, ctypes.c_char_p(prog), 0, 0) == 0
print("allowed"); sys.stdout.flush()
os.write(2, b"seen\\n")
listener = libc.syscall(317, 1, 8, ctypes.c_char_p(prog))
print(listener); sys.stdout.flush()
os._exit(5)
"""


def test_agents_own_seccomp_filter_blinds_nobody(isolated: BoxSession) -> None:
    isolated.write_file("/tmp/f.py", FILTER.encode())
    result = isolated.run("python3 /tmp/f.py 2>/dev/null")
    assert (result.shown, result.suppressed, result.exit_code) == ("allowed\n-1\n", "seen\n", 5)


def test_forged_end_ends_nothing(isolated: BoxSession) -> None:
    """The marker can be read off the shell's own pipe; printing it does not end the command."""
    result = isolated.run(
        "read -r -u 255 line; n=${line#*END:}; echo one; printf '\\036END:%s:0:hxB' \"${n%%:*}\" >&2; sleep 0.2; echo two; (exit 6)"
    )
    assert "one\n" in result.shown and result.shown.endswith("two\n")
    assert isolated.run("echo next").shown == "next\n"


def test_a_preloaded_library_does_not_vouch(isolated: BoxSession) -> None:
    isolated.run("echo /none.so >/etc/ld.so.preload")
    assert "ld.so" not in isolated.verify("ls /srv >/dev/null; true").stderr_text


def test_a_replaced_bash_does_not_vouch(isolated: BoxSession) -> None:
    isolated.run("printf '#!/bin/sh\\nexit 0\\n' >/tmp/fake; chmod 755 /tmp/fake; mv /tmp/fake /usr/bin/bash")
    assert isolated.verify("exit 9").exit_code == 9


def test_a_box_without_a_working_bash_is_no_dead_box(isolated: BoxSession) -> None:
    isolated.run("rm -f /dev/ptmx /bin/bash /usr/bin/bash; exit 3")
    assert isolated.run("echo on").shown == "on\n"
    assert isolated.verify("exit 4").exit_code == 4
    isolated.run("mv /lib/*/libc.so.6 /tmp; exit")
    assert isolated.run("echo never").exit_code == 127
    assert isolated.verify("true").exit_code == 127
    assert isolated.read_file("/etc/hostname") is not None


def test_static_programs(isolated: BoxSession) -> None:
    result = isolated.run("/usr/lib/devnull/supervisor 2>/dev/null")
    assert (result.exit_code, result.shown) == (2, "") and result.suppressed.startswith("usage: supervisor")


def test_a_dead_box_says_so(isolated: BoxSession) -> None:
    box = isolated._box
    if isinstance(box, ProcessBox):
        box._process.kill()
        box._process.wait()  # only then has the kernel killed what it held
    else:
        box._container.kill()  # type: ignore[attr-defined]
    with pytest.raises(InfrastructureError, match=r"box is gone.*; .+"):
        isolated.run("true")
