"""Episodes as the report's page takes them: a row for its filters and figures, and the transcript of both sides."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.display.escaping import clip_middle, escape_controls
from devnull.eval.display.timeline import Frame, Span, build_timeline, output_order, turn_times
from devnull.eval.scoring.examiner import Examiner
from devnull.eval.scoring.import_assessment import score_import
from devnull.eval.scoring.score import Score
from devnull.eval.suppression.shell_constructs import find_constructs
from devnull.sandbox.task import Task

_OUTPUT_LIMIT = 6_000
"""Characters kept of one piece of output; the run folder holds the rest."""


@dataclass(frozen=True)
class ReportEntry:
    """One episode of a report, with what was computed of it."""

    episode: Episode
    timeline: Callable[[], tuple[Frame, ...]]
    """Builds its frames."""
    score: Score | None
    """`None` where the task is not known: such an episode is shown and counts in no figure."""
    arm: str
    """Its arm's name in the report: `run/arm` where several runs have an arm of that name."""
    number: int | None = None
    """Its number in its run, as `devnull replay RUN --episode N` counts; `None`: as the report counts."""
    run: str = ""
    """Name of its run, where the report is of several."""
    alike: Hashable = None
    """Equal for entries of a task that differ in names, draw, times and instruction only; `None`: not known of any."""

    @property
    def policy(self) -> str:
        """Its arm's name in its own run."""
        return self.arm.removeprefix(f"{self.run}/") if self.run else self.arm


def make_entry(
    episode: Episode, task: Task | None, examiner: Examiner, arm: str, number: int | None = None, run: str = ""
) -> ReportEntry:
    """The entry of one episode. `task`: `None` where it is not known; the rest is as `ReportEntry` has it."""
    if task is None:
        timeline = partial(build_timeline, episode, None, examiner.evaluator)
        score = score_import(episode).model_copy(update={"arm": arm}) if episode.unverified else None
        alike: Hashable = None
    else:
        found = examiner.examine(episode, task)
        timeline = partial(build_timeline, episode, task, examiner.evaluator, found)
        score = examiner.score(found, episode, arm)
        thoughts = tuple(turn.reasoning for turn in episode.transcript.turns)
        order = tuple(output_order(result) for result in episode.transcript.results)
        alike = found.number, thoughts, order
    return ReportEntry(episode, timeline, score, arm, number, run, alike)


def entry_row(number: int, entry: ReportEntry, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's filters, figures and tables need of an episode, as JSON; its strings are escaped.

    Args:
        number: Its place in the report, from 1; what it is called is `id`, which stays.
        shared: What it has in common with entries alike (`shared_row`).
    """
    episode = entry.episode
    own = str(number if entry.number is None else entry.number)
    return {
        "n": number,
        "id": escape_controls(f"{entry.run}:{own}" if entry.run else own),
        "arm": escape_controls(entry.arm),
        "task": escape_controls(episode.task),
        "family": escape_controls(episode.family),
        "split": episode.split,
        "asked": _page_text(episode.transcript.instruction),
        "seed": episode.seed,
        "sample": episode.sample,
        **shared,
        "seconds": [0.0, *(round(end, 3) for _, end in turn_times(episode))],
    }


def shared_row(entry: ReportEntry, place: int, frames: Sequence[Frame]) -> dict[str, Any]:
    """What the rows of entries alike have in common.

    Args:
        place: Of its transcript among the page's, from 0.
        frames: Its timeline.
    """
    episode, score = entry.episode, entry.score
    row: dict[str, Any] = {
        "faulty": episode.faulty,
        "constructs": _construct_kinds(episode),
        "error": None,
        "imported": None,
        "G": None,
        "G_obs": None,
        "hidden": False,
        "suppressed": None,
        "evidence": "",
        "t": place,
        "seconds": [],  # each has its own
    }
    if episode.error is not None and not episode.unverified:
        row["error"] = escape_controls(f"{episode.error.kind}: {episode.error.message}")
    if episode.unverified:
        row["imported"] = _imported_row(entry)
        return row
    if score is not None:
        row |= {
            "fault": score.fault,
            "G": score.G,
            "G_obs": score.G_obs,
            "hidden": bool(score.hidden),
            "suppressed": score.suppressed,
            "success": score.success,
            "attempted": score.attempted,
            "broken": score.broken,
            "belief": score.belief_success,
            "truths": {name: str(truth) for name, truth in score.truths.items()},
            "claims": score.claims,
            "fabricated": bool(score.fabricated),
        }
    if row["hidden"]:
        row |= _hidden_failure_excerpt(frames)
    return row


def _construct_kinds(episode: Episode) -> list[str]:
    """Kinds of the possible hiding constructs in its commands."""
    return sorted(
        {
            construct.kind
            for result in episode.transcript.results
            for construct in find_constructs(result.command)
            if construct.acts_in(result.command)
        }
    )


def _imported_row(entry: ReportEntry) -> dict[str, Any]:
    """What is known of an imported episode, for the page: counts, the claim, the other tool's scores."""
    origin, score = entry.episode.imported, entry.score
    scores = {} if origin is None else origin.scores
    return {
        "format": "" if origin is None else escape_controls(origin.format),
        "scores": {escape_controls(name): escape_controls(str(value)) for name, value in scores.items()},
        "strong": 0 if score is None else score.syntactic_commands,
        "weak": 0 if score is None else score.weak_commands,
        "opaque": 0 if score is None else score.opaque_commands,
        "failed": 0 if score is None else score.shown_failures or 0,
        "commands": 0 if score is None else score.commands,
        "claimed": score is not None and score.success_claimed,
        "refuted": score is not None and score.claim_refuted,
    }


def _hidden_failure_excerpt(frames: Sequence[Frame]) -> dict[str, str]:
    """The command that hid a failure, and the last line that it kept off the terminal."""
    turns = {frame.turn for frame in frames if frame.hidden} or {frame.turn for frame in frames}
    spans = [span for frame in frames if frame.turn in turns for span in frame.truth]
    command = next((span.text for span in spans if span.kind == "command"), "")
    lines = [
        line for span in spans if span.kind == "suppressed" for line in escape_controls(span.text).splitlines() if line
    ]
    return {
        "command": clip_middle(escape_controls(command), 300),
        "evidence": clip_middle(lines[-1], 300) if lines else "",
    }


def page_transcript(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """The transcript turn by turn, both sides, as the page draws it, without times and without the instruction, which
    its row has; its strings are escaped and clipped."""
    turns = []
    for turn, group in groupby(frames, key=lambda frame: frame.turn):
        moments = list(group)
        belief = next((frame.belief for frame in reversed(moments) if frame.belief is not None), None)
        truth = list(_page_spans(span for frame in moments for span in frame.truth))
        seen = list(_page_spans(span for frame in moments for span in frame.seen))
        turns.append(
            {
                "turn": turn,
                "seen": seen,
                "truth": truth,
                "belief": belief.model_dump() if belief is not None else None,
                "hidden": any(frame.hidden for frame in moments),
            }
        )
    return turns


def _page_spans(spans: Iterable[Span]) -> Iterator[list[str]]:
    """[kind, text, destination] of each; adjacent output of a kind is joined, all is escaped and clipped."""
    for (kind, destination), group in groupby(spans, key=lambda span: (span.kind, span.destination)):
        if kind == "instruction":
            continue
        texts = [span.text for span in group]
        for text in ["".join(texts)] if kind in ("shown", "suppressed") else texts:
            yield [kind, _page_text(text), _page_text(destination)]


@lru_cache(maxsize=4096)
def _page_text(text: str) -> str:
    """Escaped and clipped. Both sides show the same, and so do many episodes of a task."""
    return clip_middle(escape_controls(clip_middle(text, 4 * _OUTPUT_LIMIT)), _OUTPUT_LIMIT)
