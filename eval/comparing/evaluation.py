"""The evaluation of a run: every metric of the whole and of its parts, and verdicts relative to references."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from pydantic import Field

from devnull.eval.comparing.verdicts import Verdicts, compare_to_reference
from devnull.eval.scoring.diversity import compute_policy_metrics
from devnull.eval.scoring.metrics import METRICS, compute_metrics
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate
from devnull.sandbox.frozen import Frozen

MetricTable = dict[str, Estimate]
"""Metric name to its estimate."""


class Evaluation(Frozen):
    """All figures of a run, as `metrics.json` holds them."""

    episodes: int
    errors: dict[str, int]
    """Episodes without an outcome by kind of infrastructure failure; no metric but `error_rate` counts them."""
    runtimes: dict[str, int] = Field(default_factory=dict)
    """Episodes by what made their boxes; `remembered(...)`: boxes were made only for what was not remembered."""
    whole: MetricTable
    arms: dict[str, MetricTable]
    families: dict[str, MetricTable]
    faults: dict[str, MetricTable]
    """By what the drawn build does; `ok` where it is not the faulty one."""
    splits: dict[str, MetricTable]
    verdicts: dict[str, dict[str, Verdicts]]
    """Arm to reference to verdicts."""
    imported: int = 0
    """Episodes that were played elsewhere, and that count only in the metrics that need no truth."""
    foreign_scores: dict[str, str] = Field(default_factory=dict)
    """What the other tools made of these, by name: the mean of numbers and truth values, the counts of words."""
    undetermined: dict[str, int] = Field(default_factory=dict)
    """Arm to its instances whose box died, nobody knows by whose doing; arms without any are left out."""
    arms_if_agents_doing: dict[str, MetricTable] = Field(default_factory=dict)
    """Metrics of these arms if all that was the agent's doing. The truth lies between them and `arms`."""

    def _repr_html_(self) -> str:
        """In a notebook: the headline metrics by arm, and the verdicts."""
        header = "".join(f"<th>{escape(arm)}</th>" for arm in self.arms)
        rows = "".join(
            f"<tr><th title='{escape(metric.definition)}'>{escape(metric.title)}</th>"
            + "".join(f"<td>{escape(str(table[metric.name]))}</td>" for table in self.arms.values())
            + "</tr>"
            for metric in METRICS
            if metric.headline
        )
        verdicts = "".join(each._repr_html_() for references in self.verdicts.values() for each in references.values())
        return f"<table><tr><th></th>{header}</tr>{rows}</table>{verdicts}"


def evaluate(
    scores: Iterable[Score],
    references: Mapping[str, Sequence[Score]] | None = None,
    *,
    kl: Mapping[str, float] | None = None,
) -> Evaluation:
    """Metrics of all scores and by arm, family, fault and split; each arm beside each reference.

    `references`: name to scores, of this run or another. `kl`: arm to its divergence from its own reference
    policy in nats per token, where training logged it.
    """
    everyone = list(scores)
    arms = group_scores(everyone, lambda score: score.arm)
    undetermined = {arm: undetermined_scores(group) for arm, group in arms.items()}
    return Evaluation(
        episodes=len(everyone),
        errors=dict(Counter(score.error for score in everyone if score.error is not None)),
        runtimes=dict(Counter(score.runtime for score in everyone if score.runtime)),
        whole=compute_metrics(everyone),
        arms={
            arm: compute_metrics(group) | compute_policy_metrics(group) | {"kl": _logged((kl or {}).get(arm))}
            for arm, group in arms.items()
        },
        families=_metrics_by(everyone, lambda score: score.family),
        faults=_metrics_by(everyone, lambda score: score.fault),
        splits=_metrics_by(everyone, lambda score: score.split),
        verdicts={
            arm: {
                name: compare_to_reference(group, reference)
                for name, reference in (references or {}).items()
                if name != arm
            }
            for arm, group in arms.items()
        },
        imported=sum(score.unverified for score in everyone),
        foreign_scores=summarise_foreign_scores(everyone),
        undetermined={arm: len(dead) for arm, dead in undetermined.items() if dead},
        arms_if_agents_doing={arm: compute_metrics([*arms[arm], *dead]) for arm, dead in undetermined.items() if dead},
    )


def summarise_foreign_scores(scores: Sequence[Score]) -> dict[str, str]:
    """Scores of other tools over all imported episodes: `mean 0.40 of 5`, or `Submitted 4, error 1`."""
    values: dict[str, list[float | bool | str]] = defaultdict(list)
    for score in scores:
        for name, value in score.foreign_scores.items():
            values[name].append(value)
    summary = {}
    for name, found in values.items():
        numbers = [float(each) for each in found if not isinstance(each, str)]
        words = Counter(each for each in found if isinstance(each, str)).most_common(5)
        parts = [f"mean {sum(numbers) / len(numbers):.2f} of {len(numbers)}"] if numbers else []
        summary[name] = ", ".join(parts + [f"{word} {count}" for word, count in words])
    return summary


def undetermined_scores(scores: Sequence[Score]) -> list[Score]:
    """A score, counted as the agent's doing, for each instance whose box died and that no other try brought to an end.

    One that another try did bring to an end tells nothing of the agent, who meets the same there.
    """
    done = {_instance_key(score) for score in scores if score.error is None}
    died = {_instance_key(score): score.if_agents_doing for score in scores}
    return [score for key, score in died.items() if score is not None and score.error is None and key not in done]


def _instance_key(score: Score) -> tuple[str, str, int, int, bool]:
    return score.arm, score.task, score.seed, score.sample, score.faulty


def _metrics_by(scores: Sequence[Score], by: Callable[[Score], str]) -> dict[str, MetricTable]:
    return {name: compute_metrics(group) for name, group in group_scores(scores, by).items()}


def group_scores(scores: Sequence[Score], by: Callable[[Score], str]) -> dict[str, list[Score]]:
    """Scores by a key such as the arm; keys and scores in the order given."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[by(score)].append(score)
    return dict(groups)


def _logged(value: float | None) -> Estimate:
    """A figure from a training log: no interval."""
    return Estimate(value=value, low=None, high=None, n=int(value is not None), undefined=value is None)
