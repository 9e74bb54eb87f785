"""The rootless runtime: what is left behind (nothing), what it costs, what it says when the kernel refuses."""

import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devnull.sandbox.errors import BoxDied, ImageMissing, InfrastructureError, RuntimeUnavailable
from devnull.sandbox.frames import encode_frame
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.memory_cgroup import find_memory_cgroup, own_folders
from devnull.sandbox.runtimes.rootless import START_FIXES, ProcessBox, RootlessRuntime
from devnull.sandbox.session import BoxSession

ROOT = Path(__file__).parent.parent


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since its parent named it
        children = []
    return [pid, *(member for child in children for member in family(int(child)))]


def launcher(session: BoxSession) -> int:
    return session._box._process.pid  # type: ignore[attr-defined,no-any-return]


def gone(descriptors: list[int]) -> bool:
    """Whether all these processes end within a minute."""
    return all(select.select([descriptor], [], [], 60)[0] for descriptor in descriptors)


def mounts() -> list[str]:
    """Of the host, less those of a Docker daemon: another test's containers may come and go."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "docker" not in line]


@pytest.mark.rootless
def test_nothing_is_left_after_close(rootless_runtime: RootlessRuntime) -> None:
    before = mounts()
    session = rootless_runtime.start()
    session.run("echo leak >/etc/leak; setsid sleep 1000 & sleep 1000 &")
    processes = [os.pidfd_open(pid) for pid in family(launcher(session))]
    assert len(processes) >= 4
    session.close()
    assert gone(processes)
    assert mounts() == before
    assert not (rootless_runtime._rootfs / "etc/leak").exists()
    for descriptor in processes:
        os.close(descriptor)


HOST = """
import sys
from pathlib import Path
from devnull.sandbox.runtimes.rootless import RootlessRuntime
session = RootlessRuntime(Path(sys.argv[1])).start()
session.run("setsid sleep 1000 &")
print(session._box._process.pid, flush=True)
session.run("trap '' INT TERM HUP; while :; do :; done")
"""


@pytest.mark.rootless
def test_nothing_is_left_after_kill_9_of_the_host(rootless_runtime: RootlessRuntime) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(rootless_runtime._rootfs)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert host.stdout is not None
    processes = [os.pidfd_open(pid) for pid in family(int(host.stdout.readline()))]
    os.kill(host.pid, signal.SIGKILL)
    host.wait()
    host.stdout.close()
    assert gone(processes)
    for descriptor in processes:
        os.close(descriptor)


@pytest.mark.rootless
def test_many_boxes_at_once(rootless_runtime: RootlessRuntime) -> None:
    def episode(i: int) -> str:
        with rootless_runtime.start(Limits(disk_bytes=8 << 20)) as session:
            session.run(f"cd /tmp; echo {i} >mine; exec 2>/dev/null")
            session.run("ls /none; sleep 0.05")
            return session.run("cat mine; ls | wc -l").shown

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(episode, range(24))) == [f"{i}\n1\n" for i in range(24)]


@pytest.mark.rootless
@pytest.mark.skipif(os.getuid() != 0, reason="only root may weigh another user's processes")
def test_a_box_holds_little_memory(rootless_runtime: RootlessRuntime) -> None:
    with rootless_runtime.start() as session:
        kilobytes = 0
        for pid in family(launcher(session))[:2]:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kilobytes += int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))
        assert kilobytes < 1024


@pytest.mark.rootless
def test_real_apt_pip_and_make(rootless_runtime: RootlessRuntime) -> None:
    """Real tools: what they wrote to stderr and hid is known, and they install."""
    with rootless_runtime.start() as session:
        apt = session.run("apt-get install -y no-such-package 2>/dev/null")
        assert apt.exit_code == 100 and "E: Unable to locate package no-such-package" in apt.suppressed
        pip = session.run("/opt/venv/bin/pip install nosuch &>/dev/null")
        assert pip.exit_code == 1 and "No matching distribution found for nosuch" in pip.suppressed
        session.run("mkdir -p /m/DEBIAN; cd /m; printf 'all: a.o\\n' >Makefile; echo 'int f( {' >a.c")
        make = session.run("make 2>&1 | tail -1")
        assert make.shown.startswith("make: *** [") and "a.c:1:" in make.suppressed
        session.run("echo 'int f(void) { return 1; }' >a.c; rm -rf DEBIAN/*")
        assert session.run("make").exit_code == 0
        session.run(
            "printf '%s: %s\\n' Package mine Version 1 Architecture all Maintainer x Description x >DEBIAN/control"
        )
        session.run("printf '#!/bin/sh\\necho from the script >&2\\n' >DEBIAN/postinst; chmod 755 DEBIAN/postinst")
        assert session.run("dpkg-deb -b /m /tmp/mine.deb").exit_code == 0
        quiet = session.run("apt-get install -y /tmp/mine.deb 2>/dev/null")
        assert quiet.exit_code == 0 and "Setting up mine (1)" in quiet.shown
        assert "from the script\n" in quiet.suppressed and "from the script" not in quiet.shown
        assert session.verify("dpkg-query -W -f '${Status}' mine").shown == "install ok installed"


GROWER = r"""
#include <signal.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **arguments) {
    static char path[4000], *none[] = {0};
    if (n < 2) return 0;
    memset(path, '/', 3900);
    strcpy(path + 3900, arguments[0]);
    signal(SIGCHLD, SIG_IGN);
    for (;;)
        if (!vfork()) {
            execve(path, none, none);
            _exit(1);
        }
}
"""


@pytest.mark.rootless
def test_pid_one_does_not_grow_between_commands(rootless_runtime: RootlessRuntime, tmp_path: Path) -> None:
    """Programs started in the background, each by a name of 4 KB: PID 1 keeps what a command may record, no more."""
    (tmp_path / "grower.c").write_text(GROWER)
    subprocess.run(["gcc", "-static", "-O1", "-o", "grower", "grower.c"], cwd=tmp_path, check=True)
    with rootless_runtime.start() as session:
        session.write_file("/tmp/grower", (tmp_path / "grower").read_bytes(), mode=0o755)
        session.run("/tmp/grower x & /tmp/grower x & sleep 0.1")
        pid_one = Path(f"/proc/{family(launcher(session))[1]}/statm")
        held = list[int]()
        while len(held) < 600 and (len(held) < 4 or held[-1] > held[-4]):  # until it grows no more, or a minute
            time.sleep(0.1 if held and held[-1] > 1 << 20 else 1)
            held.append(int(pid_one.read_text().split()[1]) * os.sysconf("SC_PAGESIZE"))
            assert held[-1] < 16 << 20
        result = session.run("echo on")
        assert result.shown.endswith("on\n") and result.unrecorded_bytes > 0


@pytest.mark.parametrize(
    ("status", "evidence"),
    [(5, "took all the memory"), (139, "crash (SIGSEGV)"), (134, "crash (SIGABRT)"), (137, None), (3, None), (0, None)],
)
def test_what_ended_a_box(status: int, evidence: str | None) -> None:
    """Told as the agent's only where nothing outside of the box does it."""
    box = ProcessBox(["/bin/sh", "-c", f"exit {status}"])
    found = box.ended_by_agent()
    assert found is None if evidence is None else evidence in str(found)
    assert found is None or box.why_dead() == found
    box.close()


@pytest.mark.rootless
@pytest.mark.cgroup
@pytest.mark.skipif(find_memory_cgroup() is None, reason="no cgroups of version 2 that this process may make")
def test_a_box_has_a_memory_cgroup_of_its_own(rootless_runtime: RootlessRuntime) -> None:
    above = find_memory_cgroup()
    assert above is not None
    with rootless_runtime.start(Limits(memory_bytes=128 << 20, disk_bytes=16 << 20)) as session:
        folder = above / f"devnull-{launcher(session)}"
        assert int((folder / "memory.max").read_text()) == (128 + 16 + 32) << 20
        assert len((folder / "cgroup.procs").read_text().split()) == 2  # PID 1 and its bash
    assert not folder.exists()


@pytest.mark.rootless
def test_a_box_starts_where_no_cgroup_can_be_made(rootless_runtime: RootlessRuntime, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        box = [str(rootless_runtime._supervisor), "box", "--root", str(rootless_runtime._rootfs)]
        argv = [*box, "--memory", str(1 << 30), "--cgroup", str(folder)]
        with BoxSession(lambda: ProcessBox(argv), Limits()) as session:  # noqa: B023
            assert session.run("echo on").shown == "on\n"
        assert list(tmp_path.iterdir()) == []


def test_own_cgroup_and_all_above_it(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("4:memory:/old\n0::/user.slice/one/two\n")
    mount = "31 23 0:28 {} {} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
    (tmp_path / "mountinfo").write_text("1 2 0:3 / / rw - ext4 /dev/root rw\n" + mount.format("/", "/sys/fs/cgroup"))
    found = [str(folder) for folder in own_folders(tmp_path)]
    assert found == [f"/sys/fs/cgroup{part}" for part in ("/user.slice/one/two", "/user.slice/one", "/user.slice", "")]
    (tmp_path / "mountinfo").write_text(mount.format("/elsewhere", "/sys/fs/cgroup"))
    assert list(own_folders(tmp_path)) == []
    assert list(own_folders(tmp_path / "none")) == []


def test_no_root_file_system(tmp_path: Path) -> None:
    with pytest.raises(ImageMissing, match="devnull image export"):
        RootlessRuntime(tmp_path, Path("/bin/true")).start()


def refusing(folder: Path, text: str) -> RootlessRuntime:
    """A runtime whose launcher says that the kernel refused."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/bash").touch()
    (folder / "said").write_bytes(encode_frame(b"!", struct.pack("<I", 1) + text.encode()))
    program = folder / "launcher"
    program.write_text(f"#!/bin/sh\ncat {folder}/said\nexit 4\n")
    program.chmod(0o755)
    return RootlessRuntime(folder, program)


@pytest.mark.parametrize("sign", [sign for sign, _ in START_FIXES])
def test_the_kernels_refusals_come_with_a_fix(tmp_path: Path, sign: str) -> None:
    with pytest.raises(RuntimeUnavailable, match=f"{sign}.*: .*") as caught:
        refusing(tmp_path, f"{sign}: Operation not permitted").start()
    assert "--runtime docker" in str(caught.value) or "Linux" in str(caught.value)


def test_other_refusals_are_said_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="does not start: pivot_root: Odd"):
        refusing(tmp_path, "pivot_root: Odd").start()


def test_a_supervisor_that_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bash").touch()
    with pytest.raises(RuntimeUnavailable, match="remove its folder and run it again"):
        RootlessRuntime(tmp_path, tmp_path / "nosuch").start()
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(200))
    foreign.chmod(0o755)
    with pytest.raises(RuntimeUnavailable, match="another architecture"):
        RootlessRuntime(tmp_path, foreign).start()


@pytest.mark.rootless
def test_a_command_in_which_the_box_dies_is_kept_as_far_as_it_came(rootless_runtime: RootlessRuntime) -> None:
    with rootless_runtime.start() as session:
        threading.Timer(1.0, os.kill, (launcher(session), signal.SIGKILL)).start()
        with pytest.raises(BoxDied) as death:
            session.run("sh -c 'echo bad >&2' 2>/dev/null; sleep 99")
        kept = death.value.unfinished
        assert kept is not None
        assert (kept.suppressed, kept.exit_code, kept.shell_exited) == ("bad\n", None, True)
        assert ("sleep", "99") in [process.argv for process in kept.processes]
        with pytest.raises(BoxDied):  # a dead box stays dead: nothing is sent to it any more
            session.run("true")
