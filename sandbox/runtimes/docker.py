"""Boxes as Docker containers (or podman's, through its Docker socket): one container an episode."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from devnull.sandbox.docker_client import SESSION_LABEL, connect_docker
from devnull.sandbox.errors import HostDiskFull, ImageMissing, InfrastructureError, RuntimeUnavailable
from devnull.sandbox.frames import Channel, DockerDemultiplexer, encode_frame
from devnull.sandbox.image.manifest import NO_MANIFEST, Manifest
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.evidence import OUT_OF_MEMORY, crashed
from devnull.sandbox.session import BoxSession
from devnull.sandbox.supervisor import SUPERVISOR_IN_IMAGE

_UNCHANGEABLE = ("/usr/lib/devnull/", "/dev/", "/proc/", "/sys/")
"""Mount points of the runtime, which `docker diff` reports too."""


def container_settings(limits: Limits) -> dict[str, Any]:
    """Arguments of `containers.create` that confine a box: writable and root, which installing needs, and no more."""
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
        # Out of memory, boxes go before the model; and within a box the agent's processes do, which the supervisor puts
        # at the top of the scale.
        "oom_score_adj": 500,
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


@cache
def _read_only_paths() -> list[str]:
    """All of /proc that is not about processes, since a mode set there holds for the host; and who dies first.

    The rest stays, as the daemon has security modules' labels written there. What is not there on the daemon's machine
    is passed over.
    """
    paths = {Path("/proc", name) for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")}
    with contextlib.suppress(FileNotFoundError):  # not Linux: the daemon is elsewhere
        paths |= {path for path in Path("/proc").iterdir() if not (path.name.isdigit() or path.is_symlink())}
    order = [f"/proc/1/{part}oom_{what}" for part in ("", "task/1/") for what in ("adj", "score_adj")]
    return [*map(str, sorted(paths)), *order]


class ContainerBox:
    """A container with our supervisor as PID 1, attached by its stdin and stdout."""

    def __init__(self, client: docker.DockerClient, image: str, limits: Limits, supervisor: Path | None) -> None:
        settings = client.api.create_host_config(
            # When we are gone, so is its stdin; the supervisor then ends, and the daemon removes the container.
            auto_remove=True,
            binds=[] if supervisor is None else [f"{supervisor.resolve()}:{SUPERVISOR_IN_IMAGE}:ro"],
            **container_settings(limits),
        )
        self._client = client
        self._created = int(time.time())
        made = client.api.create_container(
            image,
            entrypoint=[SUPERVISOR_IN_IMAGE, "serve", "--home", "/root"],
            command=[],
            user="0:0",  # an image may name another, who cannot be a supervisor
            stdin_open=True,
            working_dir="/root",
            hostname="box",
            labels={SESSION_LABEL: process_label()},
            host_config={**settings, "ReadonlyPaths": _read_only_paths()},
        )
        self._container = client.containers.get(made["Id"])
        self._demultiplexer = DockerDemultiplexer()
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
        """As `Box.why_dead`, asked of the daemon."""
        complaint = self._demultiplexer.stderr.decode("utf-8", "replace").strip()
        try:
            self._client.ping()
        except (DockerException, requests.RequestException):
            return "the Docker daemon has gone; start it and run the episode again"
        if evidence := self.ended_by_agent():
            return evidence
        try:
            self._container.reload()
            state = self._container.attrs["State"]
        except NotFound:
            return f"its container was removed; run the episode again {complaint}".rstrip()
        except (DockerException, requests.RequestException) as error:
            return str(error)
        return f"its container is {state.get('Status')} with status {state.get('ExitCode')} {complaint}".rstrip()

    def ended_by_agent(self) -> str | None:
        """As `Box.ended_by_agent`, from what the daemon tells of the container's last moments."""
        try:
            told = self._client.events(
                since=self._created, until=int(time.time()) + 1, filters={"container": self._container.id}, decode=True
            )
            events = {event["Action"]: event["Actor"]["Attributes"] for event in told}
        except (DockerException, requests.RequestException):
            return None
        status = int(events.get("die", {}).get("exitCode", 0))
        if status == 137 and "oom" in events and "kill" not in events:
            return OUT_OF_MEMORY
        return crashed(status)

    def close(self) -> None:
        """Ends the supervisor and removes the container."""
        with contextlib.suppress(OSError):
            self.channel.send(encode_frame(b"Q"))
            self._socket.shutdown(socket.SHUT_RDWR)  # another thread may still wait for an answer, and reads the end
        self._remove()

    def _remove(self) -> None:
        try:
            self._container.remove(force=True)
        except NotFound:
            return
        except APIError as error:
            # One that ended a moment ago is removed by `auto_remove`, as surely as one that is being removed.
            leaving = error.status_code == 409 or "is not running" in (error.explanation or "")
            if not leaving:
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

    def __init__(self, image: str, supervisor: Path | None = None, manifest: Manifest = NO_MANIFEST) -> None:
        """Containers of `image` (an id or a tag) and `manifest`, its own.

        Raises `RuntimeUnavailable` where no daemon answers.

        `supervisor`: a program mounted over the image's own, for images that have none.
        """
        self._client = connect_docker()
        self._image, self._supervisor, self.manifest = image, supervisor, manifest

    def start(self, limits: Limits = Limits()) -> BoxSession:
        """A fresh container. Raises `RuntimeUnavailable`, `ImageMissing`, `HostDiskFull`, each with its fix."""
        try:
            return BoxSession(
                lambda: ContainerBox(self._client, self._image, limits, self._supervisor), limits, self.manifest
            )
        except ImageNotFound:
            raise ImageMissing(f"docker: no image {self._image}; build it: devnull image build") from None
        except APIError as error:
            message = str(error.explanation)
            if "no space left" in message:
                raise HostDiskFull(f"docker: {message}; free some: docker system prune") from None
            if "no such file or directory" in message and SUPERVISOR_IN_IMAGE in message:
                raise ImageMissing(
                    f"docker: image {self._image} holds no {SUPERVISOR_IN_IMAGE}; build it: devnull image build"
                ) from None
            raise RuntimeUnavailable(f"docker: {message}; or pass --runtime rootless") from None
        except (DockerException, requests.RequestException) as error:
            raise RuntimeUnavailable(f"docker: the daemon does not answer ({error}); start it again") from None


def process_label() -> str:
    """Value of `SESSION_LABEL` for this process, `HOST/PID/START TICKS`: names no process that comes later."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start_ticks(os.getpid())}"


def _start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def prune_containers(log: Callable[[str], None]) -> int:
    """Removes the containers of processes of this machine that have ended; returns how many.

    `log` gets a line for each. Raises `RuntimeUnavailable`.
    """
    labelled = connect_docker().containers.list(all=True, filters={"label": SESSION_LABEL}, ignore_removed=True)
    return sum(_prune_one(container, log) for container in labelled)


def _prune_one(container: Container, log: Callable[[str], None]) -> int:
    """1 if the container was an orphan, now removed."""
    host, _, rest = container.labels[SESSION_LABEL].partition("/")
    pid, _, ticks = rest.partition("/")
    if host != socket.gethostname() or _start_ticks(int(pid)) == int(ticks):
        return 0
    try:
        container.remove(force=True)
    except NotFound:
        return 0
    log(f"removed container {container.short_id} of process {pid}, which is gone")
    return 1
