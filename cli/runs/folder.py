"""Run folders: what a run leaves on disk, and how a killed one goes on.

`run.json` holds the resolved config with its digest, seed, versions, git revision and wall time per stage;
`episodes.jsonl` one episode a line, appended and flushed as it finishes. A torn last line is owed again.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from devnull import __version__
from devnull.agents.episode import Episode
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "docker", "numpy", "scipy", "pydantic")

Record = TypeVar("Record", bound=BaseModel)


class Run:
    """One folder under `runs/`, opened for writing. Made by `open_run`."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header

    @property
    def episodes_path(self) -> Path:
        return self.path / "episodes.jsonl"

    def episodes(self, arm: str | None = None) -> list[Episode]:
        """Every finished episode, of one arm or of all, in an order that does not depend on which ended first."""
        if not self.episodes_path.exists():
            return []
        return in_order(episode for episode in read_episodes(self.path) if arm is None or episode.arm == arm)

    def append(self, episode: Episode) -> None:
        append_line(self.episodes_path, episode)

    def preferences_path(self, evaluator: str) -> Path:
        return self.path / f"preferences-{evaluator}.jsonl"

    def write_preferences(self, evaluator: str, preferences: Iterable[Preference]) -> Path:
        """All preferences of one evaluator, written whole."""
        path = self.preferences_path(evaluator)
        write_text(path, "".join(preference.model_dump_json() + "\n" for preference in preferences))
        return path

    def checkpoint(self, name: str) -> Path:
        path = self.path / "checkpoints" / name
        path.parent.mkdir(exist_ok=True)
        return path

    def write_json(self, name: str, value: Any) -> Path:
        path = self.path / name
        write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
        return path

    @contextmanager
    def stage(self, name: str, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Adds the wall time of the block to `run.json`, over all the sittings that the stage took."""
        begin = time.monotonic()
        say(f"{name} ...")
        try:
            yield
        finally:
            spent = time.monotonic() - begin
            seconds = self.header["wall_seconds"]
            seconds[name] = round(seconds.get(name, 0.0) + spent, 3)
            seconds["total"] = round(sum(value for key, value in seconds.items() if key != "total"), 3)
            self.write_json("run.json", self.header)
        say(f"{name}: {spent:.1f} s")


def open_run(path: Path, command: str, config: dict[str, Any], seed: int) -> Run:
    """Makes the folder, or goes on in it if it holds the same config.

    Raises `InputError` where the folder holds a run of another config, naming the keys that differ.
    """
    config = json.loads(json.dumps(config, default=str))
    header = {
        "command": command,
        "config": config,
        "config_digest": _digest(config),
        "seed": seed,
        "devnull": __version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_seconds": {},
    }
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, not a run folder; pass another --out")
    header_path = path / "run.json"
    if header_path.exists():
        found = read_header(path)
        different = sorted(
            key
            for key in config.keys() | found["config"].keys()
            if config.get(key, None) != found["config"].get(key, None)
        )
        if found["command"] != command or different:
            said = ", ".join(f"{key}={found['config'].get(key)!r} there, {config.get(key)!r} here" for key in different)
            raise InputError(
                f"{path} holds a run of `devnull {found['command']}`"
                + (f" with another config ({said})" if different else "")
                + "; pass --out with a new folder, or delete this one"
            )
        header = found
    elif path.exists() and any(path.iterdir()):
        raise InputError(f"{path} is not empty and holds no run.json; pass --out with a new folder")
    path.mkdir(parents=True, exist_ok=True)
    run = Run(path, header)
    run.write_json("run.json", header)
    mend_torn_line(run.episodes_path)
    return run


def read_header(path: Path) -> dict[str, Any]:
    """`run.json` of a run folder. Raises `InputError` with the fix."""
    if not path.exists():
        near = sorted(str(folder.parent) for folder in Path("runs").glob("*/run.json"))
        raise InputError(f"{path}: no such run folder" + (f"; there are {', '.join(near)}" if near else ""))
    try:
        header: dict[str, Any] = json.loads((path / "run.json").read_text())
        for key in ("command", "config", "wall_seconds"):
            header[key]
    except FileNotFoundError:
        raise InputError(f"{path} holds no run.json; it is not a run folder") from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path / 'run.json'}: unreadable ({error!r}); delete the folder and run again") from None
    return header


def read_episodes(path: Path) -> Iterator[Episode]:
    """Episodes of a run folder in the order they finished, without holding them all."""
    file = path / "episodes.jsonl"
    if not file.exists():
        read_header(path)
        raise InputError(f"{file}: no such file; the run has no finished episode yet")
    return read_lines(file, Episode)


def in_order(episodes: Iterable[Episode]) -> list[Episode]:
    """Sorted by what they are: what is learnt from them then follows from the seed, not from the machine."""
    return sorted(episodes, key=lambda episode: (episode.key, episode.attempt))


def read_lines(path: Path, model: type[Record]) -> Iterator[Record]:
    """Values of a JSON-lines file. A torn last line is left out; any other bad line is an `InputError`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                value = model.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise InputError(
                    f"{path}:{number}: not valid as {model.__name__}: {where + ': ' if where else ''}{first['msg']}; "
                    f"delete that line to owe it again"
                ) from None
            yield value


def append_line(path: Path, record: BaseModel) -> None:
    """One line, flushed to the system before this returns."""
    with path.open("ab") as file:
        file.write(record.model_dump_json().encode() + b"\n")


def mend_torn_line(path: Path) -> None:
    """Cuts off a last line that a killed run left unfinished."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - (1 << 20))
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                file.truncate(begin + newline + 1)
                return
            end = begin
        if size:
            file.truncate(0)


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one step: a reader meets the old text or the new, never half."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    root = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
