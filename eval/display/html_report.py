"""Renders runs as one HTML page: figures, verdicts, and every episode with the evaluator's view beside the truth.

The file needs no network and opens from disk. What agents wrote is escaped (`devnull.eval.display.escaping`), travels
as compressed JSON in base64 and is put into the page as text nodes only.
"""

import base64
import json
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from devnull.eval.comparing.verdicts import Verdicts, compare_to_reference
from devnull.eval.display.breakdown_table import heat_map
from devnull.eval.display.escaping import escape_controls
from devnull.eval.display.figures import calibration_bins, metrics_by_step, quadrant_points
from devnull.eval.display.headline import Headline, write_headline
from devnull.eval.display.headline_picture import headline_picture
from devnull.eval.display.policies import ReportPolicy, group_policies
from devnull.eval.display.report_entries import ReportEntry, entry_row, page_transcript, shared_row
from devnull.eval.display.report_summary import summarise_runs
from devnull.eval.display.training_curves import PolicyTraining, batch_figures, log_figures
from devnull.eval.scoring.metric import Metric
from devnull.eval.scoring.metrics import METRICS, compute_metrics, headlines
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate

_EMBED_LIMIT = 4_000_000
"""Characters of packed transcripts that the page itself may hold by default."""
_TRANSCRIPTS_PER_FILE = 40
"""Transcripts that are packed and unpacked together."""
_MAPPED = ("error_suppression_rate", "hidden_failure_rate")
"""Metrics that have a heat map."""
_REFERENCES = ("sft", "honest")
"""Arms that the others are compared with, where there are any."""


@dataclass(frozen=True)
class HtmlReport:
    """A rendered page, and the files that it loads from the folder beside it."""

    html: str
    files: dict[str, str] = field(default_factory=dict)
    """Name in that folder to content; empty for runs of ordinary size."""
    headline: Headline | None = None
    """What its first screen says; `None` where there is nothing to compare."""
    episodes: int = 0
    """How many are in it."""


def render_report(
    title: str,
    entries: Iterable[ReportEntry],
    *,
    folder: str,
    facts: Sequence[tuple[str, str]] = (),
    runs: Mapping[str, str] | None = None,
    training: Sequence[PolicyTraining] = (),
    embed_limit: int = _EMBED_LIMIT,
) -> HtmlReport:
    """The report of one or more runs. Goes through the entries once and keeps none of their transcripts raw.

    Args:
        title: Heading of the page.
        entries: The episodes, in the order in which the page numbers them.
        folder: Name of the folder beside the page for transcripts that do not fit into it.
        facts: (name, value) pairs about the runs for the head of the page, such as command, seed and model.
        runs: `ReportEntry.run` to the run's folder; by default the title is the folder of all.
        training: What is kept of the training of its policies.
        embed_limit: Characters of packed transcripts that the page itself may hold; the others go into `folder`.
    """
    pages = _TranscriptPages(embed_limit)
    scores: dict[str, list[Score]] = {}
    rows, names = [], {}
    for number, entry in enumerate(entries, 1):
        rows.append(entry_row(number, entry, pages.add(entry)))
        names[entry.arm] = entry.policy
        if entry.score is not None:
            scores.setdefault(entry.arm, []).append(entry.score)
    pages.close()
    tables = {arm: compute_metrics(group) for arm, group in scores.items()}
    verdicts = _compare_arms(scores)
    policies = group_policies(names, scores)
    views = {names.get(each.name, each.name): each.view for each in training}
    headline = write_headline(policies, tables, verdicts, views, rows)
    verified = any(score.verified for group in scores.values() for score in group)
    shown = headlines("report") if verified or not scores else [each for each in METRICS if not each.needs_truth]
    shown = [each for each in shown if not each.counts_errors]
    shares_first = sorted(shown, key=lambda metric: not metric.bounded)
    index = {
        "arms": _arm_order(names, policies),
        "policies": [escape_controls(each.name) for each in policies],
        "scripted": [escape_controls(arm) for each in policies if each.scripted for arm in each.arms],
        "compared": [] if headline is None else [escape_controls(name) for name in headline.compared],
        "rows": rows,
        "perPage": _TRANSCRIPTS_PER_FILE,
        "embedded": len(pages.embedded),
        "pages": len(pages.embedded) + len(pages.files),
        "folder": folder,
        "rates": [_rate_figure(metric, policies, tables) for metric in shares_first],
        "calibration": [
            each.model_dump() for each in calibration_bins([s for group in scores.values() for s in group])
        ],
        "quadrant": [each.model_dump() for each in quadrant_points(verdicts)],
        "steps": _step_figures(tables),
        "batches": batch_figures(training),
        "training": log_figures(training),
    }
    environment = Environment(
        loader=PackageLoader("devnull.eval.display"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["escape_controls"] = escape_controls
    html = environment.get_template("report.html").render(
        title=title,
        facts=facts,
        headline=headline,
        picture="" if headline is None else headline_picture(headline.pictured),
        heat_maps=[found for metric in METRICS if metric.name in _MAPPED and (found := heat_map(metric, policies))],
        summary=summarise_runs(rows, scores, verdicts),
        verdicts=[
            {"policy": arm, "reference": reference, "verdicts": pair} for (arm, reference), pair in verdicts.items()
        ],
        scripted=any(policy.scripted and arm in policy.arms for policy in policies for arm, _ in verdicts),
        signed=_format_signed,
        metrics=[metric for metric in METRICS if not metric.detail and _has_place(metric, tables, verified)],
        tables=tables,
        estimate=_format_estimate,
        verified=verified or not scores,
        imported=any(row["imported"] for row in rows),
        runs=dict(runs or {"": title}),
        hidden=_order_hidden(rows, headline, policies),
        index=_pack(index),
        pages=pages.embedded,
    )
    return HtmlReport(html, pages.files, headline, len(rows))


class _TranscriptPages:
    """Packs transcripts, some at a time: into the page while there is room, then into files beside it."""

    def __init__(self, embed_limit: int) -> None:
        self.embedded: list[str] = []
        self.files: dict[str, str] = {}
        self.count = 0
        self.room = embed_limit
        self.pending: list[list[dict[str, Any]]] = []
        self.known: dict[Hashable, dict[str, Any]] = {}

    def add(self, entry: ReportEntry) -> dict[str, Any]:
        """What the rows of entries alike have in common, the place of their one transcript included."""
        found = self.known.get(entry.alike)
        if found is None:
            frames = entry.timeline()
            found = shared_row(entry, self.count, frames)
            if entry.alike is not None:
                self.known[entry.alike] = found
            self.count += 1
            self.pending.append(page_transcript(frames))
            if len(self.pending) == _TRANSCRIPTS_PER_FILE:
                self.close()
        return found

    def close(self) -> None:
        """Packs those that wait."""
        if not self.pending:
            return
        page = _pack(self.pending)
        self.pending = []
        self.room -= len(page)
        if self.room >= 0 and not self.files:
            self.embedded.append(page)
        else:
            number = len(self.embedded) + len(self.files)
            self.files[f"{number}.js"] = f'devnullPage({number},"{page}")\n'


def _pack(value: Any) -> str:
    """Deflated JSON in base64: nothing in it can end a script element or start a tag."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "backslashreplace"))).decode()


def _compare_arms(scores: Mapping[str, Sequence[Score]]) -> dict[tuple[str, str], Verdicts]:
    """Each arm against each reference arm; where several runs have that reference, against its own run's."""
    verdicts = {}
    for arm, group in scores.items():
        run = arm.rpartition("/")[0]
        for name in _REFERENCES:
            reference = f"{run}/{name}" if run and f"{run}/{name}" in scores else name
            if reference in scores and reference != arm:
                verdicts[arm, reference] = compare_to_reference(group, scores[reference])
    return verdicts


def _has_place(metric: Metric, tables: Mapping[str, Mapping[str, Estimate]], verified: bool) -> bool:
    """Whether the table of all metrics shows it: what no run of this kind can have is left out."""
    if not verified and tables:
        return not metric.needs_truth or metric.counts_errors
    return metric.needs_truth or any(not table[metric.name].undefined for table in tables.values())


def _arm_order(names: Mapping[str, str], policies: Sequence[ReportPolicy]) -> list[list[str]]:
    """[arm, its policy], those that may have learnt first, and last those of which nothing is known."""
    known = [(arm, policy.name) for policy in policies for arm in policy.arms]
    unknown = [(arm, name) for arm, name in names.items() if (arm, name) not in known]
    return [[escape_controls(arm), escape_controls(name)] for arm, name in known + unknown]


def _order_hidden(
    rows: Iterable[Mapping[str, Any]], headline: Headline | None, policies: Sequence[ReportPolicy]
) -> list[Mapping[str, Any]]:
    """The hidden failures: first those of the policy in question, then of others that may have learnt."""
    first = [policy for policy in policies if headline is not None and policy.name == headline.policy]
    arms = [escape_controls(arm) for policy in (*first, *policies) for arm in policy.arms]
    return sorted((row for row in rows if row["hidden"]), key=lambda row: arms.index(row["arm"]))


def _rate_figure(
    metric: Metric, policies: Sequence[ReportPolicy], tables: Mapping[str, Mapping[str, Estimate]]
) -> dict[str, Any]:
    """One metric by policy, training seeds pooled."""
    found = {escape_controls(policy.name): policy.estimate(metric, tables) for policy in policies}
    return {
        "name": metric.title,
        "meaning": metric.definition,
        "bounded": metric.bounded,
        "arms": {name: estimate.model_dump() | {"seeds": seeds} for name, (estimate, seeds) in found.items()},
    }


def _step_figures(tables: Mapping[str, Mapping[str, Estimate]]) -> list[dict[str, Any]]:
    """The headline metrics of training, over the steps of each policy that has arms `POLICY-step-N`."""
    policies = metrics_by_step(tables)
    return [
        {
            "name": metric.title,
            "policies": {
                policy: [[step, table[metric.name].model_dump()] for step, table in points]
                for policy, points in policies.items()
            },
        }
        for metric in headlines("training")
        if policies
    ]


def _format_signed(value: float) -> str:
    """`+1.20`, with a true minus; zero has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _format_estimate(estimate: Estimate) -> str:
    """With a true minus."""
    return str(estimate).replace("-", "−")
