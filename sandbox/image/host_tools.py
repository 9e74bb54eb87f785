"""Runs the host's own programs (tar, mmdebstrap) while the image or its files are made."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from devnull.sandbox.cache import cache_folder
from devnull.sandbox.errors import HostDiskFull, ImageBuildFailed

DEBIAN_SUITE = "bookworm"
_HEEDED = {"PATH", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"}
"""Variables of the host that mmdebstrap is given. Any other would reach the programs that it runs in the box to be:
`SOURCE_DATE_EPOCH`, by which it also sets files' times back, `PYTHON*`, `PIP_*`, a locale."""


def run_host_tool(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Runs one program to its end, under the usual umask.

    Raises `HostDiskFull` or `ImageBuildFailed` with its last lines if it fails.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env=environment, umask=0o022
    )
    if done.returncode != 0:
        raise host_tool_error(command[0], done.stderr or done.stdout)


def run_mmdebstrap(archive: Path, steps: Iterable[str] = ()) -> None:
    """A minimal Debian as a tar, after shell lines for which `$1` is its root. Raises as `run_host_tool`."""
    environment = {name: value for name, value in os.environ.items() if name.upper() in _HEEDED}
    environment["HOME"] = "/nonexistent"  # no ~/.dpkg.cfg
    hooks = [f"--customize-hook={step}" for step in steps]
    # apt's lists and caches are `base.sh`'s to clear, as in a container; mmdebstrap would leave a lock there.
    run_host_tool(
        ["mmdebstrap", "--variant=minbase", "--skip=cleanup/apt", *hooks, DEBIAN_SUITE, str(archive)], environment
    )


def unpack_command(folder: Path) -> list[str]:
    """Unpacks a root file system from stdin, all but its devices; as an ordinary user all of it belongs to the user.

    Numbers and modes are the archive's own, whatever the host's names and umask are.
    """
    owner = "--same-owner" if os.geteuid() == 0 else "--no-same-owner"
    left_out = ["--anchored", "--exclude=dev/*", "--exclude=./dev/*"]
    return ["tar", "-x", "-C", str(folder), "--numeric-owner", owner, "--same-permissions", *left_out]


def host_tool_error(tool: str, output: str) -> HostDiskFull | ImageBuildFailed:
    """The error for a program that failed, given what it printed."""
    if "no space left on device" in output.lower():
        return HostDiskFull(f"{tool}: no space left in {cache_folder()} or /tmp; free some and run it again")
    if "chroot mode" in output:
        return ImageBuildFailed(
            f"{tool}: an ordinary user needs subordinate ids to make the box's files: have root run `apt-get install "
            "-y uidmap` and `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`, or start Docker"
        )
    return ImageBuildFailed(f"{tool} failed:\n" + "\n".join(output.strip().splitlines()[-15:]))
