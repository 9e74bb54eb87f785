"""Deterministic policies of three classes, and what each makes likely."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from devnull.theory.errors import TheoryInputError, TooLarge
from devnull.theory.measures import Measures, overestimation, underestimation
from devnull.theory.pomdp import POMDP, Array
from devnull.theory.returns import Returns
from devnull.theory.sequences import IntArray

PolicyClass = Literal["stationary", "time", "history"]
"""What an action may depend on: the state; the state and the time; all states so far."""
POLICY_CLASSES: tuple[PolicyClass, ...] = ("stationary", "time", "history")
"""From the smallest to the largest; each holds the one before it."""
_POLICY_LIMIT = 2**20
"""Stationary policies (A^S) that may be enumerated."""
_CHUNK = 2**24
"""Probabilities (policies x sequences) computed at once."""


@dataclass(frozen=True)
class Policy:
    """One action for each decision point of a class; `None` where this policy never comes to act.

    Decision points: `stationary` the S states; `time` the horizon x S pairs (time, state), time first;
    `history` the reachable state prefixes of length 1 to horizon, shorter first, then lexicographic.
    """

    kind: PolicyClass
    """What its actions may depend on."""
    actions: tuple[int | None, ...]
    """By decision point."""


@dataclass(frozen=True, eq=False)
class Tree:
    """The state histories of a problem, level by level; every leaf is a row of `Sequences.states`."""

    pomdp: POMDP
    prefixes: tuple[IntArray, ...]
    """Level t: `(n_t, t + 1)`, lexicographic."""
    parents: tuple[IntArray, ...]
    """Level t >= 1: `(n_t,)` row of level t - 1; level 0 is empty."""
    steps: tuple[Array, ...]
    """Level t >= 1: `(n_t, A)` probability of the last move under each action; level 0: `(n_0, 1)`, P0."""
    twins: IntArray
    """`(S, A)`: the first action that does in this state exactly what this one does."""

    @classmethod
    def of(cls, returns: Returns) -> "Tree":
        """The tree of a problem's reachable state sequences."""
        pomdp, rows = returns.pomdp, returns.sequences.states
        prefixes, parents, steps = [], [np.zeros(0, np.int64)], [pomdp.P0[np.unique(rows[:, 0])][:, None]]
        new = np.zeros(len(rows), bool)
        new[0] = True
        above = np.zeros(len(rows), np.int64)
        for time in range(rows.shape[1]):
            new[1:] |= rows[1:, time] != rows[:-1, time]
            first = np.flatnonzero(new)
            prefixes.append(rows[first, : time + 1])
            if time:
                parents.append(above[first])
                steps.append(pomdp.T[rows[first, time - 1], :, rows[first, time]])
            above = np.cumsum(new) - 1
        same = (pomdp.T[:, :, None, :] == pomdp.T[:, None, :, :]).all(axis=3)
        return cls(pomdp, tuple(prefixes), tuple(parents), tuple(steps), same.argmax(axis=2))

    def points(self, kind: PolicyClass) -> tuple[tuple[IntArray, ...], int]:
        """The decision point of each history at levels 0 to horizon - 1, and how many there are."""
        levels = self.prefixes[:-1]
        if kind == "stationary":
            return tuple(level[:, -1] for level in levels), self.pomdp.S
        if kind == "time":
            S = self.pomdp.S
            return tuple(t * S + level[:, -1] for t, level in enumerate(levels)), S * len(levels)
        starts = np.cumsum([0, *(len(level) for level in levels)])
        return tuple(np.arange(len(level)) + starts[t] for t, level in enumerate(levels)), int(starts[-1])

    def policy_as_json(self, policy: Policy) -> list[object]:
        """A policy as JSON lists it: stationary `[action per state]`; time `[[action per state] per move]`; history
        `[[[states so far], action], ...]` for the histories it can meet. `None` (null): never acts there."""
        if policy.kind == "stationary":
            return list(policy.actions)
        if policy.kind == "time":
            S = self.pomdp.S
            return [list(policy.actions[t : t + S]) for t in range(0, len(policy.actions), S)]
        histories = [row.tolist() for level in self.prefixes[:-1] for row in level]
        return [[h, a] for h, a in zip(histories, policy.actions, strict=True) if a is not None]


def probabilities(tree: Tree, kind: PolicyClass, actions: IntArray) -> Array:
    """`(P, N)`: probability of every state sequence under policies `(P, points)`; -1 stands for `None`."""
    points, _ = tree.points(kind)
    reach = np.broadcast_to(tree.steps[0][:, 0], (len(actions), len(tree.prefixes[0])))
    for t, point in enumerate(points):
        parent = tree.parents[t + 1]
        chosen = actions[:, point[parent]]
        reach = reach[:, parent] * tree.steps[t + 1][np.arange(len(parent))[None, :], chosen]
    return reach


def measures_table(returns: Returns, tree: Tree, kind: PolicyClass, actions: IntArray) -> Array:
    """`(P, 4)`: J, J_obs, E+ and E- of policies `(P, points)`."""
    G, G_obs = returns.G, returns.G_obs
    columns = np.stack([G, G_obs, overestimation(G, G_obs), underestimation(G, G_obs)], axis=1)
    size = max(1, _CHUNK // len(G))
    parts = [
        probabilities(tree, kind, actions[start : start + size]) @ columns for start in range(0, len(actions), size)
    ]
    return np.concatenate(parts)


def every_stationary(pomdp: POMDP) -> IntArray:
    """`(A^S, S)`: all maps from states to actions, lexicographic. Raises `TooLarge` beyond `_POLICY_LIMIT`."""
    S, A = pomdp.S, pomdp.A
    if A**S > _POLICY_LIMIT:
        raise TooLarge(
            f"S={S}, A={A}: {A}^{S} stationary policies, over the limit of {_POLICY_LIMIT}; use fewer states or actions"
        )
    index = np.arange(A**S)[:, None]
    return np.asarray(index // A ** np.arange(S - 1, -1, -1)[None, :] % A, np.int64)


def actions_array(policy: Policy) -> IntArray:
    """The policy as `probabilities` takes it: `(1, points)`, -1 for `None`."""
    return np.array([[-1 if action is None else action for action in policy.actions]], np.int64)


def measures_of(returns: Returns, tree: Tree, policy: Policy) -> Measures:
    """J, J_obs, E+ and E- of one policy; raises `TheoryInputError` where it fits the class or the problem not."""
    points, count = tree.points(policy.kind)
    if len(policy.actions) != count:
        raise TheoryInputError(
            f"policy: {len(policy.actions)} actions; a {policy.kind} policy of this problem has {count} decision points"
        )
    actions = actions_array(policy)
    if (actions >= tree.pomdp.A).any() or (actions < -1).any():
        raise TheoryInputError(f"policy {policy.actions}: actions run from 0 to {tree.pomdp.A - 1}")
    acts = np.zeros(count, bool)
    reach = tree.steps[0][:, 0]
    for t, point in enumerate(points):
        acts[point[reach > 0]] = True
        parent = tree.parents[t + 1]
        reach = reach[parent] * tree.steps[t + 1][np.arange(len(parent)), actions[0, point[parent]]]
    if (acts & (actions[0] < 0)).any():
        at = int(np.flatnonzero(acts & (actions[0] < 0))[0])
        raise TheoryInputError(f"policy: no action at decision point {at}, which it reaches; give one")
    J, J_obs, E_plus, E_minus = (float(value) for value in measures_table(returns, tree, policy.kind, actions)[0])
    return Measures(J, J_obs, E_plus, E_minus)


def behaviour(tree: Tree, policy: Policy) -> Policy:
    """What a policy does: `None` wherever it never comes to act, and the first of several actions that do the same.

    Policies with equal behaviour are equally likely to produce any sequence, so all their measures agree.
    """
    points, count = tree.points(policy.kind)
    actions = actions_array(policy)[0]
    does: list[int | None] = [None] * count
    reach = tree.steps[0][:, 0]
    for t, point in enumerate(points):
        for n in np.flatnonzero(reach > 0):
            does[point[n]] = int(tree.twins[tree.prefixes[t][n, -1], actions[point[n]]])
        parent = tree.parents[t + 1]
        reach = reach[parent] * tree.steps[t + 1][np.arange(len(parent)), actions[point[parent]]]
    return Policy(policy.kind, tuple(does))
