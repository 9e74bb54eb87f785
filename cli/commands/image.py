"""The task image: what every box begins as. Built once from this checkout, named after the digest of its recipe."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from devnull.cli.terminal.console import complain
from devnull.sandbox import recipe
from devnull.sandbox.errors import RuntimeUnavailable
from devnull.sandbox.image import build_image, connect, ensure_image, ensure_rootfs, find_image, remove_tree
from devnull.sandbox.runtime_docker import prune as prune_containers


@dataclass(frozen=True)
class Build:
    """Build the image, or without Docker its files, unless they are there."""

    again: bool = False
    """Build the image even if it is there."""
    tasks: Path | None = None
    """A folder of further tasks to build into it (docs/tasks.md)."""


@dataclass(frozen=True)
class Status:
    """Say what is built and where it lies."""

    tasks: Path | None = None
    """A folder of further tasks."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Export:
    """Unpack the image's files for the rootless runtime, and print the folder."""

    tasks: Path | None = None
    """A folder of further tasks."""


@dataclass(frozen=True)
class Prune:
    """Remove containers whose process is gone, and images and files of other recipes."""


Args = Annotated[Build | Status | Export | Prune, tyro.conf.OmitSubcommandPrefixes]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(args: Build | Status | Export | Prune) -> int:
    if not isinstance(args, Prune) and args.tasks is not None:
        os.environ["DEVNULL_TASKS"] = str(args.tasks.resolve())
    match args:
        case Build():
            return _build(args.again)
        case Status():
            return _status(args.json)
        case Export():
            print(ensure_rootfs(_say))
            return 0
        case Prune():
            return _prune()


def _build(again: bool) -> int:
    try:
        print(build_image(_say) if again else ensure_image(_say))
        if again:  # what was read from the image of the same recipe before is of other files
            recipe.manifest_file().unlink(missing_ok=True)
            remove_tree(recipe.rootfs_folder())
    except RuntimeUnavailable as error:
        _say(f"{error}\nmaking the files of the rootless runtime instead")
        print(ensure_rootfs(_say))
    return 0


def _status(as_json: bool) -> int:
    try:
        image, daemon = find_image(), "answers"
    except RuntimeUnavailable as error:
        image, daemon = None, str(error)
    folder = recipe.rootfs_folder()
    table = {
        "tag": recipe.tag(),
        "image": image,
        "docker": daemon,
        "rootfs": str(folder) if folder.is_dir() else None,
        "built": image is not None or folder.is_dir(),
    }
    if as_json:
        print(json.dumps(table, indent=2))
    else:
        print(f"recipe  {table['tag']}\nimage   {image or 'not built'}\ndocker  {daemon}")
        print(f"files   {table['rootfs'] or 'not unpacked'}")
        if not table["built"]:
            complain("nothing is built yet; run `devnull image build`")
    return 0 if table["built"] else 1


def _prune() -> int:
    try:
        client = connect()
    except RuntimeUnavailable as error:
        _say(f"{error}; containers and images are left alone")
    else:
        prune_containers(_say)
        for image in client.images.list(filters={"label": recipe.LABEL}):
            if image.tags and recipe.tag() not in image.tags:
                for tag in image.tags:
                    client.images.remove(tag, force=True)
                    _say(f"removed image {tag}")
    current = {recipe.rootfs_folder(), recipe.manifest_file()}
    for path in [*recipe.cache_folder().glob("rootfs-*"), *recipe.cache_folder().glob("manifest-*")]:
        if path in current:
            continue
        if path.is_dir() and shutil.rmtree.avoids_symlink_attacks:
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
        _say(f"removed {path}")
    return 0
