"""Runs the host's own programs (tar, mmdebstrap) while the image or its files are made."""

import subprocess

from devnull.sandbox.cache import cache_folder
from devnull.sandbox.errors import HostDiskFull, ImageBuildFailed


def run_host_tool(command: list[str]) -> None:
    """Runs one program to its end. Raises `HostDiskFull` or `ImageBuildFailed` with its last lines if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise host_tool_error(command[0], done.stderr or done.stdout)


def host_tool_error(tool: str, output: str) -> HostDiskFull | ImageBuildFailed:
    """The error for a program that failed, given what it printed."""
    if "no space left on device" in output.lower():
        return HostDiskFull(f"{tool}: no space left in {cache_folder()} or /tmp; free some and run it again")
    return ImageBuildFailed(f"{tool} failed:\n" + "\n".join(output.strip().splitlines()[-15:]))
