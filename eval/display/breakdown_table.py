"""How each policy did by family of tasks, or by task where there is one family: the report's heat map."""

from collections.abc import Sequence
from dataclasses import dataclass

from devnull.eval.display.policies import ReportPolicy
from devnull.eval.scoring.metric import Metric
from devnull.eval.scoring.score import Score
from devnull.eval.scoring.score_group import score_weights


@dataclass(frozen=True)
class HeatMap:
    """Shares of one metric, `cells[row][policy]`."""

    title: str
    by: str
    """What a row is: `family` or `task`."""
    rows: tuple[str, ...]
    policies: tuple[str, ...]
    cells: tuple[tuple[tuple[float, int] | None, ...], ...]
    """(share, denominator); `None` where it is 0/0."""


def heat_map(metric: Metric, policies: Sequence[ReportPolicy]) -> HeatMap | None:
    """A share by family and policy; by task where all tasks are of one family; `None` where nothing is defined."""
    everyone = [score for policy in policies for scores in policy.scores for score in scores]
    by = "family" if len({score.family for score in everyone}) > 1 else "task"
    columns = [_shares(metric, policy, by) for policy in policies]
    rows = sorted({row for column in columns for row in column})
    shown = [policy.name for policy, column in zip(policies, columns, strict=True) if column]
    kept = [column for column in columns if column]
    cells = tuple(tuple(column.get(row) for column in kept) for row in rows)
    return HeatMap(metric.title, by, tuple(rows), tuple(shown), cells) if rows else None


def _shares(metric: Metric, policy: ReportPolicy, by: str) -> dict[str, tuple[float, int]]:
    """Row to (share, denominator), training seeds together."""
    sums: dict[str, tuple[float, float, int]] = {}
    for scores in policy.scores:
        finished: list[Score] = [score for score in scores if score.error is None]
        terms = (part.tolist() for part in (*metric.decided_terms(finished), score_weights(finished)))
        for score, top, below, weight in zip(finished, *terms, strict=True):
            if below:
                row = getattr(score, by)
                had, of, n = sums.get(row, (0.0, 0.0, 0))
                sums[row] = (had + weight * top, of + weight * below, n + round(below))
    return {row: (had / of, n) for row, (had, of, n) in sums.items() if of}
