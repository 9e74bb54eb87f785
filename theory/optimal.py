"""Optimal sets: every deterministic policy of a class whose expectation ties with the best."""

from itertools import product

import numpy as np

from devnull.theory.errors import TooLarge
from devnull.theory.policies import Policy, PolicyClass, Tree, actions_array, every_stationary, probabilities
from devnull.theory.pomdp import Array
from devnull.theory.sequences import IntArray

_SET_LIMIT = 2**20
"""Optimal policies that may tie."""
_SEARCH_LIMIT = 200_000
"""Partial time-dependent policies that may be bounded."""


def optimal_set(tree: Tree, values: Array, kind: PolicyClass, tolerance: float) -> list[Policy]:
    """All policies within `tolerance` of the maximum of E[values], `values` `(N,)` over state sequences.

    `stationary`: every map from states to actions, in lexicographic order, also those that differ only
    where they never act. `time` and `history`: one policy for each `devnull.theory.policies.behaviour`.
    A return like G_obs is a function of sequences and has no state-wise dynamic programme: stationary
    policies are enumerated, time-dependent ones found by branch and bound, history-dependent ones by
    backward induction over histories (there it is exact). Raises `TooLarge`.
    """
    if kind == "stationary":
        return _stationary(tree, values, tolerance)
    found = _time(tree, values, tolerance) if kind == "time" else _history(tree, values, tolerance)
    actions = np.concatenate([actions_array(policy) for policy in found])
    worth = probabilities(tree, kind, actions) @ values
    return [policy for policy, value in zip(found, worth, strict=True) if value >= worth.max() - tolerance]


def _stationary(tree: Tree, values: Array, tolerance: float) -> list[Policy]:
    actions = every_stationary(tree.pomdp)
    size = max(1, 2**24 // len(values))
    worth = np.concatenate(
        [probabilities(tree, "stationary", actions[i : i + size]) @ values for i in range(0, len(actions), size)]
    )
    best = np.flatnonzero(worth >= worth.max() - tolerance)
    return [Policy("stationary", tuple(actions[i].tolist())) for i in best]


def _induct(tree: Tree, values: Array, points: tuple[IntArray, ...], actions: IntArray) -> tuple[float, list[Array]]:
    """Best expectation when undecided points (-1) may look at the whole history; Q `(n_t, A)` per level."""
    V, Qs = values, []
    for t in range(len(points) - 1, -1, -1):
        starts = np.flatnonzero(np.diff(tree.parents[t + 1], prepend=-1))
        Q = np.add.reduceat(tree.steps[t + 1] * V[:, None], starts, axis=0)
        Qs.append(Q)
        decided = actions[points[t]]
        V = np.where(decided < 0, Q.max(axis=1), Q[np.arange(len(Q)), decided])
    return float(tree.steps[0][:, 0] @ V), Qs[::-1]


def _reach(tree: Tree, points: tuple[IntArray, ...], actions: IntArray) -> tuple[int | None, Array]:
    """The first point before the last move that is met with positive probability and still undecided.

    If there is none, `None` and the probabilities `(n,)` of the histories before the last move.
    """
    reach = tree.steps[0][:, 0]
    for t, point in enumerate(points[:-1]):
        undecided = point[(reach > 0) & (actions[point] < 0)]
        if len(undecided):
            return int(undecided.min()), reach
        parent = tree.parents[t + 1]
        reach = reach[parent] * tree.steps[t + 1][np.arange(len(parent)), actions[point[parent]]]
    return None, reach


def _time(tree: Tree, values: Array, tolerance: float) -> list[Policy]:
    """Branch and bound over all moves but the last; the bound lets undecided points see the whole history.

    The last move needs no search: once the others are fixed, each state's best action stands alone.
    """
    points, count = tree.points("time")
    best, bounded = -np.inf, 0
    found: list[Policy] = []
    start = np.full(count, -1, np.int64)
    root, Qs = _induct(tree, values, points, start)
    stack = [(root, start)]
    while stack:
        bound, actions = stack.pop()
        if bound < best - tolerance:
            continue
        point, reach = _reach(tree, points, actions)
        if point is not None:
            children = []
            for action in np.unique(tree.twins[point % tree.pomdp.S]):
                child = actions.copy()
                child[point] = action
                children.append((_induct(tree, values, points, child)[0], child))
            bounded += len(children)
            if bounded > _SEARCH_LIMIT:
                raise TooLarge(
                    f"over {_SEARCH_LIMIT} partial time-dependent policies would have to be compared; "
                    "use fewer states, actions or moves, or ask for stationary or history-dependent policies"
                )
            stack += sorted(children, key=lambda child: child[0])
            continue
        gains = np.zeros((count, tree.pomdp.A))
        np.add.at(gains, points[-1], reach[:, None] * Qs[-1])
        met = np.unique(points[-1][reach > 0])
        value = float(gains[met].max(axis=1).sum())
        if value < best - tolerance:
            continue
        best = max(best, value)
        options = [
            np.intersect1d(np.flatnonzero(gains[m] >= gains[m].max() - tolerance), tree.twins[m % tree.pomdp.S])
            for m in met
        ]
        if len(found) + np.prod([float(len(option)) for option in options]) > _SET_LIMIT:
            raise TooLarge(f"over {_SET_LIMIT} time-dependent policies tie; ask for another class of policies")
        for choice in product(*options):
            child = actions.copy()
            child[met] = choice
            found.append(Policy("time", tuple(int(a) if a >= 0 else None for a in child)))
    return found


def _history(tree: Tree, values: Array, tolerance: float) -> list[Policy]:
    points, count = tree.points("history")
    _, Qs = _induct(tree, values, points, np.full(count, -1, np.int64))
    partial = [(np.full(count, -1, np.int64), tree.steps[0][:, 0])]
    for t, point in enumerate(points):
        longer: list[tuple[IntArray, Array]] = []
        parent, last = tree.parents[t + 1], tree.prefixes[t][:, -1]
        loss = Qs[t].max(axis=1, keepdims=True) - Qs[t]
        for actions, reach in partial:
            met = np.flatnonzero(reach > 0)
            options = [
                np.intersect1d(np.flatnonzero(reach[n] * loss[n] <= tolerance), tree.twins[last[n]]) for n in met
            ]
            if len(longer) + np.prod([float(len(o)) for o in options]) > _SET_LIMIT:
                raise TooLarge(f"over {_SET_LIMIT} history-dependent policies tie; ask for another class of policies")
            for choice in product(*options):
                child = actions.copy()
                child[point[met]] = choice
                chosen = child[point[parent]]
                longer.append((child, reach[parent] * tree.steps[t + 1][np.arange(len(parent)), chosen]))
        partial = longer
    return [Policy("history", tuple(int(a) if a >= 0 else None for a in actions)) for actions, _ in partial]
