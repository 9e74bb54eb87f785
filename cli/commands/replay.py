"""Watch an episode in the original timing: what the evaluator saw beside what happened.

What was kept off the terminal is marked, and where it went; the belief and the believed return follow each
turn. Where the output is not a terminal, the episode is printed at once.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_scores import open_scorer
from devnull.cli.terminal.asciicast import asciicast_lines
from devnull.cli.terminal.replay_player import ReplayPlayer
from devnull.cli.terminal.replay_screen import ReplayEpisode, print_episode
from devnull.eval.display.timeline import build_timeline
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError


@dataclass(frozen=True)
class Args:
    run: tyro.conf.Positional[Path]
    """Run folder."""
    episode: int = 1
    """Which episode to begin with, counted from 1 in the order they finished."""
    side: Annotated[Literal["evaluator", "truth", "both"], tyro.conf.arg(name="as")] = "both"
    """Whose view."""
    speed: float = 1.0
    """2 plays twice as fast."""
    cast: Path | None = None
    """Write a recording of the episode (asciicast v2) instead of playing it."""
    arm: str | None = None
    """Only the episodes of this arm."""
    evaluator: Path | None = None
    """The evaluator whose view it is: a TOML file, or the name of one in the package (`shuffled`); by default the
    run's own that sees the terminal."""


def main(args: Args) -> int:
    if not 0 < args.speed < math.inf:
        raise InputError(f"--speed is {args.speed:g}; it must be above 0")
    if args.cast is not None and not args.cast.parent.is_dir():
        raise InputError(f"--cast {args.cast}: there is no folder {args.cast.parent}")
    episodes = [e for e in read_episodes(args.run) if args.arm is None or e.arm == args.arm]
    if not 1 <= args.episode <= len(episodes):
        chosen = f" of arm {args.arm!r}" if args.arm is not None else ""
        raise InputError(f"--episode {args.episode}: {args.run} holds {len(episodes)} episodes{chosen}, from 1 on")
    scorer = open_scorer(args.run, EvaluatorChoice(args.evaluator))

    def load_episode(place: int) -> ReplayEpisode:
        episode = episodes[place]
        return ReplayEpisode(
            number=place + 1,
            total=len(episodes),
            episode=episode,
            score=scorer.score(episode),
            frames=build_timeline(episode, scorer.task(episode), scorer.evaluator),
        )

    if args.cast is not None:
        write_atomically(args.cast, "".join(asciicast_lines(load_episode(args.episode - 1), args.side, args.speed)))
    elif sys.stdin.isatty() and sys.stdout.isatty():
        ReplayPlayer(len(episodes), load_episode, args.side, args.speed, args.episode - 1).play()
    else:
        print_episode(load_episode(args.episode - 1), args.side, Console(highlight=False))
    return 0
