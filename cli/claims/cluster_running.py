"""Jobs as tasks of a Ray cluster. Every node needs this checkout, its environment, and to see the folder of the jobs.

What a node that dies was running is run again on another, and goes on from what lies in the job's folder.
"""

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.exceptions import RayError

from devnull.agents.cluster import join_cluster
from devnull.cli.claims.plan import Job
from devnull.cli.claims.running import JobEnd, start_process

_RETRIES = 3
"""How many nodes may die under one job."""


def open_cluster_runner(address: str, root: Path) -> "ClusterRunner":
    """Connects to a Ray cluster; `auto`: the one this machine is in. Raises `InputError` where there is none."""
    if not ray.is_initialized():
        join_cluster(address)
    return ClusterRunner(root)


class ClusterRunner:
    """Jobs as tasks of the cluster that this process is connected to, one a core."""

    def __init__(self, root: Path) -> None:
        self.root, self.free = root, max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._tasks: dict[ray.ObjectRef, tuple[Job, float]] = {}

    def start(self, job: Job, words: Sequence[str]) -> None:
        folder = str(job.folder(self.root).resolve())
        self._tasks[_run_job.remote(folder, [*words], str(Path.cwd()))] = (job, time.monotonic())
        self.free -= 1

    def wait(self, seconds: float | None) -> list[JobEnd]:
        ended = []
        for task in ray.wait([*self._tasks], num_returns=1, timeout=seconds)[0]:
            job, begin = self._tasks.pop(task)
            self.free += 1
            try:
                status = ray.get(task)
            except RayError as error:
                with (job.folder(self.root) / "log.txt").open("a") as log:
                    log.write(f"{str(error).strip().splitlines()[0]}\n")
                status = 1
            ended.append(JobEnd(job.digest, status, time.monotonic() - begin))
        return ended

    def stop(self) -> None:
        for task in self._tasks:
            ray.cancel(task, force=True)
        self._tasks.clear()


@ray.remote(num_cpus=1, max_retries=_RETRIES)  # type: ignore[untyped-decorator]
def _run_job(folder: str, words: list[str], directory: str) -> int:
    """The exit status of `devnull WORDS`. Waits for one that a dying node may still hold of the same job."""
    os.chdir(directory)
    with (Path(folder) / ".lock-task").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return start_process(Path(folder), words, keep=lock.fileno()).wait()
