"""When each moment of a replay is shown: in the original timing, with time to read."""

from collections.abc import Sequence
from dataclasses import dataclass

from devnull.eval.display.timeline import Frame

_CHARACTERS_PER_SECOND = 40.0
"""How fast new text is read: twice as fast as prose, for much of a log is skimmed."""
_LEAST_PAUSE, _MOST_PAUSE = 1.0, 6.0
"""Seconds between two turns, however little or much there was to read."""
_LONGEST_WAIT = 4.0
"""Seconds that nothing happens at most: a download of a minute, or a model that thinks, is cut to this."""


@dataclass(frozen=True)
class ReplayStep:
    """One moment of a replay."""

    seconds: float
    """Since the replay began."""
    frames: tuple[int, ...]
    """Index of the latest frame of each episode."""


def schedule_steps(tracks: Sequence[Sequence[Frame]], speed: float) -> list[ReplayStep]:
    """Every moment of one episode, or of two side by side, whose turns of one number begin together.

    Within a turn the timing is the original. Before the next turn there is time to read the last one.

    Args:
        tracks: Frames of each episode, at least one.
        speed: Above 0; 2 is twice as fast.
    """
    shown = [0] * len(tracks)
    steps = [ReplayStep(0.0, tuple(shown))]
    clock, unread = 0.0, sum(_length(track[0]) for track in tracks)
    for turn in sorted({frame.turn for track in tracks for frame in track}):
        moves = sorted(_moves(tracks, turn))
        if not moves:
            continue
        thought = max(_gap_before(track, turn) for track in tracks)
        reading = min(_MOST_PAUSE, max(_LEAST_PAUSE, unread / _CHARACTERS_PER_SECOND))
        clock += max(reading, min(thought, _LONGEST_WAIT)) / speed
        last, unread = 0.0, 0
        for offset, place, index in moves:
            clock += min(offset - last, _LONGEST_WAIT) / speed
            last, shown[place] = offset, index
            unread += _length(tracks[place][index])
            steps.append(ReplayStep(clock, tuple(shown)))
    return steps


def _moves(tracks: Sequence[Sequence[Frame]], turn: int) -> list[tuple[float, int, int]]:
    """(seconds since the turn began, place of the episode, index of the frame) of a turn; the first frame of an episode
    is there from the start."""
    moves = []
    for place, track in enumerate(tracks):
        own = [(index, frame) for index, frame in enumerate(track) if index and frame.turn == turn]
        moves += [(frame.seconds - own[0][1].seconds, place, index) for index, frame in own]
    return moves


def _gap_before(track: Sequence[Frame], turn: int) -> float:
    """Seconds between the first frame of a turn and the frame before it."""
    first = next((index for index, frame in enumerate(track) if index and frame.turn == turn), 0)
    return track[first].seconds - track[first - 1].seconds if first else 0.0


def _length(frame: Frame) -> int:
    return sum(len(span.text) for span in frame.truth)
