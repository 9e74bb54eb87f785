"""The image's own tools, as far as a verifier relies on them: by the manifest, which the host keeps."""

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby
from posixpath import basename, dirname

from devnull.sandbox.manifest import Digests, Manifest

ALIASES = ("/bin", "/sbin", "/lib", "/lib64")
"""Links into /usr that every path of old goes through."""
_NEEDED = re.compile(r"/usr/(s?bin|lib/[a-z0-9_]+-linux-gnu)/[^/]+$|/usr/lib/python3\.11/")
_LIBRARY = re.compile(r"(/usr)?/lib/[a-z0-9_]+-linux-gnu/")


@dataclass(frozen=True, eq=False)
class Tools:
    """The image's own programs and libraries, and what follows from them, worked out once for all boxes."""

    digests: Digests
    genuine: dict[str, bytes] = field(default_factory=dict)
    """By digest, contents of the files that every check is loaded from: comparing takes a tenth of digesting."""

    @cached_property
    def libraries(self) -> dict[str, str]:
        """Name to digest of what lies in the folder of libraries; of a link, of the version beside it."""
        return {basename(path): self.resolve(path) for path in self.digests if usual(path)}

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(basename(path) for path in self.digests if named(path))

    @cached_property
    def folders(self) -> frozenset[str]:
        return frozenset({dirname(path) for path in self.digests} | set(ALIASES))

    @cached_property
    def needed(self) -> dict[str, frozenset[str]]:
        """By folder, tools in whose absence another of the same name is found, further down a search path."""
        needed = sorted((path for path in self.digests if _NEEDED.match(path)), key=dirname)
        return {folder: frozenset(paths) for folder, paths in groupby(needed, dirname)}

    def resolve(self, path: str) -> str:
        digest = self.digests[path]
        beside = f"{dirname(path)}/{digest.removeprefix('-> ')}"
        return self.digests.get(beside, "") if digest.startswith("-> ") else digest


@lru_cache(maxsize=256)
def tools_of(recorded: Manifest, build: str) -> Tools:
    """Of a box of that build (`TASK.BUILD`; empty: one that replaces none of them)."""
    return Tools({**recorded.tools, **recorded.laid.get(build, {})})


def usual(path: str) -> bool:
    """In the folder of the image's own libraries."""
    return _LIBRARY.fullmatch(f"{dirname(path)}/") is not None


def named(path: str) -> bool:
    """Found by its name alone, so that another of that name elsewhere may stand in for it."""
    return usual(path) or dirname(path) == "/usr/bin"
