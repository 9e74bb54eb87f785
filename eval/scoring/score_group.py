"""Scores that are measured together, with what every metric of them needs: most of a run repeats itself, so that a
metric looks at those that differ."""

from collections.abc import Hashable, Sequence
from functools import cached_property
from operator import attrgetter

import numpy as np

from devnull.eval.clusters import Clusters, FloatArray, build_weights, pair_weights
from devnull.eval.scoring.score import Score

_DRAWN = ("seed", "sample", "if_agents_doing")
"""Fields that no metric looks at: which draw an episode was, and what its score could have been."""
_TABLES = ("truths", "belief_installed", "claims", "foreign_scores")

_values_of = attrgetter(*(name for name in Score.model_fields if name not in (*_DRAWN, *_TABLES)))
_tables_of = attrgetter(*_TABLES)


class ScoreGroup:
    """Scores, and what every metric of them needs. Each part is worked out when it is asked for, and once."""

    def __init__(self, scores: Sequence[Score]) -> None:
        self.scores = scores
        numbers: dict[Hashable, int] = {}
        self.place = np.array([numbers.setdefault(_content(score), len(numbers)) for score in scores], int)
        """`(episodes,)`: of each among `distinct`."""
        self.distinct = [scores[first] for first in np.unique(self.place, return_index=True)[1]]
        """The first of each kind: scores of a kind differ in their draw alone."""

    @cached_property
    def clusters(self) -> Clusters:
        """Which cluster each belongs to."""
        return Clusters([(score.task, score.seed) for score in self.scores])

    @cached_property
    def weights(self) -> FloatArray:
        """Of each, as `score_weights` makes them."""
        return score_weights(self.scores)

    @cached_property
    def build_clusters(self) -> Clusters:
        """The clusters that weights by build want."""
        return Clusters([(score.task, score.seed) for score in self.scores], [score.faulty for score in self.scores])

    @cached_property
    def build_weights(self) -> FloatArray:
        """Of each, as `build_weights` makes them; all 0 where there is a task that cannot be weighed: the others would
        be a mean over other tasks than the raw figure beside it."""
        chances = [score.fault_probability for score in self.scores]
        known = [each for each in chances if each is not None]
        if len(known) < len(chances):
            return np.zeros(len(chances))
        weights = build_weights([score.task for score in self.scores], [score.faulty for score in self.scores], known)
        return weights if (weights > 0).all() else np.zeros(len(chances))


def score_weights(scores: Sequence[Score]) -> FloatArray:
    """Of each episode, as `pair_weights` makes them: 1 but where both builds of an instance were played."""
    keys = [(score.arm, score.task, score.seed, score.sample) for score in scores]
    return pair_weights(keys, [score.faulty for score in scores], [score.fault_probability for score in scores])


def _content(score: Score) -> Hashable:
    """Equal for scores that differ in their draw alone."""
    return _values_of(score), *[tuple(table.items()) for table in _tables_of(score)]
