"""What the image's makers recorded of it, kept on the host, where no agent reaches it."""

import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docker.errors import ImageNotFound

from devnull.sandbox.docker_client import IMAGE_LABEL, connect_docker
from devnull.sandbox.errors import ImageBuildFailed, RuntimeUnavailable
from devnull.sandbox.image.docker_image import DOCKER_SECONDS
from devnull.sandbox.image.recipe import image_tag, manifest_file, rootfs_folder
from devnull.sandbox.task import BUILDS

Digests = Mapping[str, str]
"""Absolute path to the SHA-256 of the file, or `-> TARGET` of a link."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """Digests of the files of one image, by what a verifier needs them for. Written by `box/families.py`."""

    shipped: Mapping[str, Mapping[str, Digests]]
    """Task, stage: the files that a sound installation leaves."""
    replaced: Mapping[str, Digests]
    """`TASK.BUILD`: files of the image that this build replaces on purpose."""
    tools: Digests
    """The image's own programs and libraries, as far as a verifier relies on them."""
    folders: tuple[str, ...]
    """Where those lie."""

    @classmethod
    def parse(cls, text: str | bytes) -> "Manifest":
        """From `manifest.json`."""
        table = json.loads(text)
        return cls(table["shipped"], table["laid"], table["tools"], tuple(table["folders"]))


@cache
def load_manifest() -> Manifest:
    """The manifest of this recipe's image; empty where neither image nor root file system is built."""
    kept = manifest_file()
    if not kept.exists():
        data = _read_from_image()
        if data is None:
            return Manifest({}, {}, {}, ())
        part = kept.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(data)
        part.rename(kept)
    return Manifest.parse(kept.read_bytes())


def _read_from_image() -> bytes | None:
    """`manifest.json` as it lies in the root file system, or else in the Docker image; `None`: neither is there."""
    if (file := rootfs_folder() / BUILDS.lstrip("/")).exists():
        with tarfile.open(file) as builds:
            return _read_member(builds, "manifest.json")
    try:
        client = connect_docker(DOCKER_SECONDS)
        container = client.containers.create(image_tag(), labels={IMAGE_LABEL: "export"}, network_mode="none")
    except (RuntimeUnavailable, ImageNotFound):
        return None
    try:
        stream, _ = container.get_archive(BUILDS)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            packed = _read_member(archive, Path(BUILDS).name)
        with tarfile.open(fileobj=io.BytesIO(packed)) as builds:
            return _read_member(builds, "manifest.json")
    finally:
        container.remove(force=True)


def _read_member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ImageBuildFailed(f"the task image holds no {name}; build it again: devnull image build")
    return file.read()
