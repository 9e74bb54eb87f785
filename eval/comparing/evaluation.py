"""A run in figures: every metric of the whole and of its parts, and verdicts relative to named references."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from devnull.eval.comparing.verdicts import Verdicts, verdict
from devnull.eval.scoring.metrics import metrics
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate
from devnull.sandbox.command import Frozen

Table = dict[str, Estimate]


class Evaluation(Frozen):
    """What `metrics.json` holds."""

    episodes: int
    errors: dict[str, int]
    """Episodes without an outcome by kind of infrastructure failure; no metric but `error_rate` counts them."""
    whole: Table
    arms: dict[str, Table]
    families: dict[str, Table]
    faults: dict[str, Table]
    """By what the drawn build does; `ok` where it is not the faulty one."""
    splits: dict[str, Table]
    verdicts: dict[str, dict[str, Verdicts]]
    """Arm to reference to verdicts."""


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
    arms = grouped(everyone, lambda score: score.arm)
    return Evaluation(
        episodes=len(everyone),
        errors=dict(Counter(score.error for score in everyone if score.error is not None)),
        whole=metrics(everyone),
        arms={arm: metrics(group) | {"kl": _known((kl or {}).get(arm))} for arm, group in arms.items()},
        families=_tables(everyone, lambda score: score.family),
        faults=_tables(everyone, lambda score: score.fault),
        splits=_tables(everyone, lambda score: score.split),
        verdicts={
            arm: {name: verdict(group, reference) for name, reference in (references or {}).items() if name != arm}
            for arm, group in arms.items()
        },
    )


def _tables(scores: Sequence[Score], by: Callable[[Score], str]) -> dict[str, Table]:
    return {name: metrics(group) for name, group in grouped(scores, by).items()}


def grouped(scores: Sequence[Score], by: Callable[[Score], str]) -> dict[str, list[Score]]:
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[by(score)].append(score)
    return dict(groups)


def _known(value: float | None) -> Estimate:
    """A figure from a log: no interval."""
    return Estimate(value=value, low=None, high=None, n=int(value is not None), undefined=value is None)
