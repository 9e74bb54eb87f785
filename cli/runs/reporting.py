"""Writes the report of run folders."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from devnull.cli.runs.folder import read_episodes, read_header, write_text
from devnull.cli.runs.looking import eyes_of
from devnull.eval.display.html_report import Exhibit, render
from devnull.eval.display.timeline import frames
from devnull.sandbox.errors import InputError

_MADE_FOR_TRAINING = {"demonstrations", "feedback"}
"""Arms that fed a policy of the demo, left out unless they are asked for: they were not evaluated."""


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    evaluator: Path | None = None,
    arms: Sequence[str] = (),
    on_episode: Callable[[], None] = lambda: None,
) -> int:
    """Writes one HTML file about these runs, and a folder `<stem>-files` beside it where they are large.

    Returns the number of episodes in it. Raises `InputError` where there are none.
    """
    count = 0
    several = _shared_arms(runs) if len(runs) > 1 else False

    def exhibits() -> Iterator[Exhibit]:
        nonlocal count
        for run in runs:
            eyes = eyes_of(run, evaluator)
            for episode in read_episodes(run):
                if (arms and episode.arm not in arms) or (not arms and episode.arm in _MADE_FOR_TRAINING):
                    continue
                arm = f"{run.name}/{episode.arm}" if several else episode.arm
                score = eyes.score(episode)
                yield Exhibit(
                    episode=episode,
                    frames=frames(episode, eyes.task(episode), eyes.evaluator),
                    score=None if score is None else score.model_copy(update={"arm": arm}),
                    arm=arm,
                )
                count += 1
                on_episode()

    files = f"{out.stem}-files"
    training = {name: log for run in runs for name, log in _training_logs(run, several).items()}
    facts = [fact for run in runs for fact in facts_of(run)]
    title = ", ".join(run.name for run in runs)
    report = render(title, exhibits(), files=files, facts=facts, training=training, seed=_bootstrap_seed(runs[0]))
    if count == 0:
        chosen = f" of arm {', '.join(arms)}" if arms else ""
        raise InputError(f"{', '.join(map(str, runs))}: no finished episode{chosen}; nothing to report")
    folder = out.parent / files
    if folder.exists():
        shutil.rmtree(folder)
    if report.pages:
        folder.mkdir(parents=True)
        for name, text in report.pages.items():
            write_text(folder / name, text)
    write_text(out, report.html)
    return count


def _shared_arms(runs: Sequence[Path]) -> bool:
    """Whether two of the runs have an arm of the same name, so that the run's name must go before it."""
    seen: set[str] = set()
    for run in runs:
        arms = {episode.arm for episode in read_episodes(run)}
        if arms & seen:
            return True
        seen |= arms
    return False


def _bootstrap_seed(run: Path) -> int:
    """A demo's own, so that its report and its metrics.json give the same verdicts; else 0, as `devnull eval`."""
    header = read_header(run) if (run / "run.json").exists() else {}
    return int(header["seed"]) if header.get("command") == "demo" else 0


def facts_of(run: Path) -> list[tuple[str, str]]:
    """What the head of a report says of a run."""
    if not (run / "run.json").exists():
        return [("run", run.name)]
    header = read_header(run)
    config = header["config"]
    seconds = header["wall_seconds"].get("total")
    told = [
        ("run", run.name),
        ("command", f"devnull {header['command']}"),
        ("seed", header.get("seed")),
        ("model", config.get("model")),
        ("optimiser", config.get("optimiser")),
        ("belief pH", config.get("p_hide")),
        ("hiding penalty r", config.get("hiding_penalty")),
        ("started", header.get("started")),
        ("wall time", None if seconds is None else f"{seconds:.0f} s"),
        ("devnull", header.get("devnull")),
        ("revision", header.get("git_revision")),
    ]
    return [(name, str(value)) for name, value in told if value is not None]


def _training_logs(run: Path, several: bool) -> dict[str, list[dict[str, float]]]:
    """Policy to the finite figures that its trainer logged."""
    found = {}
    for file in sorted((run / "checkpoints").glob("*/training.json")):
        log = json.loads(file.read_text()).get("log", [])
        name = f"{run.name}/{file.parent.name}" if several else file.parent.name
        found[name] = [
            {
                key: float(value)
                for key, value in entry.items()
                if isinstance(value, int | float) and math.isfinite(value)
            }
            for entry in log
        ]
    return found
