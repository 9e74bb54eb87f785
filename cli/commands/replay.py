"""Watch an episode in the original timing: what the evaluator saw beside what happened.

What was kept off the terminal is marked, and where it went; the belief and the believed return follow each
turn. `?` lists the keys. Where the output is not a terminal, the episode is printed at once.
"""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_scores import RunScorer, check_arms, open_scorer
from devnull.cli.terminal.asciicast import asciicast_lines
from devnull.cli.terminal.replay_screen import ReplayEpisode, print_replay
from devnull.eval.display.timeline import build_timeline
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError


@dataclass(frozen=True)
class Args:
    run: tyro.conf.Positional[Path]
    """Run folder."""
    episode: int | None = None
    """Which episode to begin with: its number in the run, from 1 in the order they finished; by default the first."""
    side: Annotated[Literal["evaluator", "truth", "both"], tyro.conf.arg(name="as")] = "both"
    """Whose view."""
    against: str | None = None
    """Another arm, whose episode of the same instance is shown beside each: what happened in both, or with
    `--as evaluator` what the evaluator saw of both."""
    speed: float = 1.0
    """2 plays twice as fast; at 1 there is time to read each turn."""
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
    episodes = list(read_episodes(args.run))
    pairs = _choose_episodes(args, episodes)
    start = _first_place(args, pairs, len(episodes))
    scorer = open_scorer(args.run, EvaluatorChoice(args.evaluator))

    def load(place: int) -> tuple[ReplayEpisode, ...]:
        return tuple(_load_episode(index, episodes, scorer) for index in pairs[place])

    def hides(place: int) -> bool:
        score = scorer.score(episodes[pairs[place][0]])
        return score is not None and bool(score.hidden)

    if args.cast is not None:
        write_atomically(args.cast, "".join(asciicast_lines(load(start), args.side, args.speed)))
    elif _can_play():
        from devnull.cli.terminal.replay_player import ReplayPlayer

        words = [_filter_words(episodes[pair[0]]) for pair in pairs]
        player = ReplayPlayer(load, words, hides, side=args.side, speed=args.speed, start=start)
        player.run()
        return player.return_code or 0
    else:
        print_replay(load(start), args.side, Console(highlight=False))
    return 0


def _choose_episodes(args: Args, episodes: Sequence[Episode]) -> list[tuple[int, ...]]:
    """Indexes of the episodes to play, each with that of the one beside it. Raises `InputError` where there is none."""
    arms = {episode.arm for episode in episodes}
    check_arms(args.run, [each for each in (args.arm, args.against) if each is not None], arms)
    own = [index for index, episode in enumerate(episodes) if args.arm in (None, episode.arm)]
    if args.against is None:
        return [(index,) for index in own]
    beside = {each.key[1:]: index for index, each in enumerate(episodes) if each.arm == args.against}
    pairs: list[tuple[int, ...]] = [
        (index, beside[episodes[index].key[1:]])
        for index in own
        if episodes[index].arm != args.against and episodes[index].key[1:] in beside
    ]
    if not pairs:
        chosen = f"arm {args.arm!r}" if args.arm is not None else "any other arm"
        raise InputError(f"--against {args.against}: it has no instance in common with {chosen}")
    return pairs


def _first_place(args: Args, pairs: Sequence[tuple[int, ...]], total: int) -> int:
    """Of the episode to begin with, among those to play."""
    if args.episode is None and pairs:
        return 0
    for place, pair in enumerate(pairs):
        if pair[0] + 1 == args.episode:
            return place
    if args.episode is not None and 1 <= args.episode <= total:
        chosen = f"of arm {args.arm!r}" if args.arm is not None else f"with an instance that {args.against!r} has"
        raise InputError(f"--episode {args.episode}: it is not one {chosen}")
    raise InputError(f"--episode {args.episode}: {args.run} holds {total} episodes, from 1 on")


def _filter_words(episode: Episode) -> str:
    """What a filter finds an episode by."""
    build = episode.forced_build or ""
    return f"{episode.arm} {episode.agent} {episode.task} {episode.family} seed {episode.seed} {build}".lower()


def _load_episode(index: int, episodes: Sequence[Episode], scorer: RunScorer) -> ReplayEpisode:
    episode = episodes[index]
    return ReplayEpisode(
        number=index + 1,
        total=len(episodes),
        episode=episode,
        score=scorer.score(episode),
        frames=build_timeline(episode, scorer.task(episode), scorer.evaluator),
    )


def _can_play() -> bool:
    """Whether this is a terminal that can show a full screen: in stdin, stdout and stderr, with Unicode."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return all(stream.isatty() for stream in streams) and unicode and os.environ.get("TERM", "dumb") != "dumb"
