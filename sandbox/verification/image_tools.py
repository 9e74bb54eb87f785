"""The image's own tools, as far as a verifier relies on them: by the manifest, which the host keeps."""

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import PurePosixPath
from posixpath import basename, dirname

from devnull.sandbox.image.manifest import Digests, Manifest

ROOT_LINKS = ("/bin", "/sbin", "/lib", "/lib64")
"""Links into /usr that every path of old goes through; the last one not on every architecture."""
_NEEDED = re.compile(r"/usr/(s?bin|lib/[a-z0-9_]+-linux-gnu)/[^/]+$|/usr/lib/python3\.11/")
_RUN = re.compile(r"/usr/s?bin/|/usr/lib/apt/|/opt/venv/bin/(?![Aa]ctivate)")
_TOO_LARGE = re.compile(r"lto-dump(-\d+)?$")
"""More bytes than PID 1 hands out at once; no verifier runs it."""
_LIBRARY = re.compile(r"(/usr)?/lib/[a-z0-9_]+-linux-gnu/")


@dataclass(frozen=True, eq=False)
class ImageTools:
    """The image's own programs and libraries, and what follows from them, worked out once for all boxes."""

    digests: Digests
    """By absolute path."""
    listed: tuple[str, ...] = ()
    """Folders, and some files, in which they lie."""
    genuine: dict[str, bytes] = field(default_factory=dict)
    """By digest, contents of the files that every check is loaded from: comparing takes a tenth of digesting."""

    @cached_property
    def libraries(self) -> dict[str, str]:
        """Name to digest of what lies in the folder of libraries; of a link, of the version beside it."""
        return {basename(path): self.resolve(path) for path in self.digests if is_image_library(path)}

    @cached_property
    def names(self) -> frozenset[str]:
        """Of programs and libraries that are looked for by name."""
        return frozenset(basename(path) for path in self.digests if is_found_by_name(path))

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that holds a tool, and the links to them."""
        return frozenset({dirname(path) for path in self.digests} | set(ROOT_LINKS))

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """What certainly lies in a box as it begins, and a listing of it starts from."""
        parents = {above for path in self.digests for above in (path, *map(str, PurePosixPath(path).parents))}
        return tuple(
            path for path in dict.fromkeys([*self.listed, *ROOT_LINKS[:3]]) if path in parents | set(ROOT_LINKS)
        )

    @cached_property
    def needed(self) -> dict[str, frozenset[str]]:
        """By folder, tools in whose absence another of the same name is found, further down a search path."""
        needed = sorted((path for path in self.digests if _NEEDED.match(path)), key=dirname)
        return {folder: frozenset(paths) for folder, paths in groupby(needed, dirname)}

    def resolve(self, path: str) -> str:
        """Digest of the file at `path`; of a link, of the file beside it that it names (empty if there is none)."""
        digest = self.digests[path]
        beside = f"{dirname(path)}/{digest.removeprefix('-> ')}"
        return self.digests.get(beside, "") if digest.startswith("-> ") else digest


@lru_cache(maxsize=256)
def image_tools(manifest: Manifest, build: str) -> ImageTools:
    """The tools of a box of that build (`TASK.BUILD`; empty: one that replaces none of them)."""
    digests = {**manifest.tools, **manifest.replaced.get(build, {})}
    compared = {path: digest for path, digest in digests.items() if not _TOO_LARGE.search(path)}
    return ImageTools(compared, manifest.folders)


def is_image_library(path: str) -> bool:
    """Whether the path is in the folder of the image's own libraries."""
    return _LIBRARY.fullmatch(f"{dirname(path)}/") is not None


def is_program(path: str) -> bool:
    """Whether a tool of the image at this path is one that is run, and so must be executable."""
    return _RUN.match(path) is not None


def is_found_by_name(path: str) -> bool:
    """Whether it is found by its name alone, so that another of that name elsewhere may stand in for it."""
    return is_image_library(path) or dirname(path) == "/usr/bin"
