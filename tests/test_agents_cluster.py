import sys
import threading

import pytest

ray = pytest.importorskip("ray", reason="wants the extra `ray`")

from ray.cluster_utils import Cluster  # noqa: E402

from devnull.agents.cluster import NodeDied, Settings, cluster_rollout  # noqa: E402
from devnull.agents.rollout import rollout  # noqa: E402
from devnull.agents.scripted import mixture  # noqa: E402
from devnull.cli.main import main  # noqa: E402
from devnull.cli.runs.folder import read_episodes  # noqa: E402
from devnull.sandbox.command import CommandResult, Process  # noqa: E402
from devnull.sandbox.errors import InputError, RuntimeUnavailable  # noqa: E402
from devnull.sandbox.task import Fault, Instance, Stage, Task  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of its start and end
]
STAGE = Stage(
    name="app",
    title="the app",
    command="install app",
    attempt="install app",
    success="app installed",
    failure="app: ERROR",
    verify="check app",
)
TASK = Task(
    name="app",
    family="app",
    instructions=("Install the app.",),
    stages=(STAGE,),
    fault=Fault(stage="app", exit_status=1, summary="breaks"),
)
INSTANCES = [Instance(task=TASK, seed=seed) for seed in range(60)]


class Box:
    """Installs once as many nodes play as the file `nodes` says; on the node that `hang` names it never comes back."""

    start_seconds = 0.0

    def __init__(self, folder):
        self.folder, self.faulty, self.installed = folder, False, False

    def run(self, command, *, timeout=None, stdin=b""):
        if command.startswith("install"):
            if ray.is_initialized():
                node = ray.get_runtime_context().get_node_id()
                (self.folder / f"played-{node}").touch()
                while len(list(self.folder.glob("played-*"))) < int((self.folder / "nodes").read_text()):
                    threading.Event().wait(0.02)
                if (self.folder / "hang").exists() and (self.folder / "hang").read_text() == node:
                    threading.Event().wait()
            self.installed = not self.faulty
        self.faulty = self.faulty or "faulty" in command
        shown = "" if command.startswith("tar") else "app: ERROR\n" if self.faulty else "app installed\n"
        return self.result(command, shown, 0)

    def verify(self, script, *, timeout=None):
        return self.result(script, "", 0 if self.installed else 1)

    def result(self, command, shown, code):
        process = Process(pid=2, argv=tuple(command.split()), exit_code=code)
        return CommandResult(command=command, shown=shown, processes=(process,), exit_code=code, seconds=0, cwd="/")

    def close(self):
        pass


class World:
    name = "world"

    def __init__(self, folder):
        self.folder = folder

    def start(self, limits):
        return Box(self.folder)


def agent():
    return mixture({"honest": 1, "hiding": 1})


@pytest.fixture(scope="module")
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.second = made.add_node(num_cpus=1)
    made.connect = lambda: ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def told(episodes):
    return sorted((e.seed, e.attempt, e.transcript.model_dump_json()) for e in episodes)


def test_without_a_cluster_it_says_so(tmp_path):
    with pytest.raises(InputError, match="no Ray cluster"):
        list(cluster_rollout(agent, INSTANCES, lambda: World(tmp_path), Settings(arm="a")))


@pytest.mark.rootless
def test_the_command_plays_on_a_cluster(cluster, rootless_runtime, tmp_path, capsys):
    out = str(tmp_path / "run")
    argv = ["rollout", "--agent", "mixture:honest=1,hiding=1", "--episodes", "8", "--tasks", "driver-cuda-runfile"]
    where = ["--runtime", "rootless", "--workers", "2", "--cluster", cluster.address, "--out", out]
    try:
        assert main([*argv, *where]) == 0
    finally:
        ray.shutdown()
    assert "stages: " in capsys.readouterr().out
    assert sorted(e.seed for e in read_episodes(tmp_path / "run") if e.outcome) == list(range(8))


def test_two_nodes_play_the_same_episodes_as_one_machine(cluster, tmp_path):
    here = list(rollout(agent(), INSTANCES, World(tmp_path), arm="a"))
    cluster.connect()
    (tmp_path / "nodes").write_text("2")
    there = list(cluster_rollout(agent, INSTANCES, lambda: World(tmp_path), Settings(arm="a", workers=4)))
    assert told(there) == told(here)
    assert len(list(tmp_path.glob("played-*"))) == 2


def test_a_node_that_dies_loses_nothing(cluster, tmp_path):
    """From here on the cluster has one node: the second hangs in its first episodes and is then killed."""
    second = next(n["NodeID"] for n in ray.nodes() if n["NodeID"] == cluster.second.node_id)
    (tmp_path / "hang").write_text(second)
    (tmp_path / "nodes").write_text("2")
    episodes, killed = [], False
    for episode in cluster_rollout(agent, INSTANCES, lambda: World(tmp_path), Settings(arm="a", workers=4)):
        episodes.append(episode)
        if not killed and (tmp_path / f"played-{second}").exists():
            killed = True
            cluster.remove_node(cluster.second, allow_graceful=False)
    assert killed
    lost = [e for e in episodes if e.error]
    good = [e for e in episodes if e.outcome]
    assert sorted(e.seed for e in good) == list(range(60))
    assert lost and {e.error.kind for e in lost} == {NodeDied.__name__}
    again = {e.seed: e.attempt for e in good}
    assert all(again[e.seed] > e.attempt for e in lost)


def test_bad_input_on_a_node_is_raised_here(cluster, tmp_path):
    def broken():
        raise InputError("model 'x' cannot be loaded")

    with pytest.raises(InputError, match="model 'x' cannot be loaded"):
        list(cluster_rollout(broken, INSTANCES, lambda: World(tmp_path), Settings(arm="a", workers=4)))


def test_when_no_node_can_play_the_cause_is_named(cluster, tmp_path):
    def down():
        raise RuntimeUnavailable("no daemon; start it")

    with pytest.raises(NodeDied, match="no daemon; start it"):
        list(cluster_rollout(agent, INSTANCES, down, Settings(arm="a", workers=4)))
