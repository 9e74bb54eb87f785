"""Boxes as Docker containers (or podman's, through its Docker socket): one container an episode."""

import contextlib
import os
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from devnull.sandbox.errors import HostDiskFull, ImageMissing, InfrastructureError, RuntimeUnavailable
from devnull.sandbox.frames import Channel, Demultiplexer, frame
from devnull.sandbox.runtime import Limits
from devnull.sandbox.session import BoxSession

LABEL = "org.devnull.session"
_SUPERVISOR = "/usr/lib/devnull/supervisor"
_UNCHANGEABLE = ("/usr/lib/devnull/", "/dev/", "/proc/", "/sys/")
"""Mount points of the runtime, which `docker diff` reports too."""


def connect() -> docker.DockerClient:
    """The daemon of `DOCKER_HOST`. Raises `RuntimeUnavailable`."""
    try:
        client = docker.from_env(timeout=120, max_pool_size=64)
        weakref.finalize(client, client.api.close)  # its connections end with it
        client.ping()
    except (DockerException, requests.RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        raise RuntimeUnavailable(
            f"docker: no daemon at {where} ({error}); start it, or pass --runtime rootless"
        ) from None
    return client


def settings(limits: Limits) -> dict[str, Any]:
    """How a box is confined. Writable and as root, since installing needs both; so everything else is narrow."""
    return {
        # Nothing to reach, nothing to leak to.
        "network_mode": "none",
        # What apt and dpkg need to install as root, and no more; the last two are the supervisor's alone (it drops
        # them for the agent): it reads apt, which is not dumpable, and narrows the agent's bounding set.
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "SYS_PTRACE", "SETPCAP"],
        # A setuid program gives nobody anything.
        "security_opt": ["no-new-privileges"],
        # A fork bomb ends at its own walls; memory without swap, so that the limit is the limit.
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        # Out of memory, boxes go before the model; and within a box the largest process does, since all stand at the
        # top of the scale: the agent cannot push the supervisor to the head of the queue and so end its own episode.
        "oom_score_adj": 1000,
        # One box must not starve the others, nor the model.
        "nano_cpus": 1_000_000_000,
        "ulimits": [
            docker.types.Ulimit(name="nofile", soft=1024, hard=1024),
            docker.types.Ulimit(name="core", soft=0, hard=0),
        ],
        # No shared memory with the host or other boxes.
        "ipc_mode": "private",
        # Frames would otherwise be written to the daemon's log files as well.
        "log_config": docker.types.LogConfig(type="none"),
        # Scratch space is bounded; the rest of the disk is not (docs/sandbox.md), ext4 knows no quota per container.
        "tmpfs": {"/tmp": f"size={min(limits.disk_bytes, 256 << 20)},exec,mode=1777"},
    }


class ContainerBox:
    """A container with our supervisor as PID 1, attached by its stdin and stdout."""

    def __init__(self, client: docker.DockerClient, image: str, limits: Limits, supervisor: Path | None) -> None:
        options = settings(limits)
        if supervisor is not None:
            options["volumes"] = {str(supervisor.resolve()): {"bind": _SUPERVISOR, "mode": "ro"}}
        self._client = client
        self._container = client.containers.create(
            image,
            entrypoint=[_SUPERVISOR, "serve", "--home", "/root"],
            command=[],
            stdin_open=True,
            working_dir="/root",
            hostname="box",
            # When we are gone, so is its stdin; the supervisor then ends, and the daemon removes the container.
            auto_remove=True,
            labels={LABEL: me()},
            **options,
        )
        self._demultiplexer = Demultiplexer()
        self._ends = contextlib.ExitStack()
        try:
            attached: Any = self._container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            self._ends.callback(attached.close)
            self._socket: socket.socket = self._ends.enter_context(attached._sock)
            self._socket.settimeout(None)
            descriptor = self._socket.fileno()
            self.channel = Channel(descriptor, descriptor, self._demultiplexer)
            self._container.start()
        except BaseException:
            self._remove()
            raise

    def changes(self) -> bytes:
        """What the daemon knows of changed paths, and all of /tmp, which it does not."""
        kinds = {0: b"+", 1: b"+", 2: b"-"}
        changed: list[dict[str, Any]] = self._container.diff() or []
        listed = [
            (kinds[change["Kind"]], os.fsencode(change["Path"]))
            for change in changed
            if not (change["Path"] + "/").startswith(_UNCHANGEABLE)
        ]
        removed = [sign + path + b"\0" for sign, path in listed if sign == b"-"]
        # A directory that was replaced is reported as removed, and what it holds now as added.
        kept = [b"+" + path + b"\0" for _, path in listed]
        return b"".join([*removed, *kept, b"*/tmp\0"])

    def why_dead(self) -> str:
        said = self._demultiplexer.stderr.decode("utf-8", "replace").strip()
        try:
            self._client.ping()
        except (DockerException, requests.RequestException):
            return "the Docker daemon has gone; start it and run the episode again"
        try:
            self._container.reload()
            state = self._container.attrs["State"]
        except NotFound:
            return f"its container was removed; run the episode again {said}".rstrip()
        except (DockerException, requests.RequestException) as error:
            return str(error)
        if state.get("OOMKilled"):
            return "its container ran out of memory; raise the memory limit, or run the episode again"
        return f"its container is {state.get('Status')} with status {state.get('ExitCode')} {said}".rstrip()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.channel.send(frame(b"Q"))
            self._socket.shutdown(socket.SHUT_RDWR)  # another thread may still wait for an answer, and reads the end
        self._remove()

    def _remove(self) -> None:
        try:
            self._container.remove(force=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:
                raise InfrastructureError(
                    f"docker: the container stays behind: {error.explanation}; remove it: devnull image prune"
                ) from None
            with contextlib.suppress(NotFound):  # the daemon is removing it already
                self._container.wait(condition="removed")
        except (DockerException, requests.RequestException):
            return  # no daemon, no container
        finally:
            self._ends.close()


class DockerRuntime:
    """Containers of one image. Thread-safe."""

    name = "docker"

    def __init__(self, image: str, supervisor: Path | None = None) -> None:
        """`supervisor`: mounted over the image's own, for images that have none."""
        self._client = connect()
        self._image, self._supervisor = image, supervisor

    def start(self, limits: Limits = Limits()) -> BoxSession:
        """A fresh container. Raises `RuntimeUnavailable`, `ImageMissing`, `HostDiskFull`, each with its fix."""
        try:
            return BoxSession(lambda: ContainerBox(self._client, self._image, limits, self._supervisor), limits)
        except ImageNotFound:
            raise ImageMissing(f"docker: no image {self._image}; build it: devnull image build") from None
        except APIError as error:
            said = str(error.explanation)
            if "no space left" in said:
                raise HostDiskFull(f"docker: {said}; free some: docker system prune") from None
            if "no such file or directory" in said and _SUPERVISOR in said:
                raise ImageMissing(
                    f"docker: image {self._image} holds no {_SUPERVISOR}; build it: devnull image build"
                ) from None
            raise RuntimeUnavailable(f"docker: {said}; or pass --runtime rootless") from None
        except (DockerException, requests.RequestException) as error:
            raise RuntimeUnavailable(f"docker: the daemon does not answer ({error}); start it again") from None


def me() -> str:
    """This process, so that its containers can be told from those of processes that still live."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"


def _started(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def prune(say: Callable[[str], None]) -> int:
    """Removes the containers of processes of this machine that live no more; returns how many."""
    labelled = connect().containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
    return sum(_prune_one(container, say) for container in labelled)


def _prune_one(container: Container, say: Callable[[str], None]) -> int:
    """1 if the container was an orphan, now removed."""
    host, _, rest = container.labels[LABEL].partition("/")
    pid, _, ticks = rest.partition("/")
    if host != socket.gethostname() or _started(int(pid)) == int(ticks):
        return 0
    try:
        container.remove(force=True)
    except NotFound:
        return 0
    say(f"removed container {container.short_id} of process {pid}, which is gone")
    return 1
