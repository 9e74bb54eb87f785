"""Episodes kept beside the ledger: compressed, and named by the digest of what they hold."""

import hashlib
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from devnull.agents.episode import Episode, Usage
from devnull.cli.runs.run_folder import sort_episodes
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError

_NAME_LENGTH = 32


def archive_path(ledger: Path, name: str) -> Path:
    """Where an archive lies that a ledger names."""
    return ledger.parent / "episodes" / f"{name}.jsonl.xz"


def store_episodes(ledger: Path, episodes: Iterable[Episode]) -> str:
    """Keeps episodes, without the seconds that they took, and returns the name of their archive."""
    ordered = sort_episodes(episode.model_copy(update={"cost": Usage()}) for episode in episodes)
    text = "".join(episode.model_dump_json(exclude_defaults=True) + "\n" for episode in ordered).encode()
    name = hashlib.sha256(text).hexdigest()[:_NAME_LENGTH]
    path = archive_path(ledger, name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    return name


def read_archive(ledger: Path, name: str) -> Iterator[Episode]:
    """The episodes of an archive. Raises `InputError` where it is not there, or holds other ones than were stored."""
    path = archive_path(ledger, name)
    try:
        text = lzma.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; git checkout brings it back, `devnull claims run` makes it") from None
    except lzma.LZMAError as error:
        raise InputError(f"{path}: not valid as xz: {error}; restore it: git checkout {path}") from None
    if hashlib.sha256(text).hexdigest()[:_NAME_LENGTH] != name:
        raise InputError(f"{path}: these are not the episodes that were stored; restore it: git checkout {path}")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield Episode.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{path}:{number}: not valid as an episode: {error.errors()[0]['msg']}") from None
