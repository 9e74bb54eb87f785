"""Boxes without a daemon: namespaces and an overlay, made by the supervisor itself, as root or an ordinary user."""

import contextlib
import os
import subprocess
from pathlib import Path

from devnull.sandbox.errors import HostDiskFull, ImageMissing, InfrastructureError, RuntimeUnavailable
from devnull.sandbox.frames import Channel, encode_frame
from devnull.sandbox.image.manifest import NO_MANIFEST, Manifest
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.evidence import OUT_OF_MEMORY, crashed
from devnull.sandbox.runtimes.memory_cgroup import find_memory_cgroup
from devnull.sandbox.session import BoxSession
from devnull.sandbox.supervisor import SUPERVISOR_IN_IMAGE, find_supervisor

START_FIXES = (
    ("unshare", "user namespaces are off: sysctl user.max_user_namespaces=15000 (and, on Debian or Ubuntu, "
     "kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0), or pass --runtime docker"),
    ("uid_map", "user namespaces are restricted: sysctl kernel.apparmor_restrict_unprivileged_userns=0, "
     "or pass --runtime docker"),
    ("user attributes", "use a newer kernel, or pass --runtime docker"),
    ("mount overlay", "this kernel does not let an ordinary user mount overlays; use Linux 6.6 or newer, "
     "or pass --runtime docker"),
    ("mount /proc", "inside another container /proc is masked; run there with --security-opt systempaths=unconfined, "
     "or pass --runtime docker"),
    ("seccomp", "seccomp user notification is off; use Linux 5.9 or newer with CONFIG_SECCOMP_FILTER"),
)  # fmt: skip
"""What stands in the supervisor's message when a box does not start, and the fix."""
_OUT_OF_MEMORY = 5
"""Exit status of a launcher whose box was killed at its own limit (`native/box.c`)."""
_REBUILD = "remove its folder and run it again: it is then built anew"


class ProcessBox:
    """A supervisor as a child process, with a pipe to it and one back."""

    def __init__(self, argv: list[str]) -> None:
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
        except OSError as error:
            raise _spawn_error(error, argv[0]) from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._pipes = (self._process.stdin, self._process.stdout)
        self.channel = Channel(self._process.stdout.fileno(), self._process.stdin.fileno())

    def changes(self) -> bytes:
        """Empty: the supervisor looks at the overlay itself."""
        return b""

    def why_dead(self) -> str:
        """As `Box.why_dead`, from the exit status."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "its supervisor still runs: the machine may be overloaded; try fewer workers"
        if status == -9 or status == 137:
            return "its supervisor was killed: the machine may be out of memory; try fewer workers"
        if evidence := self.ended_by_agent():
            return evidence
        return f"its supervisor ended with status {status}; the episode can be run again"

    def ended_by_agent(self) -> str | None:
        """As `Box.ended_by_agent`, from the exit status."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return None
        return OUT_OF_MEMORY if status == _OUT_OF_MEMORY else crashed(status)

    def close(self) -> None:
        """Ends the supervisor, and with it all in the box."""
        requests, answers = self._pipes
        with contextlib.suppress(OSError):
            self.channel.send(encode_frame(b"Q"))
        with contextlib.suppress(OSError):
            requests.close()  # ends a supervisor that is busy with a command
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        answers.close()  # last: another thread may still wait for an answer, and reads the end instead


class RootlessRuntime:
    """Boxes over one root file system directory. Thread-safe."""

    name = "rootless"

    def __init__(self, rootfs: Path, supervisor: Path | None = None, manifest: Manifest = NO_MANIFEST) -> None:
        """Boxes over `rootfs`, a folder of `ensure_rootfs`, and `manifest`, its own.

        `supervisor`: the program to start; the root file system's own by default.
        """
        self._rootfs, self.manifest = rootfs, manifest
        inside = rootfs / SUPERVISOR_IN_IMAGE.lstrip("/")
        self._supervisor = supervisor or (inside if inside.exists() else find_supervisor())

    def start(self, limits: Limits = Limits()) -> BoxSession:
        """A fresh box. Raises `RuntimeUnavailable`, `ImageMissing`, `HostDiskFull`, each with its fix."""
        if not (self._rootfs / "bin/bash").exists():
            raise ImageMissing(f"rootless: no root file system at {self._rootfs}; make it: devnull image export")
        argv = [
            str(self._supervisor), "box", "--root", str(self._rootfs), "--disk", str(limits.disk_bytes),
            "--pids", str(limits.pids), "--memory", str(limits.memory_bytes),
        ]  # fmt: skip
        if (folder := find_memory_cgroup()) is not None:
            argv += ["--cgroup", str(folder)]
        try:
            return BoxSession(lambda: ProcessBox(argv), limits, self.manifest)
        except InfrastructureError as error:
            fix = next((fix for sign, fix in START_FIXES if sign in str(error)), None)
            if fix is None:
                raise
            raise RuntimeUnavailable(f"rootless: {error}: {fix}") from None


def _spawn_error(error: OSError, program: str) -> InfrastructureError:
    """Why a process could not be made."""
    if error.errno in (28, 122):
        return HostDiskFull(f"{program}: {error.strerror}; free some space and run it again")
    if error.errno in (11, 12, 24):
        return RuntimeUnavailable(f"{program}: {error.strerror}; use fewer workers, or raise ulimit -n and -u")
    if error.errno == 8:
        return RuntimeUnavailable(f"{program} is for another architecture than {os.uname().machine}; {_REBUILD}")
    if error.errno == 13:
        return RuntimeUnavailable(f"{program}: {error.strerror}; set XDG_CACHE_HOME to a folder that may hold programs")
    return RuntimeUnavailable(f"{program}: {error.strerror}; {_REBUILD}")
