"""Write a run in another tool's format: Inspect AI logs, a Hugging Face datasets folder, ATIF trajectories."""

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from devnull import __version__
from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_report import run_facts
from devnull.cli.runs.run_scores import open_scorer
from devnull.eval.display.counting import count_noun
from devnull.eval.formats.atif import render_atif
from devnull.eval.formats.hf_dataset import episode_row, render_dataset_card
from devnull.eval.scoring.score import Score
from devnull.sandbox.atomic_file import replace_when_whole, write_atomically
from devnull.sandbox.errors import InputError
from devnull.sandbox.extras import require

_ScoredEpisodes = list[tuple[Episode, Score | None]]


@dataclass(frozen=True)
class Args:
    run: tyro.conf.Positional[Path]
    """Run folder."""
    to: Literal["inspect", "hf", "atif"]
    """`inspect`: logs that `inspect view` opens; `hf`: a folder that `datasets.load_dataset` opens, with a card;
    `atif`: trajectories in Harbor's interchange format, a file an episode."""
    out: Path | None = None
    """Folder to write to; by default `<run>/inspect`, `<run>/hf` or `<run>/atif`."""
    evaluator: Path | None = None
    """The evaluator whose beliefs go with it: a TOML file, or the name of one in the package (`shuffled`); by default
    the run's own that sees the terminal."""


def main(args: Args) -> int:
    scorer = open_scorer(args.run, EvaluatorChoice(args.evaluator))
    episodes = [(episode, scorer.score(episode)) for episode in read_episodes(args.run)]
    if not episodes:
        raise InputError(f"{args.run}: no finished episode yet; nothing to export")
    out = args.out or args.run / args.to
    out.mkdir(parents=True, exist_ok=True)
    name = args.run.resolve().name
    facts = dict(run_facts(args.run, name))
    if args.to == "inspect":
        count = _write_inspect(episodes, out, facts)
    elif args.to == "atif":
        count = _write_atif(episodes, out)
    else:
        count = _write_hf(episodes, out, facts, name)
    print(f"{out}: {count_noun(len(episodes), 'episode')} in {count_noun(count, 'file')}")
    return 0


def _write_inspect(episodes: _ScoredEpisodes, out: Path, facts: dict[str, str]) -> int:
    """Returns the number of files."""
    require("inspect_ai", "inspect", "--to inspect")
    from devnull.eval.formats.inspect_logs import write_inspect_log

    arms: dict[str, _ScoredEpisodes] = {}
    for episode, score in episodes:
        arms.setdefault(episode.arm, []).append((episode, score))
    created = facts.get("started", "1970-01-01T00:00:00Z").replace("Z", "+00:00")
    for number, (arm, scored) in enumerate(arms.items(), 1):
        with replace_when_whole(out / f"{number:02}-{_safe(arm)}.eval") as part:
            write_inspect_log(part, arm, scored, facts, created)
    return len(arms)


def _safe(name: str) -> str:
    """As a part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:80].lstrip(".")


def _write_atif(episodes: _ScoredEpisodes, out: Path) -> int:
    """Returns the number of files."""
    digits = max(4, len(str(len(episodes))))
    for number, (episode, score) in enumerate(episodes, 1):
        name = f"{number:0{digits}}-{_safe(episode.arm)}-{_safe(episode.task)}"[:200]
        write_atomically(out / f"{name}.json", render_atif(episode, score, __version__))
    return len(episodes)


def _write_hf(episodes: _ScoredEpisodes, out: Path, facts: dict[str, str], name: str) -> int:
    """Returns the number of files."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    (out / "data").mkdir(exist_ok=True)
    table = Dataset.from_list([episode_row(episode, score) for episode, score in episodes])
    written = io.BytesIO()  # Arrow's own writer aborts the process when the disk is full
    table.to_parquet(written)
    write_atomically(out / "data" / "episodes.parquet", written.getvalue())
    counts = Counter(episode.arm for episode, _ in episodes)
    write_atomically(out / "README.md", render_dataset_card(name, counts, facts))
    return 1
