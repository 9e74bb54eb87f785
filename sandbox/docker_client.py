"""Connects to the Docker daemon; the labels by which our containers and images are known."""

import os
import socket
import weakref

import docker
from docker.errors import DockerException

from devnull.sandbox.errors import RuntimeUnavailable

SESSION_LABEL = "org.devnull.session"
"""Of a box's container: the process that it belongs to."""
IMAGE_LABEL = "org.devnull.image"
"""Of task images (`1`, set by the Dockerfile), and of the containers that their files are copied from (`export`)."""


def connect_docker(timeout: int = 120) -> docker.DockerClient:
    """A client of the daemon of `DOCKER_HOST`, whose requests may take `timeout` seconds each.

    Raises `RuntimeUnavailable` where none answers.
    """
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        _check_unix_socket(host)
        client = docker.from_env(timeout=timeout, max_pool_size=64)
        weakref.finalize(client, client.api.close)  # its connections end with it
        client.ping()
    except (DockerException, OSError) as error:  # those of requests are OSErrors
        raise RuntimeUnavailable(
            f"docker: no daemon at {host} ({short_error(error)}); start it, or pass --runtime rootless"
        ) from None
    return client


def _check_unix_socket(host: str) -> None:
    """Raises `OSError` where nobody listens: docker-py would find that out too, but leave its socket open."""
    scheme, _, path = host.partition("://")
    if scheme in ("unix", "http+unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)


def short_error(error: Exception) -> str:
    """The last, most telling part of a library's error, in one line of at most 160 characters."""
    text = str(getattr(error, "explanation", None) or error)
    return " ".join(text.split())[-160:]
