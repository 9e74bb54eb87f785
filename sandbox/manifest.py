"""What the image's makers recorded of it, kept on the host, where no agent reaches it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

Digests = Mapping[str, str]
"""Absolute path to the SHA-256 of the file, or `-> TARGET` of a link."""


@dataclass(frozen=True, eq=False)
class Manifest:
    shipped: Mapping[str, Mapping[str, Digests]]
    """Task, stage: the files that a sound installation leaves."""
    laid: Mapping[str, Digests]
    """`TASK.BUILD`: files of the image that this build replaces on purpose."""
    tools: Digests
    """The image's own programs and libraries, as far as a verifier relies on them."""
    folders: tuple[str, ...]
    """Where those lie."""

    @classmethod
    def parse(cls, text: str | bytes) -> "Manifest":
        table = json.loads(text)
        return cls(table["shipped"], table["laid"], table["tools"], tuple(table["folders"]))


EMPTY = Manifest({}, {}, {}, ())
