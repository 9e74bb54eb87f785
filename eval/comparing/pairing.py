"""Pairs what two policies did: by task, or by instance where tasks are too few to be a sample."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np

from devnull.eval.clusters import FloatArray
from devnull.eval.comparing.mean_differences import PairedSample, sampling_noise
from devnull.eval.scoring.score import Score, fill_return_limits
from devnull.eval.scoring.score_group import score_weights
from devnull.theory.measures import overestimation, underestimation

QUANTITIES = ("J", "J_obs", "E_plus", "E_minus")
"""What verdicts compare, in the order of every array of them."""
Groups = dict[tuple[str, int], list[Score]]
"""Episodes by task, or by task and seed."""


def common_tasks(scores: Sequence[Score], reference_scores: Sequence[Score]) -> set[str]:
    """Tasks of which both have an episode with an outcome."""
    mine, theirs = ({score.task for score in side if score.verified} for side in (scores, reference_scores))
    return mine & theirs


def group_by_pair(scores: Sequence[Score], tasks: Collection[str], by: Literal["task", "instance"]) -> Groups:
    """Episodes with an outcome by task (and 0), or by task and seed where tasks are too few to be a sample."""
    groups: Groups = defaultdict(list)
    for score in scores:
        if score.verified and score.task in tasks:
            groups[score.task, score.seed if by == "instance" else 0].append(score)
    return groups


def instances_met(scores: Sequence[Score], tasks: Collection[str]) -> set[tuple[str, int, bool]]:
    """What was met: (task, seed, whether the build was the faulty one)."""
    return {(score.task, score.seed, score.faulty) for score in scores if score.verified and score.task in tasks}


def episode_quantities(scores: Sequence[Score]) -> FloatArray:
    """`(n, 4)`: G, G_obs, overestimation and underestimation of each episode."""
    G = np.array([score.G for score in scores], float)
    G_obs = np.array([score.G_obs for score in scores], float)
    return np.stack([G, G_obs, overestimation(G, G_obs), underestimation(G, G_obs)], axis=1)


def episode_shares(scores: Sequence[Score]) -> FloatArray:
    """`(n,)`, summing to 1: how much each episode counts in their mean. All the same, but that instances which were
    played under both builds count as the world draws them."""
    weights = score_weights(scores)
    shares: FloatArray = weights / weights.sum()
    return shares


class PairDifference(NamedTuple):
    """One pair: how the policy's means differ from the reference's, and what each instance has to do with it."""

    mean: FloatArray
    """`(4,)`"""
    parts: FloatArray
    """`(instances, 4)`: what each instance adds to the difference beyond its share; they sum to 0."""
    episodes: float
    """Of each of the two, on average."""


def pair_difference(mine: Sequence[Score], theirs: Sequence[Score]) -> PairDifference:
    """Of the episodes of one task, or one instance."""
    (own, share), (other, other_share) = ((episode_quantities(side), episode_shares(side)) for side in (mine, theirs))
    mean, other_mean = share @ own, other_share @ other
    seeds = np.array([score.seed for score in (*mine, *theirs)])
    away = np.concatenate([share[:, None] * (own - mean), other_share[:, None] * (other_mean - other)])
    instances, place = np.unique(seeds, return_inverse=True)
    parts = np.zeros((len(instances), len(QUANTITIES)))
    np.add.at(parts, place, away)
    return PairDifference(mean - other_mean, parts, (len(own) + len(other)) / 2)


def largest_difference(scores: Sequence[Score]) -> FloatArray:
    """`(4,)`: how far apart two means of any of the quantities can lie."""
    limits = [score.return_limits for score in fill_return_limits(scores) if score.return_limits is not None]
    span = max(each[1] for each in limits) - min(each[0] for each in limits)
    return np.full(len(QUANTITIES), span)


def paired_sample(
    policy: Groups, reference: Groups, pairs: Sequence[tuple[str, int]], by: Literal["task", "instance"]
) -> PairedSample:
    """The differences of these pairs. Strata are the tasks where pairs are instances."""
    by_instance = by == "instance"
    strata = np.unique([task if by_instance else "" for task, _ in pairs], return_inverse=True)[1]
    found = [pair_difference(policy[pair], reference[pair]) for pair in pairs]
    return PairedSample(
        np.array([each.mean for each in found]),
        strata,
        sampling_noise([each.parts for each in found]),
        sum(len(each.parts) for each in found) / len(found),
        largest_difference([*chain(*policy.values()), *chain(*reference.values())]),
        by_instance,
    )
