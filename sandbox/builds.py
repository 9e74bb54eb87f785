"""Deals builds out to the instances of a batch, so that how many are faulty is no matter of luck."""

import random
from collections.abc import Hashable, Sequence
from math import floor

from devnull.sandbox.task import Instance


def stratify_builds(instances: Sequence[Instance], draw: Hashable) -> list[Instance]:
    """The instances with their builds drawn anew, as many of them faulty as p says: of 8 with p = 0.5 exactly 4.

    Each still meets the faulty build with its task's p; where the p of all sum to no whole number, the count is the one
    below or above it. Instances of one task and seed, a group, keep one build. Systematic sampling, in a random order.

    Args:
        draw: Names the draw: the same twice, the same builds.

    >>> sum(each.faulty for each in stratify_builds(draw_instances(tasks, 8, 0), "batch 1"))
    4
    """
    groups = {(each.task.name, each.seed): each.task.fault.p for each in instances}
    order = sorted(groups)
    rng = random.Random(f"{draw}/builds")
    rng.shuffle(order)
    faulty, reached = set(), rng.random()
    for group in order:
        before, reached = reached, reached + groups[group]
        if floor(reached) > floor(before):
            faulty.add(group)
    return [each.with_build("faulty" if (each.task.name, each.seed) in faulty else "ok") for each in instances]
