"""Arms train at once: each in a process of its own, heard of, and gone with the one that began it."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from devnull.cli.demo.parallel_arms import train_in_parallel
from devnull.sandbox.errors import InfrastructureError, InputError


def meet(folder: Path, arm: str, on_step) -> None:  # type: ignore[no-untyped-def]
    """Each waits for the other, so that neither ends unless both run."""
    (folder / arm).write_text(str(os.getpid()))
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    for step in (1, 2):
        on_step(step, 2, {"loss": 0.5})


def fail(folder: Path, arm: str, on_step) -> None:  # type: ignore[no-untyped-def]
    """One raises; the other ends only after that."""
    if arm == "full":
        (folder / arm).touch()
        raise InputError("nothing to learn from")
    wait_until((folder / "full").exists)
    (folder / arm).touch()


def die(folder: Path, arm: str, on_step) -> None:  # type: ignore[no-untyped-def]
    """One is gone without a word."""
    if arm == "full":
        os._exit(7)
    (folder / arm).touch()


def linger(folder: Path, arm: str, on_step) -> None:  # type: ignore[no-untyped-def]
    (folder / arm).write_text(str(os.getpid()))
    time.sleep(600)


def ignore(*_: object) -> None:
    pass


def test_both_run_at_once_and_are_heard_of(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int, float]] = []

    def hear(arm: str):  # type: ignore[no-untyped-def]
        return lambda step, total, logged: heard.append((arm, step, total, logged["loss"]))

    train_in_parallel(partial(meet, tmp_path), {arm: hear(arm) for arm in ("partial", "full")})
    assert sorted(heard) == [(arm, step, 2, 0.5) for arm in ("full", "partial") for step in (1, 2)]
    pids = {int(file.read_text()) for file in tmp_path.iterdir()}
    assert len(pids) == 2 and os.getpid() not in pids


def test_what_one_arm_raised_is_raised_when_the_other_is_done(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to learn from"):
        train_in_parallel(partial(fail, tmp_path), {"partial": ignore, "full": ignore})
    assert (tmp_path / "partial").exists()


def test_a_process_that_dies_is_an_infrastructure_error(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="trained full ended with 7"):
        train_in_parallel(partial(die, tmp_path), {"partial": ignore, "full": ignore})
    assert (tmp_path / "partial").exists()


@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_a_run_that_is_stopped(tmp_path: Path, signalled: signal.Signals) -> None:
    """Ctrl-C comes to every process of the terminal; the arms leave it to the run, which ends them."""
    program = (
        "from functools import partial; from pathlib import Path; import tests.test_cli_parallel_arms as t\n"
        "if __name__ == '__main__':\n"
        f"    t.train_in_parallel(partial(t.linger, Path({str(tmp_path)!r})), {{'a': t.ignore, 'b': t.ignore}})\n"
    )
    script = tmp_path.with_suffix(".py")
    script.write_text(program)
    root = Path(__file__).parent.parent
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.Popen(
        [sys.executable, script],
        cwd=root,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until(lambda: len([f for f in tmp_path.iterdir() if f.read_text()]) == 2)
    finally:
        if signalled == signal.SIGKILL:
            run.kill()
        else:
            os.killpg(run.pid, signalled)
        _, stderr = run.communicate(timeout=120)
    assert stderr.count(b"Traceback") == (signalled == signal.SIGINT)  # that of this program, which catches nothing
    wait_until(lambda: not any(Path("/proc", file.read_text()).exists() for file in tmp_path.iterdir()))


def wait_until(true) -> None:  # type: ignore[no-untyped-def]
    """Until a condition holds: two minutes at most, for a busy machine takes its time."""
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
