"""`sandbox="devnull"`: Inspect's own conformance checks for providers, and what is recorded beside them."""

import os
import subprocess
import types
from collections.abc import AsyncIterator

import anyio
import pytest

pytest.importorskip("inspect_ai")

from inspect_ai.log import transcript
from inspect_ai.util import ExecRemoteAwaitableOptions, ExecRemoteStreamingOptions, SandboxEnvironment
from inspect_ai.util._sandbox import exec_remote, self_check
from inspect_ai.util._sandbox.events import SandboxEnvironmentProxy
from inspect_ai.util._sandbox.self_check import *  # noqa: F403

from devnull.integrations.inspect_sandbox import BoxConfig, DevnullSandbox
from tests.conftest import runtime_or_skip

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Inspect's own
BOXES = [
    pytest.param(("rootless", None), id="root", marks=pytest.mark.rootless),
    pytest.param(("rootless", "nobody"), id="nobody", marks=pytest.mark.rootless),
    pytest.param(("docker", None), id="docker", marks=pytest.mark.docker),
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=BOXES)
async def box(request: pytest.FixtureRequest) -> AsyncIterator[SandboxEnvironment]:
    runtime, user = request.param
    runtime_or_skip(runtime)
    if user is not None and os.geteuid() != 0:
        pytest.skip("a rootless box of an ordinary user has no other user")
    config = BoxConfig(runtime=runtime, user=user)
    await DevnullSandbox.task_init("checks", config)
    boxes = await DevnullSandbox.sample_init("checks", config, {})
    yield boxes["default"]
    await DevnullSandbox.sample_cleanup("checks", config, boxes, False)
    await DevnullSandbox.task_cleanup("checks", config, True)


@pytest.fixture
def sandbox_env(box: SandboxEnvironment, monkeypatch: pytest.MonkeyPatch) -> SandboxEnvironment:
    async def shorter(seconds: float) -> None:  # what a time limit killed is gone when `exec` returns
        await anyio.sleep(seconds / 50)

    monkeypatch.setattr(self_check, "anyio", types.SimpleNamespace(sleep=shorter))
    return box


def is_running(command: str) -> bool:
    """In any box of this machine."""
    return subprocess.run(["pgrep", "-fx", command], capture_output=True).returncode == 0


HIDES = "ls /nowhere 2>/dev/null; dpkg -i /none.deb >/dev/null 2>&1 || true; echo done"


async def test_what_a_command_kept_off_is_recorded(sandbox_env: SandboxEnvironment) -> None:
    done = await sandbox_env.exec(["bash", "--login", "-c", HIDES])
    assert (done.success, done.stdout, done.stderr) == (True, "done\n", "")
    data = transcript().events[-1].data
    assert data["hid_error"] is True and "/nowhere" in data["kept_off"] and data["went_to"] == ["/dev/null"]
    assert data["command"] == HIDES and any("dpkg" in each for each in data["masked"])


async def test_what_the_caller_read_was_not_hidden(sandbox_env: SandboxEnvironment) -> None:
    before = len(transcript().events)
    done = await sandbox_env.exec(["sh", "-c", "ls /nowhere; ls /nothing 2>&1; ls /never 2>&1 | cat; echo fine"])
    assert "/nowhere" in done.stderr and "/nothing" in done.stdout and "/never" in done.stdout
    new = [event.data for event in transcript().events[before:]]
    assert [data["hid_error"] for data in new] in ([], [False]), new
    assert not any(data["kept_off"] for data in new)
    before = len(transcript().events)
    assert (await sandbox_env.exec(["cat"], input="quiet")).stdout == "quiet"
    assert len(transcript().events) == before


async def test_what_lives_on_is_not_waited_for(sandbox_env: SandboxEnvironment) -> None:
    with anyio.fail_after(20):
        done = await sandbox_env.exec(["sh", "-c", "sleep 40 & echo started"])
    assert done.stdout == "started\n"


async def test_what_lives_on_is_recorded_with_the_next_command(sandbox_env: SandboxEnvironment) -> None:
    late = "(sleep 0.5; ls /late 2>/dev/null) >/dev/null 2>&1 &"
    assert (await sandbox_env.exec(["sh", "-c", late])).success
    await anyio.sleep(2)
    assert (await sandbox_env.exec(["true"])).success
    data = transcript().events[-1].data
    assert (data["command"], data["hid_error"]) == ("true", None) and "/late" in data["kept_off"], data
    before = len(transcript().events)
    assert (await sandbox_env.exec(["true"])).success  # it is said once
    assert len(transcript().events) == before


async def test_a_cancelled_command_is_over_before_the_next(sandbox_env: SandboxEnvironment) -> None:
    script = f"{HIDES}; exec sleep 98764"
    with anyio.fail_after(120):
        async with anyio.create_task_group() as calls:
            calls.start_soon(sandbox_env.exec, ["sh", "-c", script])
            while not is_running("sleep 98764"):
                await anyio.sleep(0.1)
            calls.start_soon(sandbox_env.exec, ["touch", "/tmp/waits-and-is-cancelled-too"])
            await anyio.wait_all_tasks_blocked()
            calls.cancel_scope.cancel()
        assert (data := transcript().events[-1].data)["command"] == script and data["hid_error"] is True
        assert not is_running("sleep 98764")
        assert not (await sandbox_env.exec(["test", "-e", "/tmp/waits-and-is-cancelled-too"])).success
        with anyio.move_on_after(0.05):
            await sandbox_env.write_file("/tmp/large", b"x" * (16 << 20))
        assert (await sandbox_env.exec(["echo", "on"])).stdout == "on\n"


@pytest.mark.parametrize("box", [BOXES[0], BOXES[2]], indirect=True)
async def test_exec_remote_waits_streams_and_kills(
    sandbox_env: SandboxEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_remote, "MIN_POLL_INTERVAL", 0)
    remote = SandboxEnvironmentProxy(sandbox_env)  # as Inspect hands it to tools
    before = len(transcript().events)
    script = "echo one; ls /nowhere 2>/dev/null; echo two >&2; exit 3"
    waiting = ExecRemoteAwaitableOptions(poll_interval=1, timeout=300)
    done = await remote.exec_remote(["sh", "-c", script], waiting, stream=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "one\n", "two\n")

    script = "echo begun; exec sleep 98765"
    endless = await remote.exec_remote(["sh", "-c", script], ExecRemoteStreamingOptions(poll_interval=1))
    assert (await anext(endless)).data == "begun\n"  # while it runs
    await endless.kill()
    assert [event async for event in endless] == []
    assert not is_running("sleep 98765")
    notes = [event.data for event in transcript().events[before:] if event.event == "info"]
    assert [data["hid_error"] for data in notes if "/nowhere" in data["kept_off"]] == [None], notes


async def test_unknown_programs_and_folders_fail_as_commands_do(sandbox_env: SandboxEnvironment) -> None:
    done = await sandbox_env.exec(["no-such-program"])
    assert done.returncode == 127 and "no-such-program" in done.stderr
    assert not (await sandbox_env.exec(["ls"], cwd="/no/such")).success
    for odd in ("a\0b", "a\ud800b"):
        done = await sandbox_env.exec(["echo", odd])
        assert done.returncode == 126 and "cannot be run" in done.stderr
    assert (await sandbox_env.exec(["echo", "on"])).stdout == "on\n"
