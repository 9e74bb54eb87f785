"""Write a run in another tool's format: Inspect AI logs, one an arm, or a Hugging Face datasets folder."""

import importlib.util
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from devnull.agents.episode import Episode
from devnull.cli.runs.folder import read_episodes, write_text
from devnull.cli.runs.looking import eyes_of
from devnull.cli.runs.reporting import facts_of
from devnull.eval.formats.hf_dataset import card, row
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError

Judged = list[tuple[Episode, Score | None]]


@dataclass(frozen=True)
class Args:
    run: tyro.conf.Positional[Path]
    """Run folder."""
    to: Literal["inspect", "hf"]
    """`inspect`: logs that `inspect view` opens; `hf`: a folder that `datasets.load_dataset` opens, with a card."""
    out: Path | None = None
    """Folder to write to; by default `<run>/inspect` or `<run>/hf`."""
    evaluator: Path | None = None
    """TOML file of the evaluator whose beliefs go with it; by default the run's own that sees the terminal."""


def main(args: Args) -> int:
    eyes = eyes_of(args.run, args.evaluator)
    episodes = [(episode, eyes.score(episode)) for episode in read_episodes(args.run)]
    if not episodes:
        raise InputError(f"{args.run}: no finished episode yet; nothing to export")
    out = args.out or args.run / args.to
    out.mkdir(parents=True, exist_ok=True)
    facts = dict(facts_of(args.run))
    count = _to_inspect(episodes, out, facts) if args.to == "inspect" else _to_hf(episodes, out, facts, args.run.name)
    print(f"{out}: {len(episodes)} episodes in {count} file{'s' * (count != 1)}")
    return 0


def _to_inspect(episodes: Judged, out: Path, facts: dict[str, str]) -> int:
    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError("--to inspect wants the package inspect-ai; pip install 'devnull[inspect]'")
    from devnull.eval.formats.inspect_logs import write_log

    arms: dict[str, Judged] = {}
    for episode, score in episodes:
        arms.setdefault(episode.arm, []).append((episode, score))
    created = facts.get("started", "1970-01-01T00:00:00Z").replace("Z", "+00:00")
    for number, (arm, judged) in enumerate(arms.items(), 1):
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in arm)[:80].lstrip(".")
        write_log(out / f"{number:02}-{safe}.eval", arm, judged, facts, created)
    return len(arms)


def _to_hf(episodes: Judged, out: Path, facts: dict[str, str], name: str) -> int:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    (out / "data").mkdir(exist_ok=True)
    table = Dataset.from_list([row(episode, score) for episode, score in episodes])
    table.to_parquet(str(out / "data" / "episodes.parquet"))
    counts = Counter(episode.arm for episode, _ in episodes)
    write_text(out / "README.md", card(name, counts, facts))
    return 1
