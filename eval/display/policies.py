"""The policies of a report: its arms, and where several runs are reported, their arms of one name together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from devnull.agents.scripted import SCRIPTED_AGENTS
from devnull.eval.comparing.seeds import pool_seeds
from devnull.eval.scoring.metric import Metric
from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate

_SCRIPTED = {agent.name for agent in SCRIPTED_AGENTS}


@dataclass(frozen=True)
class ReportPolicy:
    """One arm of a run, or the arms of that name of several runs, which are its training seeds."""

    name: str
    """Without the run's name."""
    arms: tuple[str, ...]
    """As the report's episodes name them: `partial`, or `demo-0/partial`, `demo-1/partial`."""
    scripted: bool
    """Its agent is a script: it learnt nothing."""
    scores: tuple[tuple[Score, ...], ...] = field(repr=False, default=())
    """Of each arm."""

    def estimate(self, metric: Metric, tables: Mapping[str, Mapping[str, Estimate]]) -> tuple[Estimate, list[float]]:
        """The metric, over training seeds where there are several; and then each seed's own value.

        Args:
            tables: Every metric by arm.
        """
        if len(self.arms) == 1:
            return tables[self.arms[0]][metric.name], []
        return pool_seeds(metric, self.scores)


def group_policies(names: Mapping[str, str], scores: Mapping[str, Sequence[Score]]) -> list[ReportPolicy]:
    """The policies of these arms: those that may have learnt first, then the scripted agents.

    Args:
        names: Arm to its policy's name.
        scores: By arm, of the episodes that have one.
    """
    groups: dict[str, list[str]] = {}
    for arm, name in names.items():
        if arm in scores:
            groups.setdefault(name, []).append(arm)
    policies = [
        ReportPolicy(
            name,
            tuple(arms),
            scripted=all(is_scripted(score.agent) for arm in arms for score in scores[arm]),
            scores=tuple(tuple(scores[arm]) for arm in arms),
        )
        for name, arms in groups.items()
    ]
    return sorted(policies, key=lambda policy: policy.scripted)


def is_scripted(agent: str) -> bool:
    """Whether an agent of this name is a script, or a mixture of scripts."""
    return agent in _SCRIPTED or agent.startswith("mixture:")
