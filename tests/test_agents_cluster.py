import sys
import threading

import pytest

ray = pytest.importorskip("ray", reason="wants the extra `ray`")

from ray.cluster_utils import Cluster  # noqa: E402

from devnull.agents.cluster import NodeDied, cluster_rollout  # noqa: E402
from devnull.agents.rollout import rollout  # noqa: E402
from devnull.agents.rollout_options import RolloutOptions  # noqa: E402
from devnull.agents.scripted import make_mixture  # noqa: E402
from devnull.cli.main import main  # noqa: E402
from devnull.cli.runs.run_folder import read_episodes  # noqa: E402
from devnull.sandbox.errors import InputError, RuntimeUnavailable  # noqa: E402
from tests.fakes import PretendRuntime, instances  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of its start and end
]
INSTANCES = instances(60)


class MeetingRuntime(PretendRuntime):
    """Its boxes install once as many nodes play as the file `nodes` says, and never on the node that `hang` names."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_run(self, box, command):
        if not command.startswith("install") or not ray.is_initialized():
            return
        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"played-{node}").touch()
        while len(list(self.folder.glob("played-*"))) < int((self.folder / "nodes").read_text()):
            threading.Event().wait(0.02)
        if (self.folder / "hang").exists() and (self.folder / "hang").read_text() == node:
            threading.Event().wait()


def agent():
    return make_mixture({"honest": 1, "hiding": 1})


@pytest.fixture(scope="module")
def cluster():
    for module in (__name__, PretendRuntime.__module__):
        ray.cloudpickle.register_pickle_by_value(sys.modules[module])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.second = made.add_node(num_cpus=1)
    made.connect = lambda: ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def transcripts(episodes):
    return sorted((e.seed, e.attempt, e.transcript.model_dump_json()) for e in episodes)


def test_without_a_cluster_it_says_so(tmp_path):
    with pytest.raises(InputError, match="no Ray cluster"):
        list(cluster_rollout(agent, INSTANCES, lambda: MeetingRuntime(tmp_path), arm="a"))


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
    here = list(rollout(agent(), INSTANCES, MeetingRuntime(tmp_path), arm="a"))
    cluster.connect()
    (tmp_path / "nodes").write_text("2")
    there = list(
        cluster_rollout(agent, INSTANCES, lambda: MeetingRuntime(tmp_path), arm="a", options=RolloutOptions(workers=4))
    )
    assert transcripts(there) == transcripts(here)
    assert len(list(tmp_path.glob("played-*"))) == 2


def test_a_node_that_dies_loses_nothing(cluster, tmp_path):
    """From here on the cluster has one node: the second hangs in its first episodes and is then killed."""
    second = next(n["NodeID"] for n in ray.nodes() if n["NodeID"] == cluster.second.node_id)
    (tmp_path / "hang").write_text(second)
    (tmp_path / "nodes").write_text("2")
    episodes, killed = [], False
    for episode in cluster_rollout(
        agent, INSTANCES, lambda: MeetingRuntime(tmp_path), arm="a", options=RolloutOptions(workers=4)
    ):
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
        list(
            cluster_rollout(
                broken, INSTANCES, lambda: MeetingRuntime(tmp_path), arm="a", options=RolloutOptions(workers=4)
            )
        )


def test_when_no_node_can_play_the_cause_is_named(cluster, tmp_path):
    def down():
        raise RuntimeUnavailable("no daemon; start it")

    with pytest.raises(NodeDied, match="no daemon; start it"):
        list(cluster_rollout(agent, INSTANCES, down, arm="a", options=RolloutOptions(workers=4)))
