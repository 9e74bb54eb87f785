"""Connects to the Docker daemon; the labels by which our containers and images are known."""

import os
import weakref

import docker
import requests
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
    try:
        client = docker.from_env(timeout=timeout, max_pool_size=64)
        weakref.finalize(client, client.api.close)  # its connections end with it
        client.ping()
    except (DockerException, requests.RequestException) as error:
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        raise RuntimeUnavailable(
            f"docker: no daemon at {host} ({short_error(error)}); start it, or pass --runtime rootless"
        ) from None
    return client


def short_error(error: Exception) -> str:
    """The last, most telling part of a library's error, in one line of at most 160 characters."""
    text = str(getattr(error, "explanation", None) or error)
    return " ".join(text.split())[-160:]
