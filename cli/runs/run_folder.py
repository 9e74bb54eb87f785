"""Run folders: what a run leaves on disk, and how a killed one goes on.

`run.json` holds the resolved config with its digest, seed, versions, git revision and wall time per stage;
`episodes.jsonl` one episode a line, appended and flushed as it finishes. A torn last line is owed again.
"""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devnull import __version__
from devnull.agents.episode import Episode
from devnull.cli.renamed_keys import ADDED_KEYS, rename_keys
from devnull.cli.runs.folder_lock import lock_folder
from devnull.cli.runs.json_lines import append_line, cut_torn_line, read_lines
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtimes.world_memory import WORLD_FILE

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "docker", "numpy", "scipy", "pydantic")


class RunFolder:
    """One run's folder, opened for writing. Made by `open_run`."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header
        """What `run.json` holds."""

    @property
    def episodes_path(self) -> Path:
        """The file of all episodes, one a line."""
        return self.path / "episodes.jsonl"

    def episodes(self, arm: str | None = None) -> list[Episode]:
        """Every finished episode, of one arm or of all, in an order that does not depend on which ended first."""
        if not self.episodes_path.exists():
            return []
        return sort_episodes(episode for episode in read_episodes(self.path) if arm is None or episode.arm == arm)

    def append(self, episode: Episode) -> None:
        """Adds one finished episode, flushed before this returns."""
        append_line(self.episodes_path, episode)

    def preferences_path(self, evaluator: str) -> Path:
        """The file of one evaluator's comparisons."""
        return self.path / f"preferences-{evaluator}.jsonl"

    def write_preferences(self, evaluator: str, preferences: Iterable[Preference]) -> Path:
        """Writes all comparisons of one evaluator, replacing older ones, and returns their file."""
        path = self.preferences_path(evaluator)
        write_atomically(path, "".join(preference.model_dump_json() + "\n" for preference in preferences))
        return path

    def checkpoint(self, name: str) -> Path:
        """The folder of a policy; its parent is made, it is not."""
        path = self.path / "checkpoints" / name
        path.parent.mkdir(exist_ok=True)
        return path

    def write_json(self, name: str, value: Any) -> Path:
        """Writes or replaces a file of the folder. Raises `ValueError` for NaN and infinity."""
        path = self.path / name
        write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
        return path

    def note(self, name: str, value: str) -> None:
        """Keeps a fact of this sitting in `run.json`, which no resuming depends on."""
        self.header[name] = value
        self.write_json("run.json", self.header)

    @contextmanager
    def stage(self, name: str, report: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Adds the wall time of the block to `wall_seconds` of `run.json`, where earlier sittings of it are counted.

        Args:
            report: Is called with a line when the block begins and when it ends.
        """
        begin = time.monotonic()
        report(f"{name} ...")
        try:
            yield
        finally:
            spent = time.monotonic() - begin
            seconds = self.header["wall_seconds"]
            seconds[name] = round(seconds.get(name, 0.0) + spent, 3)
            seconds["total"] = round(sum(value for key, value in seconds.items() if key != "total"), 3)
            self.write_json("run.json", self.header)
        report(f"{name}: {spent:.1f} s")


def open_run(path: Path, command: str, config: dict[str, Any], seed: int) -> RunFolder:
    """Makes the folder, or goes on in it if it holds a run of the same command and config.

    Args:
        config: What the results follow from; values that are not JSON are kept as their `str`.

    A run that was begun and left nothing but its `run.json` binds nobody: it is begun anew. Raises `InputError` where
    the folder holds something else, naming the keys of the config that differ, or where another process writes to it.
    """
    config = json.loads(json.dumps(config, default=str))
    header = {
        "command": command,
        "config": config,
        "config_digest": _config_digest(config),
        "seed": seed,
        "devnull": __version__,
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "versions": {name: _package_version(name) for name in _PACKAGES},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_seconds": {},
    }
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, not a run folder; pass another --out")
    path.mkdir(parents=True, exist_ok=True)
    begun, binding = (path / "run.json").exists(), any(_results(path))
    if binding and not begun:
        raise InputError(f"{path} is not empty and holds no run.json; pass --out with a new folder")
    lock_folder(path)
    if begun:
        try:
            existing = read_header(path)
            _check_same_run(path, existing, command, config)
            header = existing
        except InputError:
            if binding:
                raise
    run = RunFolder(path, header)
    run.write_json("run.json", header)
    cut_torn_line(run.episodes_path)
    return run


def _results(path: Path) -> Iterator[Path]:
    """Files of a run folder that bind it: all but its header, its locks, torn lines of episodes, and a world's memory,
    which serves any run."""
    for file in path.rglob("*"):
        ours = file in (path / "run.json", path / WORLD_FILE) or file.name.startswith((".lock", ".part-"))
        torn = file == path / "episodes.jsonl" and b"\n" not in file.read_bytes()
        if not (file.is_dir() or ours or torn):
            yield file


def _check_same_run(path: Path, header: dict[str, Any], command: str, config: dict[str, Any]) -> None:
    """Raises `InputError` unless the run of this `run.json` can go on with that command and config."""
    config, there = {**ADDED_KEYS, **config}, {**ADDED_KEYS, **rename_keys(header["config"])}
    different = sorted(key for key in config.keys() | there.keys() if config.get(key) != there.get(key))
    if header["command"] == command and not different:
        return
    values = ", ".join(f"{key}={there.get(key)!r} there, {config.get(key)!r} here" for key in different)
    raise InputError(
        f"{path} holds a run of `devnull {header['command']}`"
        + (f" with another config ({values})" if different else "")
        + "; pass --out with a new folder, or delete this one"
    )


def read_header(path: Path) -> dict[str, Any]:
    """`run.json` of a run folder: command, config, seed, versions, `wall_seconds` by stage.

    Raises `InputError` where there is none, or it cannot be read.
    """
    if not path.exists():
        others = sorted(str(file.parent) for file in Path("runs").glob("*/run.json"))
        raise InputError(f"{path}: no such run folder" + (f"; there are {', '.join(others)}" if others else ""))
    try:
        header: dict[str, Any] = json.loads((path / "run.json").read_text())
        for key in ("command", "config", "wall_seconds"):
            header[key]
    except FileNotFoundError:
        raise InputError(f"{path} holds no run.json; it is not a run folder") from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path / 'run.json'}: unreadable ({error!r}); delete the folder and run again") from None
    return header


def read_run_config(path: Path) -> dict[str, Any]:
    """The config in `run.json`, under today's names; empty for a folder that holds nothing but episodes."""
    return rename_keys(read_header(path)["config"]) if (path / "run.json").exists() else {}


def read_episodes(path: Path) -> Iterator[Episode]:
    """Episodes of a run folder in the order they finished, without holding them all.

    What two processes played twice counts once: of the finished episodes of one key the first, and each attempt that an
    infrastructure failure ended. Raises `InputError` where there is no such folder, or no episode in it.
    """
    file = path / "episodes.jsonl"
    if not file.exists():
        read_header(path)
        raise InputError(f"{file}: no such file; the run has no finished episode yet")
    return _without_repeats(read_lines(file, Episode))


def _without_repeats(episodes: Iterable[Episode]) -> Iterator[Episode]:
    seen = set()
    for episode in episodes:
        identity = episode.identity
        if identity not in seen:
            seen.add(identity)
            yield episode


def sort_episodes(episodes: Iterable[Episode]) -> list[Episode]:
    """Sorted by arm, task, seed, sample and attempt: what is learnt from them then follows from the seed, and not from
    which ended first on this machine."""
    return sorted(episodes, key=lambda episode: (episode.key, episode.attempt))


def _config_digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _package_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """Of the checkout that this package lies in; `None`: it lies in none."""
    root = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
