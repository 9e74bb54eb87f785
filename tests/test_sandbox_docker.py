"""The docker runtime: how containers are confined, what becomes of them, what it says when Docker fails."""

import contextlib
import gc
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from devnull.sandbox.docker_client import SESSION_LABEL
from devnull.sandbox.errors import BoxDied, ImageMissing, RuntimeUnavailable
from devnull.sandbox.own_box import open_own_boxes
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.docker import DockerRuntime, process_label, prune_containers
from devnull.sandbox.session import BoxSession

# docker-py leaves some connections to the garbage collector, which is called here while it can be excused.
pytestmark = [pytest.mark.docker, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def client(docker_runtime: DockerRuntime) -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    OTHERS.update(labelled(client))
    yield client
    client.close()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def session(docker_runtime: DockerRuntime) -> Iterator[BoxSession]:
    session = docker_runtime.start()
    yield session
    session.close()


OTHERS: set[str] = set()
"""Containers of this process that were there before these tests: what an earlier, failed test left is not theirs."""


def labelled(client: docker.DockerClient) -> set[str]:
    """The containers that this process started."""
    found = client.containers.list(all=True, filters={"label": f"{SESSION_LABEL}={process_label()}"})
    return {container.id or "" for container in found}


def ours(client: docker.DockerClient) -> list[str]:
    return sorted(labelled(client) - OTHERS)


def test_confinement(client: docker.DockerClient, session: BoxSession) -> None:
    (name,) = ours(client)
    host = client.api.inspect_container(name)["HostConfig"]
    assert host["NetworkMode"] == "none" and host["IpcMode"] == "private" and host["LogConfig"]["Type"] == "none"
    assert host["CapDrop"] == ["ALL"] and "SYS_ADMIN" not in host["CapAdd"] and not host["Privileged"]
    assert host["PidsLimit"] == 256 and host["Memory"] == host["MemorySwap"] == 1 << 30 and host["NanoCpus"] == 10**9
    assert "no-new-privileges" in host["SecurityOpt"] and host["AutoRemove"] and not host["Binds"]
    assert (
        session.run("grep -E 'CapEff|NoNewPrivs' /proc/self/status | cut -f2 | xargs").shown == "00000000000000eb 1\n"
    )


def test_the_supervisor_is_not_the_first_to_go(docker_runtime: DockerRuntime) -> None:
    """An agent that offers PID 1 to the kernel's killer, then takes all memory, loses its own processes only."""
    with docker_runtime.start(Limits(memory_bytes=128 << 20)) as session:
        hog = "python3 -c 'x = bytearray(100 << 20); input()'"
        session.run(f"echo 1000 >/proc/1/oom_score_adj; {hog} & {hog} & {hog}", timeout=20)
        assert "alive\n" in session.run("echo alive").shown  # and whatever a process that still runs says


def test_nothing_is_left_after_close(client: docker.DockerClient, docker_runtime: DockerRuntime) -> None:
    session = docker_runtime.start()
    assert len(ours(client)) == 1
    session.close()
    assert ours(client) == []


HOST = """
import sys
import tarfile
from devnull.sandbox.runtimes.docker import DockerRuntime
session = DockerRuntime(sys.argv[1]).start()
print(session._box._container.id, flush=True)
session.run("sleep 1000")
"""


def test_nothing_is_left_after_kill_9_of_the_host(client: docker.DockerClient, docker_runtime: DockerRuntime) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, docker_runtime._image], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert host.stdout is not None
    name = host.stdout.readline().strip()
    assert client.containers.get(name).status == "running"
    os.kill(host.pid, signal.SIGKILL)
    host.wait()
    host.stdout.close()
    with contextlib.suppress(docker.errors.NotFound):
        client.api.wait(name, timeout=120, condition="removed")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(name)


def test_prune_finds_orphans_and_leaves_the_living(
    client: docker.DockerClient, session: BoxSession, docker_runtime: DockerRuntime
) -> None:
    orphan = client.containers.create(
        docker_runtime._image,
        labels={SESSION_LABEL: f"{socket.gethostname()}/{os.getpid()}/1"},
        entrypoint=["/bin/true"],
    )
    elsewhere = client.containers.create(
        docker_runtime._image, labels={SESSION_LABEL: "another-host/1/1"}, entrypoint=["/bin/true"]
    )
    said: list[str] = []
    try:
        assert prune_containers(said.append) >= 1
        assert any(orphan.short_id in line for line in said)
        with pytest.raises(docker.errors.NotFound):
            client.containers.get(orphan.id or "")
        client.containers.get(elsewhere.id or "")
        assert session.run("echo alive").shown == "alive\n"
    finally:
        elsewhere.remove(force=True)


def test_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(RuntimeUnavailable, match=r"no daemon at unix:///nonexistent.*--runtime rootless"):
        DockerRuntime("x")


def test_no_image(docker_runtime: DockerRuntime) -> None:
    with pytest.raises(ImageMissing, match="devnull image build"):
        DockerRuntime("devnull-no-such-image:1").start()


def test_image_without_a_supervisor(client: docker.DockerClient) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    client.api.import_image_from_data(archive.getvalue(), repository="devnull-bare", tag="test")
    try:
        with pytest.raises(ImageMissing, match="holds no /usr/lib/devnull/supervisor"):
            DockerRuntime("devnull-bare:test").start()
        assert ours(client) == []
    finally:
        client.images.remove("devnull-bare:test")


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Stands in for the daemon, so that it can be taken away."""

    def __init__(self, path: Path) -> None:
        self.path, self.ends = path, list[socket.socket]()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect("/var/run/docker.sock")
                self.ends += [near, far]
                for pair in ((near, far), (far, near)):
                    self.threads.append(threading.Thread(target=pump, args=pair))
                    self.threads[-1].start()

    def vanish(self) -> None:
        self.path.unlink(missing_ok=True)
        self.listener.shutdown(socket.SHUT_RDWR)
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for end in (self.listener, *self.ends):
            end.close()


@pytest.mark.skipif(not Path("/var/run/docker.sock").exists(), reason="the daemon is not at /var/run/docker.sock")
def test_daemon_gone_in_mid_episode(
    client: docker.DockerClient, docker_runtime: DockerRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(tmp_path / "docker.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{proxy.path}")
    runtime = DockerRuntime(docker_runtime._image)
    session = runtime.start()
    (name,) = ours(client)
    proxy.vanish()
    with pytest.raises(BoxDied, match="daemon has gone"):
        session.run("true")
    session.close()
    with pytest.raises(RuntimeUnavailable, match="start it"):
        runtime.start()
    with contextlib.suppress(docker.errors.NotFound):
        client.api.wait(name, timeout=120, condition="removed")  # its stdin ended with the connection
    assert ours(client) == []


def test_an_image_with_a_user_of_its_own(docker_runtime: DockerRuntime, client: docker.DockerClient) -> None:
    """The supervisor is root all the same, and has its files and its shell."""
    container = client.containers.create(docker_runtime._image)
    image = container.commit(changes="USER nobody\nWORKDIR /opt\nENV SET=by-the-image")
    container.remove()
    try:
        with open_own_boxes(image.id, "docker") as boxes, boxes.start(Limits(), ROOT / "docs") as session:
            done = session.run('id -un; pwd; echo "$SET"; ls agents.md')
        assert done.shown.split() == ["root", "/work", "by-the-image", "agents.md"]
    finally:
        client.images.remove(image.id)
