"""The task image: what every box begins as. Built once from this checkout, named after the digest of its recipe."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from devnull.cli.terminal.console import print_error
from devnull.cli.terminal.progress import print_progress
from devnull.sandbox.cache import cache_folder
from devnull.sandbox.docker_client import IMAGE_LABEL, connect_docker
from devnull.sandbox.errors import RuntimeUnavailable
from devnull.sandbox.image.docker_image import DOCKER_SECONDS, ensure_image, find_image, manifest_file
from devnull.sandbox.image.recipe import image_tag, rootfs_folder
from devnull.sandbox.image.rootfs import ensure_rootfs, find_rootfs, remove_tree
from devnull.sandbox.runtimes.docker import prune_containers
from devnull.sandbox.supervisor import supervisor_folder


@dataclass(frozen=True)
class BuildImageArgs:
    """Build the image, or without Docker its files, unless they are there."""

    again: bool = False
    """Build the image even if it is there."""
    tasks: Path | None = None
    """A folder of further tasks to build into it (docs/tasks.md)."""


@dataclass(frozen=True)
class ImageStatusArgs:
    """Say what is built and where it lies."""

    tasks: Path | None = None
    """A folder of further tasks."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ExportImageArgs:
    """Unpack the image's files for the rootless runtime, and print the folder."""

    tasks: Path | None = None
    """A folder of further tasks."""


@dataclass(frozen=True)
class PruneImagesArgs:
    """Remove containers whose process is gone, and images and files of other recipes."""


Args = (
    Annotated[BuildImageArgs, tyro.conf.subcommand("build")]
    | Annotated[ImageStatusArgs, tyro.conf.subcommand("status")]
    | Annotated[ExportImageArgs, tyro.conf.subcommand("export")]
    | Annotated[PruneImagesArgs, tyro.conf.subcommand("prune")]
)


def main(args: BuildImageArgs | ImageStatusArgs | ExportImageArgs | PruneImagesArgs) -> int:
    if not isinstance(args, PruneImagesArgs) and args.tasks is not None:
        os.environ["DEVNULL_TASKS"] = str(args.tasks.resolve())
    match args:
        case BuildImageArgs():
            return _build_image(args.again)
        case ImageStatusArgs():
            return _print_status(args.json)
        case ExportImageArgs():
            print(ensure_rootfs(print_progress))
            return 0
        case PruneImagesArgs():
            return _prune_images()


def _build_image(again: bool) -> int:
    try:
        connect_docker().close()
    except RuntimeUnavailable as error:
        print_progress(f"{error}\nmaking the files of the rootless runtime instead")
        print(ensure_rootfs(print_progress, again=again))
        return 0
    print(ensure_image(print_progress, again=again))
    if again:  # what was exported from the image of the same recipe before is of another one
        remove_tree(rootfs_folder())
    return 0


def _print_status(as_json: bool) -> int:
    try:
        image, daemon = find_image(), "answers"
    except RuntimeUnavailable as error:
        image, daemon = None, str(error)
    rootfs = find_rootfs()
    table = {
        "tag": image_tag(),
        "image": image,
        "docker": daemon,
        "rootfs": str(rootfs) if rootfs else None,
        "built": image is not None or rootfs is not None,
    }
    if as_json:
        print(json.dumps(table, indent=2))
    else:
        print(f"recipe  {table['tag']}\nimage   {image or 'not built'}\ndocker  {daemon}")
        print(f"files   {table['rootfs'] or 'not unpacked'}")
        if not table["built"]:
            print_error("nothing is built yet; run `devnull image build`")
    return 0 if table["built"] else 1


def _prune_images() -> int:
    current = {rootfs_folder(), supervisor_folder()}
    try:
        client = connect_docker(DOCKER_SECONDS)
    except RuntimeUnavailable as error:
        print_progress(f"{error}; containers and images are left alone")
        current.update(cache_folder().glob("manifest-*"))
    else:
        prune_containers(print_progress)
        for image in client.images.list(filters={"label": IMAGE_LABEL}):
            if image.tags and image_tag() not in image.tags:
                for tag in image.tags:
                    client.images.remove(tag, force=True)
                    print_progress(f"removed image {tag}")
        if kept := find_image():
            current.add(manifest_file(kept))
    for path in (path for kind in ("rootfs-*", "manifest-*", "supervisor-*") for path in cache_folder().glob(kind)):
        if path in current:
            continue
        if path.is_dir() and shutil.rmtree.avoids_symlink_attacks:
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
        print_progress(f"removed {path}")
    return 0
