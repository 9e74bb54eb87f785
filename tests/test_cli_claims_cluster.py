"""Jobs of claims on a Ray cluster of two local nodes, one of which is killed."""

import time
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="wants the extra `ray`")

from ray.cluster_utils import Cluster  # noqa: E402

from devnull.agents.episode import Episode  # noqa: E402
from devnull.cli.claims.cluster_running import open_cluster_runner  # noqa: E402
from devnull.cli.claims.plan import Job  # noqa: E402
from devnull.cli.claims.running import run_jobs  # noqa: E402
from devnull.sandbox.errors import InputError  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of its start and end
]


def job(name: str, episodes: int, needs: tuple[str, ...] = ()) -> Job:
    tasks = ["driver-cuda-runfile*"]
    return Job(name, "rollout", {"agent": "honest", "tasks": tasks, "episodes": episodes, "workers": 2}, needs, 1.0)


def played(root: Path, name: str) -> list[tuple[object, ...]]:
    lines = (root / "jobs" / name / "run" / "episodes.jsonl").read_text().splitlines()
    return [Episode.model_validate_json(line).key for line in lines]


@pytest.mark.rootless
def test_a_node_that_dies_loses_nothing(rootless_runtime: object, tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    jobs = {name: job(name, 60) for name in ("a", "b")} | {"c": job("c", 2, ("a", "b"))}
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        runner = open_cluster_runner(cluster.address, tmp_path)
        assert runner.free == 2
        ends = run_jobs(jobs, tmp_path, KillsOnce(runner, cluster, second, tmp_path), boxes=("--runtime", "rootless"))
        assert {end.digest: end.status for end in ends} == {"a": 0, "b": 0, "c": 0}
    finally:
        ray.shutdown()
        cluster.shutdown()
    for name, count in (("a", 60), ("b", 60), ("c", 2)):
        assert len(played(tmp_path, name)) == len(set(played(tmp_path, name))) == count


class KillsOnce:
    """A runner that kills a node once both of the first jobs have played something."""

    def __init__(self, runner, cluster, node, root: Path) -> None:  # type: ignore[no-untyped-def]
        self.runner, self.cluster, self.node, self.root = runner, cluster, node, root
        self.start, self.stop = runner.start, runner.stop

    @property
    def free(self) -> int:
        return self.runner.free  # type: ignore[no-any-return]

    def wait(self, seconds: float | None):  # type: ignore[no-untyped-def]
        if self.node is not None:
            end = time.monotonic() + 120
            files = [self.root / "jobs" / name / "run" / "episodes.jsonl" for name in "ab"]
            while not all(file.exists() and file.stat().st_size for file in files):
                assert time.monotonic() < end
                time.sleep(0.05)
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node = None
        return self.runner.wait(seconds)


def test_where_there_is_no_cluster_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        open_cluster_runner("127.0.0.1:1", tmp_path)
