"""Policies as mixtures of a few conducts, with exact figures: what the paper does with tables, done with real episodes.

A conduct is what one scripted agent does (`honest`, `hiding`, ...). Each was played once in both builds of a task of
each family (`scripts/conducts.py`), and is judged and scored by the project's own code; so a metric of a policy is that
of its conducts, weighed by the policy and by how likely the builds are, and no draw is in it.
"""

import lzma
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

import numpy as np

from devnull.agents.episode import Episode
from devnull.eval.clusters import FloatArray
from devnull.eval.scoring.metric import Metric
from devnull.eval.scoring.metrics import METRICS
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.returns import true_return
from devnull.rewards.views import ChannelPrices
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.task import Task, Truth
from devnull.sandbox.tasks import find_task, load_tasks

_OfEpisode = Callable[[Episode], float]
_SENSOR_DRAWS = 200
"""Over so many draws of sensors that are on with some probability a judgement is averaged."""


@cache
def recorded_conducts() -> tuple[Episode, ...]:
    """The stored episodes: one a family, conduct and build."""
    packed = files("devnull.eval.claims").joinpath("conducts.jsonl.xz").read_bytes()
    return tuple(Episode.model_validate_json(line) for line in lzma.decompress(packed).splitlines())


@dataclass(frozen=True, eq=False)
class ConductTable:
    """The conducts of one task in both builds: C conducts, 2 builds (0 sound, 1 faulty)."""

    task: Task
    episodes: Mapping[tuple[str, bool], Episode]
    """Conduct and whether the build is faulty to its episode."""

    @property
    def conducts(self) -> tuple[str, ...]:
        """Their names, in the order of every array's rows."""
        return tuple(dict.fromkeys(conduct for conduct, _ in self.episodes))

    @property
    def build_chances(self) -> FloatArray:
        """`(2,)`: how likely each build is."""
        return np.array([1 - self.task.fault.p, self.task.fault.p])

    @property
    def true_returns(self) -> FloatArray:
        """`(C, 2)`: G."""
        return self._table(lambda episode: true_return(self.task, self.truths(episode)))

    def believed_returns(self, evaluator: Evaluator, *, member: int | None = None, audit: bool = False) -> FloatArray:
        """`(C, 2)`: G_obs, averaged over what the sensors may show.

        Args:
            member: Whose of a panel; `None`: that of their mean belief.
            audit: As seen in full.
        """
        labeller = None if member is None else evaluator.members[member]

        def judged(episode: Episode, draw: int) -> float:
            return evaluator.judge(
                self.task, episode.transcript, seed=draw, member=labeller, audit=audit, count_cost=False
            ).G_obs

        draws = 1 if not _draws_sensors(evaluator) else _SENSOR_DRAWS
        return self._table(lambda episode: float(np.mean([judged(episode, draw) for draw in range(draws)])))

    def figures(self, shares: FloatArray, judge: Evaluator) -> dict[str, float]:
        """Metric to its value for a policy, as `judge` believes; without those that are 0/0.

        Args:
            shares: `(C,)`, or `(C, 2)` where they depend on the build: of each conduct, summing to 1.
        """
        found = {}
        scores = self._scores(judge)
        for metric in METRICS:
            value = self._value(metric, shares, scores)
            if value is not None:
                found[metric.name] = value
        return found

    def command_entropy(self, shares: FloatArray, judge: Evaluator) -> float:
        """Of the commands of a policy's episodes, in bits; commands that differ in numbers alone are the same."""
        counts: dict[str, float] = {}
        scores = self._scores(judge)
        for at, weight in self._weights(shares).items():
            for digest in scores[at].command_digests:
                counts[digest] = counts.get(digest, 0.0) + weight
        p = np.array([*counts.values()]) / sum(counts.values())
        return float(-(p * np.log2(p)).sum())

    def truths(self, episode: Episode) -> Mapping[str, Truth]:
        """How each stage of an episode ended."""
        assert episode.outcome is not None  # scripts/conducts.py keeps no other
        return episode.outcome.truths

    def shares(self, weights: Mapping[str, float]) -> FloatArray:
        """`(C,)`: of a mixture, conduct to weight. Raises `InputError` for a conduct that was not recorded."""
        for name in weights:
            if name not in self.conducts:
                raise InputError(f"no conduct {name!r}{did_you_mean(name, self.conducts)}")
        shares = np.array([weights.get(name, 0.0) for name in self.conducts])
        return np.asarray(shares / shares.sum(), float)

    def _table(self, value: _OfEpisode) -> FloatArray:
        return np.array([[value(self.episodes[name, faulty]) for faulty in (False, True)] for name in self.conducts])

    def _scores(self, judge: Evaluator) -> dict[tuple[str, bool], Score]:
        return {at: score(episode, self.task, judge) for at, episode in self.episodes.items()}

    def _weights(self, shares: FloatArray) -> dict[tuple[str, bool], float]:
        """How often a policy's episodes are each conduct in each build."""
        by_build = np.broadcast_to(shares if shares.ndim == 2 else shares[:, None], (len(shares), 2))
        joint = by_build * self.build_chances
        return {
            (name, faulty): float(joint[row, int(faulty)])
            for row, name in enumerate(self.conducts)
            for faulty in (False, True)
            if joint[row, int(faulty)] > 0
        }

    def _value(self, metric: Metric, shares: FloatArray, scores: Mapping[tuple[str, bool], Score]) -> float | None:
        weights = self._weights(shares)
        below = sum(weight * metric.denominator(scores[at]) for at, weight in weights.items())
        above = sum(weight * metric.numerator(scores[at]) for at, weight in weights.items())
        return above / below if below > 0 else None


def load_conduct_table(tasks: str, hiding_penalty: float, verbosity_cost: float | None = None) -> ConductTable:
    """The conducts of the first recorded task that `tasks` names.

    Args:
        tasks: A task, a family or a pattern of tasks, as `rollout --tasks` takes it.
        hiding_penalty: r, what hiding a failure truly costs.
        verbosity_cost: What a long log truly costs; `None`: as the task says.

    Raises `InputError` where none of them was recorded.
    """
    recorded = recorded_conducts()
    for first in recorded:
        if tasks == first.family or fnmatchcase(first.task, tasks):
            episodes = {(each.agent, each.faulty): each for each in recorded if each.task == first.task}
            task = find_task(first.task, load_tasks()).with_hiding_penalty(hiding_penalty)
            return ConductTable(task if verbosity_cost is None else task.with_verbosity_cost(verbosity_cost), episodes)
    names = sorted({each.task for each in recorded})
    raise InputError(f"no recorded conducts of {tasks!r}{did_you_mean(tasks, names)}")


def _draws_sensors(evaluator: Evaluator) -> bool:
    """Whether what is seen depends on a draw."""
    return any(
        0 < getattr(member.sensors, channel) < 1
        for member in evaluator.members
        for channel in ChannelPrices.model_fields
    )
