"""Episodes kept beside the ledger: compressed, and named by the digest of what they hold."""

import hashlib
import lzma
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from devnull.agents.episode import Episode, Usage
from devnull.cli.runs.run_folder import sort_episodes
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError

_NAME_LENGTH = 32
_NAME = re.compile(rf"[0-9a-f]{{{_NAME_LENGTH}}}")


def archive_path(ledger: Path, name: str) -> Path:
    """Where an archive lies that a ledger names."""
    return ledger.parent / "episodes" / f"{name}.jsonl.xz"


def store_episodes(ledger: Path, episodes: Iterable[Episode]) -> str:
    """Keeps episodes, without the seconds that they took, and returns the name of their archive."""
    text = _archive_text(episodes)
    _keep(ledger, text)
    return _name(text)


def restore_archive(ledger: Path, name: str, episodes: Iterable[Episode]) -> bool:
    """Makes an archive again that is missing or damaged; False: these are not its episodes, and nothing is written."""
    text = _archive_text(episodes)
    if _name(text) != name:
        return False
    _keep(ledger, text)
    return True


def archive_problem(ledger: Path, name: str) -> str:
    """What is wrong with an archive's file; empty: nothing."""
    try:
        _read_text(ledger, name)
    except InputError as error:
        return str(error)
    return ""


def _archive_text(episodes: Iterable[Episode]) -> bytes:
    ordered = sort_episodes(episode.model_copy(update={"cost": Usage()}) for episode in episodes)
    return "".join(episode.model_dump_json(exclude_defaults=True) + "\n" for episode in ordered).encode()


def _name(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:_NAME_LENGTH]


def _keep(ledger: Path, text: bytes) -> None:
    """Writes the archive of that text, unless it is there and whole."""
    name = _name(text)
    if archive_problem(ledger, name):
        write_atomically(archive_path(ledger, name), lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def _read_text(ledger: Path, name: str) -> bytes:
    """What an archive holds. Raises `InputError` where it is not there, or holds something else."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{ledger}: {name!r} is no name of an archive; restore the file: git checkout {ledger}")
    path = archive_path(ledger, name)
    remedy = f"git checkout {path} restores it, or `devnull claims run` where its jobs still lie in --out"
    try:
        text = lzma.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except lzma.LZMAError as error:
        raise InputError(f"{path}: not valid as xz: {error}; {remedy}") from None
    if _name(text) != name:
        raise InputError(f"{path}: these are not the episodes that were stored; {remedy}")
    return text


def read_archive(ledger: Path, name: str) -> Iterator[Episode]:
    """The episodes of an archive. Raises `InputError` where it is not there, or holds other ones than were stored."""
    path = archive_path(ledger, name)
    for number, line in enumerate(_read_text(ledger, name).splitlines(), 1):
        try:
            yield Episode.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{path}:{number}: not valid as an episode: {error.errors()[0]['msg']}") from None
