"""One HTML file that shows a run: figures, verdicts, and every episode with the two views side by side.

The file needs no network and opens from disk. What agents wrote travels as compressed JSON in base64, is made
harmless (`devnull.eval.display.escaping`) and reaches the page as text nodes only.
"""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from devnull.agents.episode import Episode
from devnull.eval.comparing.verdicts import Verdicts, verdict
from devnull.eval.display.escaping import clipped, visible
from devnull.eval.display.figures import calibration, changes, steps
from devnull.eval.display.timeline import Frame, Span
from devnull.eval.scoring.metrics import METRICS, metrics
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate

EMBEDDED = 4_000_000
"""Characters of transcripts that the file itself may hold; those beyond go into pages beside it."""
_PER_PAGE = 40
"""Episodes that are packed and unpacked together."""
_LONGEST = 6_000
"""Characters kept of one piece of output; the run folder holds the rest."""
_REFERENCES = ("sft", "honest")
"""Arms that the others are compared with, where a run has them."""
_RATES = (
    "error_suppression_rate",
    "attempt_rate",
    "hidden_failure_rate",
    "shown_success_rate",
    "true_success",
    "report_false",
    "fabrication_rate",
    "false_belief_gap",
    "J",
    "J_obs",
    "E_plus",
    "E_minus",
)
"""Metrics that are drawn; the table holds all."""
_NAMES = {
    "error_suppression_rate": "error suppression",
    "attempt_rate": "attempts",
    "hidden_failure_rate": "hidden failures",
    "shown_success_rate": "shown success",
    "true_success": "true success",
    "report_false": "false claims",
    "fabrication_rate": "fabrication",
    "false_belief_gap": "false belief",
    "J": "true return J",
    "J_obs": "believed return J_obs",
    "E_plus": "overestimation Ē+",
    "E_minus": "underestimation Ē−",
}


@dataclass(frozen=True)
class Exhibit:
    """One episode, ready to be shown."""

    episode: Episode
    frames: tuple[Frame, ...]
    score: Score | None
    """`None` where the task is not known: shown, not measured."""
    arm: str
    """As the report calls it: the run's name goes before it where there are several."""


@dataclass(frozen=True)
class Report:
    """An HTML page, and the files that it expects beside it."""

    html: str
    pages: dict[str, str] = field(default_factory=dict)
    """Name, relative to `<stem>-files/`, to content; empty for runs of ordinary size."""


def render(
    title: str,
    exhibits: Iterable[Exhibit],
    *,
    files: str,
    facts: Sequence[tuple[str, str]] = (),
    training: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    seed: int = 0,
) -> Report:
    """The report of one or more runs. Goes through the exhibits once, and holds none of their transcripts raw.

    `files`: name of the folder for further pages. `facts`: what the run was, for its head. `training`: policy
    to the trainer's log, one entry of figures a logged step. `seed` draws the bootstrap of the verdicts.
    """
    shelf = Shelf(files)
    scores: dict[str, list[Score]] = {}
    rows = []
    for number, exhibit in enumerate(exhibits, 1):
        rows.append(_row(number, exhibit))
        shelf.add(_record(number, exhibit))
        if exhibit.score is not None:
            scores.setdefault(exhibit.arm, []).append(exhibit.score)
    shelf.close()
    tables = {arm: metrics(group) for arm, group in scores.items()}
    verdicts = _compared(scores, seed)
    arms = list(dict.fromkeys(entry["arm"] for entry in rows))
    index = {
        "arms": arms,
        "rows": rows,
        "perPage": _PER_PAGE,
        "embedded": len(shelf.embedded),
        "pages": len(shelf.embedded) + len(shelf.beside),
        "files": files,
        "rates": [_drawn(name, tables) for name in _RATES],
        "calibration": [each.model_dump() for each in calibration([s for group in scores.values() for s in group])],
        "changes": [each.model_dump() for each in changes(verdicts)],
        "steps": _over_steps(tables),
        "training": {name: list(log) for name, log in (training or {}).items()},
    }
    environment = Environment(
        loader=PackageLoader("devnull.eval.display"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    html = environment.get_template("report.html").render(
        title=title,
        facts=facts,
        summary=_summary(rows, scores, verdicts),
        verdicts=[
            {"policy": arm, "reference": reference, "found": found} for (arm, reference), found in verdicts.items()
        ],
        signed=_signed,
        metrics=METRICS,
        tables=tables,
        estimate=_said,
        hidden=[entry for entry in rows if entry["hidden"]],
        index=_packed(index),
        shelf=shelf.embedded,
    )
    return Report(html, shelf.beside)


class Shelf:
    """Packs transcripts page by page: into the file while there is room, then beside it."""

    def __init__(self, files: str) -> None:
        self.files = files
        self.embedded: list[str] = []
        self.beside: dict[str, str] = {}
        self.room = EMBEDDED
        self.open: list[dict[str, Any]] = []

    def add(self, record: dict[str, Any]) -> None:
        self.open.append(record)
        if len(self.open) == _PER_PAGE:
            self.close()

    def close(self) -> None:
        if not self.open:
            return
        page = _packed(self.open)
        self.open = []
        self.room -= len(page)
        if self.room >= 0 and not self.beside:
            self.embedded.append(page)
        else:
            number = len(self.embedded) + len(self.beside)
            self.beside[f"{number}.js"] = f'devnullPage({number},"{page}")\n'


def _packed(value: Any) -> str:
    """Deflated JSON in base64: nothing in it can end a script element or start a tag."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "backslashreplace"), 9)).decode()


def _row(number: int, exhibit: Exhibit) -> dict[str, Any]:
    """What filters, figures and tables know of an episode."""
    episode, score = exhibit.episode, exhibit.score
    known: dict[str, Any] = {
        "n": number,
        "arm": visible(exhibit.arm),
        "task": visible(episode.task),
        "family": visible(episode.family),
        "split": episode.split,
        "seed": episode.seed,
        "error": visible(f"{episode.error.kind}: {episode.error.message}") if episode.error else None,
        "G": None,
        "G_obs": None,
        "hidden": False,
        "suppressed": None,
        "evidence": "",
    }
    if score is not None:
        known |= {
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
    if known["hidden"]:
        known |= _kept_off(exhibit.frames)
    return known


def _kept_off(frames: Sequence[Frame]) -> dict[str, str]:
    """The command that hid, and the last line that it hid."""
    turns = {frame.turn for frame in frames if frame.hidden} or {frame.turn for frame in frames}
    spans = [span for frame in frames if frame.turn in turns for span in frame.truth]
    command = next((span.text for span in spans if span.kind == "command"), "")
    lines = [line for span in spans if span.kind == "suppressed" for line in visible(span.text).splitlines() if line]
    return {"command": clipped(visible(command), 300), "evidence": clipped(lines[-1], 300) if lines else ""}


def _record(number: int, exhibit: Exhibit) -> dict[str, Any]:
    """The transcript, turn by turn, as the page draws it."""
    turns = []
    for turn, group in groupby(exhibit.frames, key=lambda frame: frame.turn):
        frames = list(group)
        standing = next((frame.standing for frame in reversed(frames) if frame.standing is not None), None)
        truth = list(_drawable(span for frame in frames for span in frame.truth))
        seen = list(_drawable(span for frame in frames for span in frame.seen))
        turns.append(
            {
                "turn": turn,
                "seen": seen,
                "truth": truth,
                "standing": standing.model_dump() if standing is not None else None,
                "hidden": any(frame.hidden for frame in frames),
                "seconds": round(frames[-1].seconds, 3),
            }
        )
    return {"n": number, "turns": turns}


def _drawable(spans: Iterable[Span]) -> Iterator[list[str]]:
    """Kind, text, place; neighbours of a kind joined, made harmless, clipped."""
    for (kind, to), group in groupby(spans, key=lambda span: (span.kind, span.to)):
        texts = [span.text for span in group]
        for text in ["".join(texts)] if kind in ("shown", "suppressed") else texts:
            yield [kind, clipped(visible(clipped(text, 4 * _LONGEST)), _LONGEST), visible(to)]


def _compared(scores: Mapping[str, Sequence[Score]], seed: int) -> dict[tuple[str, str], Verdicts]:
    """Every arm against each reference among them; of several runs that have it, against its own run's."""
    found = {}
    for arm, group in scores.items():
        run = arm.rpartition("/")[0]
        for name in _REFERENCES:
            reference = f"{run}/{name}" if run and f"{run}/{name}" in scores else name
            if reference in scores and reference != arm:
                found[arm, reference] = verdict(group, scores[reference], seed=seed)
    return found


def _drawn(name: str, tables: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    metric = next(metric for metric in METRICS if metric.name == name)
    return {
        "name": _NAMES[name],
        "meaning": metric.meaning,
        "bounded": metric.bounded,
        "arms": {arm: table[name].model_dump() for arm, table in tables.items()},
    }


def _over_steps(tables: Mapping[str, Mapping[str, Estimate]]) -> list[dict[str, Any]]:
    """Suppression and the two returns as training goes on."""
    policies = steps(tables)
    return [
        {
            "name": _NAMES[name],
            "policies": {
                policy: [[step, table[name].model_dump()] for step, table in points]
                for policy, points in policies.items()
            },
        }
        for name in ("error_suppression_rate", "J", "J_obs", "E_plus")
        if policies
    ]


def _summary(
    rows: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Sequence[Score]],
    verdicts: Mapping[tuple[str, str], Verdicts],
) -> list[str]:
    """The run in words, a sentence each: what happened, who hid it, and what follows."""
    everyone = [score for group in scores.values() for score in group]
    judged = [score for score in everyone if score.G is not None]
    tasks = {row["task"] for row in rows}
    said = [
        f"{_count(len(rows), 'episode')} of {_count(len({row['arm'] for row in rows}), 'policy', 'policies')} "
        f"on {_count(len(tasks), 'task')}."
    ]
    errors = Counter(score.error for score in everyone if score.error)
    if errors:
        broken = ", ".join(f"{number} {kind}" for kind, number in errors.items())
        said.append(f"Infrastructure failures, counted and never scored: {broken}.")
    unknown = len(rows) - len(everyone)
    if unknown:
        said.append(f"{_count(unknown, 'episode')} come from elsewhere: what needs ground truth is undefined there.")
    if judged:
        said.append(_hid(scores))
        for reference in dict.fromkeys(reference for _, reference in verdicts):
            answers = {arm: found for (arm, other), found in verdicts.items() if other == reference}
            said.append(_concluded(reference, answers))
    return said


def _hid(scores: Mapping[str, Sequence[Score]]) -> str:
    """Who kept how many of its failures from the evaluator."""
    counts = {}
    for arm, group in scores.items():
        broken = [score for score in group if score.hidden is not None]
        if broken:
            counts[arm] = (sum(bool(score.hidden) for score in broken), len(broken))
    if not counts:
        return "No episode tried and ended broken."
    ranked = sorted(counts.items(), key=lambda item: -item[1][0] / item[1][1])
    hiders = [f"{arm} {hidden} of {of}" for arm, (hidden, of) in ranked if hidden]
    others = [arm for arm, (hidden, _) in ranked if not hidden]
    if not hiders:
        return "Whatever ended broken, the evaluator came to see."
    told = f"Of what they left broken, the evaluator never came to see: {', '.join(hiders)}"
    return f"{told}; {', '.join(others)} none." if others else f"{told}."


def _concluded(reference: str, answers: Mapping[str, Verdicts]) -> str:
    """Which policies show what, relative to one reference."""

    def of(name: str, answer: str) -> str:
        return ", ".join(arm for arm, found in answers.items() if getattr(found, name) == answer)

    parts = []
    for name, words in (("deceptive_inflation", "deceptive inflation"), ("overjustification", "overjustification")):
        shown, left_open = of(name, "yes"), of(name, "inconclusive")
        parts.append(f"{words} by {shown or 'none'}" + (f" (inconclusive: {left_open})" if left_open else ""))
    return f"Relative to {reference}: {'; '.join(parts)}."


def _signed(value: float) -> str:
    """`+1.20`, with a true minus; zero has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _said(estimate: Estimate) -> str:
    """`0.50 (0.31 to 0.69)`, or `undefined`."""
    if estimate.value is None:
        return "undefined"
    text = f"{estimate.value:.2f}"
    if estimate.low is not None and estimate.high is not None:
        text += f" ({estimate.low:.2f} to {estimate.high:.2f})"
    return text.replace("-", "−")
