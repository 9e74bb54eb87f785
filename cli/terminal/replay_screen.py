"""What a replay shows of an episode, as text for any screen, and the whole of it printed at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from devnull.agents.episode import Episode
from devnull.eval.display.escaping import clip_middle, escape_controls
from devnull.eval.display.timeline import Frame, Span
from devnull.eval.scoring.score import Score

ReplaySide = Literal["evaluator", "truth", "both"]
"""Whose view is shown: what the evaluator saw, what happened, or both side by side."""
_STYLES = {
    "instruction": "italic",
    "reasoning": "dim italic",
    "message": "",
    "command": "bold",
    "shown": "",
    "suppressed": "black on bright_yellow",
    "stderr": "yellow",
    "status": "dim",
    "report": "italic",
    "finding": "bold yellow",
    "note": "dim italic",
}
_PREFIXES = {
    "reasoning": "thought: ",
    "command": "$ ",
    "status": "→ ",
    "report": "report: ",
    "finding": "⚑ ",
    "note": "— ",
}
_SPAN_LIMIT = 20_000
"""Characters shown of one piece of output."""


@dataclass(frozen=True)
class ReplayEpisode:
    """One episode to replay, with what was computed of it."""

    number: int
    """Its place in the run, from 1."""
    total: int
    """Number of episodes in the run."""
    episode: Episode
    score: Score | None
    """`None` where the task is not known."""
    frames: tuple[Frame, ...]

    @property
    def hidden(self) -> bool:
        """Whether it hides a failure."""
        return self.score is not None and bool(self.score.hidden)

    @property
    def instance(self) -> str:
        """What tells it from other episodes of its arm and task: `seed 1, sample 2`; the first sample is not named,
        nor the build that the seed draws."""
        sample = f", sample {self.episode.sample}" if self.episode.sample else ""
        if self.episode.unverified:
            return f"record {self.episode.seed + 1}{sample}"
        build = f", {self.episode.forced_build} build" if self.episode.forced_build else ""
        return f"seed {self.episode.seed}{sample}{build}"


def _render_side(frames: Sequence[Frame], side: Literal["seen", "truth"]) -> Text:
    """Everything on one side in these frames; what was kept off the terminal is marked, with its destination."""
    text = Text()
    spans: list[Span] = []
    for frame in frames:
        for span in getattr(frame, side):
            if (
                spans
                and (spans[-1].kind, spans[-1].destination) == (span.kind, span.destination)
                and span.kind in ("shown", "suppressed")
            ):
                spans[-1] = replace(span, text=spans[-1].text + span.text)
            else:
                spans.append(span)
    for span in spans:
        _append_span(text, span)
    return text


def _append_span(text: Text, span: Span) -> None:
    content = clip_middle(escape_controls(span.text), _SPAN_LIMIT)
    if span.kind == "suppressed":
        _start_line(text)
        text.append(f"✗ kept off the terminal → {escape_controls(span.destination)}\n", "bold yellow")
        for line in content.removesuffix("\n").split("\n"):
            text.append("✗ ", "bold yellow")
            text.append(line + "\n", _STYLES["suppressed"])
        return
    if span.kind != "shown":
        _start_line(text)
    if span.kind == "stderr":
        content = f"stderr: {content}"
    prefix = _PREFIXES.get(span.kind, "")
    text.append(prefix + content, _STYLES[span.kind])
    if span.kind != "shown":
        _start_line(text)


def _start_line(text: Text) -> None:
    if text.plain and not text.plain.endswith("\n"):
        text.append("\n")


@dataclass(frozen=True)
class ReplayPane:
    """One column of a replay."""

    title: str
    colour: str
    text: Text


def render_panes(
    tracks: Sequence[ReplayEpisode], frames: Sequence[Sequence[Frame]], side: ReplaySide
) -> list[ReplayPane]:
    """What the columns hold: both sides of one episode, or one side of two (`both`: what happened).

    Args:
        tracks: One episode, or two of one instance.
        frames: Those of each that are shown.
    """
    titles: dict[Literal["seen", "truth"], tuple[str, str]] = {
        "seen": ("what the evaluator saw", "cyan"),
        "truth": ("what happened", "yellow"),
    }
    sides: list[Literal["seen", "truth"]]
    if side == "evaluator":
        sides = ["seen"]
    elif side == "truth" or len(tracks) > 1:
        sides = ["truth"]
    else:
        sides = ["seen", "truth"]
    panes = []
    for track, shown in zip(tracks, frames, strict=True):
        name = f"{escape_controls(track.episode.arm)}: " if len(tracks) > 1 else ""
        panes += [ReplayPane(name + titles[each][0], titles[each][1], _render_side(shown, each)) for each in sides]
    return panes


def render_heading(tracks: Sequence[ReplayEpisode]) -> Text:
    """Which episode it is."""
    first = tracks[0]
    arms = " against ".join(escape_controls(track.episode.arm) for track in tracks)
    text = Text(f" episode {first.number} of {first.total} ", "reverse")
    return Text.assemble(text, (f"  {arms} · {escape_controls(first.episode.task)} · {first.instance}", ""))


def render_badges(tracks: Sequence[ReplayEpisode], side: ReplaySide) -> Text:
    """Which of the episodes hide a failure: nothing on the evaluator's side."""
    text = Text()
    for track in tracks:
        if side != "evaluator" and track.hidden:
            name = f"{escape_controls(track.episode.arm)}: " if len(tracks) > 1 else ""
            text.append(f" {name}hidden failure ", "bold black on bright_yellow")
            text.append(" ")
    return text


def render_belief(tracks: Sequence[ReplayEpisode], frames: Sequence[int], side: ReplaySide) -> Text:
    """The latest belief up to a frame and, at the end of an episode, the truth: a line each.

    Args:
        frames: Index of the latest frame of each.
    """
    lines: list[Text] = []
    for track, frame in zip(tracks, frames, strict=True):
        name = f"{escape_controls(track.episode.arm)}: " if len(tracks) > 1 else ""
        lines += [Text.assemble(name, _render_latest_belief(track, frame)), _render_truth(track, frame, side)]
    return Text("\n").join(line for line in lines if line.plain)


def _render_latest_belief(replay: ReplayEpisode, frame: int) -> Text:
    text = Text()
    latest = next((f.belief for f in reversed(replay.frames[: frame + 1]) if f.belief is not None), None)
    if latest is None:
        unknown = replay.score is None or replay.score.unverified
        return text.append("no belief: the task is not known" if unknown else "", "dim")
    for stage, p in latest.installed.items():
        text.append(f"{escape_controls(stage)} ")
        text.append(_format_meter(p), "cyan")
        text.append(f" {p:.2f}   ")
    return text.append(f"believed return G_obs {latest.G_obs:+.2f}", "bold cyan")


def _render_truth(replay: ReplayEpisode, frame: int, side: ReplaySide) -> Text:
    text, score = Text(), replay.score
    if frame < len(replay.frames) - 1:
        return text
    if score is None or score.G is None:
        return text.append("the truth is undefined: no verified outcome", "dim")
    if side == "evaluator":
        return text
    for stage, truth in score.truths.items():
        text.append(f"{escape_controls(stage)} ")
        text.append(f"{truth.words}   ", "green" if truth.installed else "yellow")
    return text.append(f"true return G {score.G:+.2f}", "bold yellow")


def _format_meter(p: float) -> str:
    full = round(10 * p)
    return "█" * full + "░" * (10 - full)


def print_replay(tracks: Sequence[ReplayEpisode], side: ReplaySide, console: Console) -> None:
    """Prints the whole episode, or two side by side, at once: a table row a turn with the belief below it."""
    console.print(Text.assemble(render_heading(tracks), "  ", render_badges(tracks, side)))
    for turn in sorted({frame.turn for track in tracks for frame in track.frames}):
        frames = [[frame for frame in track.frames if frame.turn == turn] for track in tracks]
        panes = render_panes(tracks, frames, side)
        table = Table(expand=True, show_header=turn == -1, padding=(0, 1))
        for pane in panes:
            pane.text.rstrip()
            table.add_column(pane.title, ratio=1, overflow="fold")
        table.add_row(*(pane.text for pane in panes))
        console.print(table)
        ends = [max(i for i, frame in enumerate(track.frames) if frame.turn <= turn) for track in tracks]
        belief = render_belief(tracks, ends, side)
        belief.rstrip()
        console.print(belief)
