"""The digests by which a verifier knows the files of one root file system, kept on the host, where no agent reaches."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

Digests = Mapping[str, str]
"""Absolute path to the SHA-256 of the file, or `-> TARGET` of a link."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """What a box holds when it begins, by what a verifier needs it for. Read from a box (`acceptance.py`)."""

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
        """From `to_json`."""
        table = json.loads(text)
        return cls(table["shipped"], table["replaced"], table["tools"], tuple(table["folders"]))

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self), indent=0, sort_keys=True)


NO_MANIFEST = Manifest({}, {}, {}, ())
"""Of boxes that began as no task image: it knows no task, so nothing in them is compared."""
