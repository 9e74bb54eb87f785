"""Runs jobs, several at once, each in a process of its own; what is done is not done again.

A job is done when its folder holds `job.json`, and that is not empty. A killed one goes on where its command does: a
rollout at the episode, training at its last checkpoint.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from devnull import __version__
from devnull.cli.claims.plan import Job
from devnull.eval.display.escaping import escape_controls
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError

_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 20.0
"""That a job has to end by itself after Ctrl-C."""
LOG = "log.txt"
"""What a job printed, in its folder."""


@dataclass(frozen=True)
class JobEnd:
    """A job that has ended."""

    digest: str
    status: int
    """Exit status; 0: done."""
    seconds: float
    """Wall time."""


class JobRunner(Protocol):
    """What runs jobs: processes of this machine, or a cluster."""

    free: int
    """How many more jobs it takes now."""

    def start(self, job: Job, words: Sequence[str]) -> None:
        """Begins a job, whose command line after `devnull` is `words`."""

    def wait(self, seconds: float | None) -> list[JobEnd]:
        """The jobs that ended: one at least, unless so much time went by."""

    def stop(self) -> None:
        """Ends what runs."""


def run_jobs(
    jobs: Mapping[str, Job], root: Path, runner: JobRunner, *, boxes: Sequence[str], seconds: float | None = None
) -> Generator[JobEnd]:
    """Runs the jobs that are not done, each after what it builds on, and yields them as they end.

    A job that fails takes those with it that build on it. Stops what runs, whatever ends the iteration.

    Args:
        jobs: By digest, each after what it builds on.
        boxes: The options of a command that say what makes its boxes.
        seconds: No job is begun after so long.
    """
    begin = time.monotonic()
    products = {digest: job.product(root) for digest, job in jobs.items()}
    done = {digest for digest, job in jobs.items() if is_done(job, root)}
    waiting = [job for digest, job in jobs.items() if digest not in done]
    running = 0
    try:
        while waiting or running:
            left = None if seconds is None else begin + seconds - time.monotonic()
            ready = [job for job in waiting if done.issuperset(job.needs)] if left is None or left > 0 else []
            for job in ready[: runner.free]:
                waiting.remove(job)
                job.write_inputs(root)
                runner.start(job, job.words(root, products, boxes))
                running += 1
            if not running:
                return
            for end in runner.wait(None):
                running -= 1
                if end.status == 0:
                    mark_done(jobs[end.digest], root, end.seconds)
                    done.add(end.digest)
                yield end
    finally:
        runner.stop()


def is_done(job: Job, root: Path) -> bool:
    """Whether it ran to its end, now or earlier. An empty `job.json`, as a full disk leaves it, says nothing."""
    record = job.folder(root) / "job.json"
    return record.is_file() and record.stat().st_size > 0


def mark_done(job: Job, root: Path, seconds: float) -> None:
    """Writes `job.json`: what was run, with which version, and how long it took."""
    record = {"command": job.command, "settings": job.settings, "needs": job.needs, "devnull": __version__}
    text = json.dumps({**record, "seconds": round(seconds, 3)}, indent=2, ensure_ascii=False) + "\n"
    write_atomically(job.folder(root) / "job.json", text)


def job_seconds(job: Job, root: Path) -> float:
    """How long a job that is done took. Raises `InputError` where its `job.json` does not say."""
    path = job.folder(root) / "job.json"
    remedy = "delete it to owe the job again"
    seconds = read_json_object(path, remedy).get("seconds")
    if not isinstance(seconds, int | float):
        raise InputError(f"{path}: it does not say how many `seconds` the job took; {remedy}")
    return float(seconds)


def read_json_object(path: Path, remedy: str) -> dict[str, Any]:
    """A file that a job left. Raises `InputError` with the file and `remedy` where it is not there or damaged."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except ValueError as error:  # of UTF-8 too
        raise InputError(f"{path}: not valid JSON: {error}; {remedy}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object; {remedy}")
    return value


def last_line(job: Job, root: Path) -> str:
    """What a job printed last, made safe: of one that failed, the reason."""
    log = job.folder(root) / LOG
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((escape_controls(line.strip()) for line in reversed(lines) if line.strip()), "it printed nothing")


class LocalRunner:
    """Jobs as processes of this machine."""

    def __init__(self, root: Path, workers: int) -> None:
        self.root, self.free = root, workers
        self._processes: dict[int, tuple[Job, subprocess.Popen[bytes], float]] = {}
        """By the descriptor that tells of the process's end."""

    def start(self, job: Job, words: Sequence[str]) -> None:
        process = start_process(job.folder(self.root), words)
        self._processes[os.pidfd_open(process.pid)] = (job, process, time.monotonic())
        self.free -= 1

    def wait(self, seconds: float | None) -> list[JobEnd]:
        ended = []
        for descriptor in wait([*self._processes], seconds):
            assert isinstance(descriptor, int)
            job, process, begin = self._processes.pop(descriptor)
            os.close(descriptor)
            self.free += 1
            ended.append(JobEnd(job.digest, process.wait(), time.monotonic() - begin))
        return ended

    def stop(self) -> None:
        """Ends each as Ctrl-C would, so that it leaves nothing behind; one that does not end is killed."""
        for _, process, _ in self._processes.values():
            process.send_signal(signal.SIGINT)
        end = time.monotonic() + _GRACE_SECONDS
        for descriptor, (_, process, _) in self._processes.items():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(descriptor)
        self._processes.clear()


def start_process(folder: Path, words: Sequence[str], keep: int | None = None) -> "subprocess.Popen[bytes]":
    """`devnull WORDS` in a process that ends with this one, however that ends; what it prints goes into the log.

    Args:
        keep: A descriptor that it holds open until it ends.
    """
    parent = os.getpid()

    def end_with_parent() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it ended while this process began

    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "devnull", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            pass_fds=() if keep is None else (keep,),
            preexec_fn=end_with_parent,
        )
