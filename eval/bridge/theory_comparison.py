"""A run compared with the theory: its tabular problem estimated and solved, and each arm measured against the solution.

`devnull.theory` says which policies are truly optimal and which ones feedback favours. Each arm's J, J_obs, E+ and E-
are given as measured, with intervals, and as the tabular problem has them for the arm's actions.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from devnull.agents.episode import Episode
from devnull.eval.bridge.tabular_problem import (
    EmptyEpisode,
    TabularProblem,
    estimate_problem,
    judge_empty_episode,
    transitions,
)
from devnull.eval.bridge.trajectories import STAGE_ACTIONS, StageHistory, Trajectory, to_trajectory
from devnull.eval.clusters import Clusters, pair_weights
from devnull.eval.statistics import Estimate, estimate_ratio
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.returns import return_range
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.theory.measures import Measures, measure, overestimation, underestimation
from devnull.theory.policies import Policy
from devnull.theory.solve import Solved, solve

_RESAMPLES = 100
_ActionPath = tuple[tuple[StageHistory, str], ...]
"""A deterministic policy: its action after each history that it can come to, in order."""


@dataclass(frozen=True, eq=False)
class ArmComparison:
    """One arm of the run: as measured, and as the tabular problem has it."""

    episodes: int
    """How many it has."""
    measured: dict[str, Estimate]
    """J, J_obs, E_plus and E_minus over its episodes, with intervals clustered by task or instance."""
    modelled: Measures
    """Its mixture of actions run through the tabular problem: the measured figures without the luck of the draw."""
    favoured_share: float
    """Share of episodes that deal with every stage as some policy that feedback favours (maximises J_obs) does."""
    best_share: float
    """The same for the truly best policies (those that maximise J)."""

    @property
    def outside_interval(self) -> list[str]:
        """Names of the measured figures whose interval misses the modelled value."""
        return [
            name
            for name, m in self.measured.items()
            if m.low is not None
            and m.high is not None
            and not m.low - 1e-9 <= getattr(self.modelled, name) <= m.high + 1e-9
        ]


@dataclass(frozen=True, eq=False)
class TheoryComparison:
    """The estimated problem of a group of tasks, solved, beside what the run's arms did."""

    tasks: tuple[str, ...]
    """Names of the tasks that are counted together as variants of one problem."""
    problem: TabularProblem
    solved: Solved
    favoured: tuple[str, ...]
    """Actions of each policy that maximises J_obs, in words: `driver plain, cuda hidden`."""
    best: tuple[str, ...]
    """The same of each policy that maximises J."""
    favoured_stability: float
    """Share of bootstrap samples in which one of `favoured` is favoured again: how sure the answer is."""
    best_stability: float
    """The same for `best`."""
    arms: dict[str, ArmComparison]
    left_out: dict[str, int]
    """Reason to the number of episodes that were not counted for it."""


def compare_with_theory(
    episodes: Iterable[Episode], evaluator: Evaluator, tasks: Mapping[str, Task]
) -> list[TheoryComparison]:
    """Estimates and solves the tabular problem of each group of tasks that are alike, and measures each arm against it.

    Args:
        episodes: Of any number of arms and tasks; those that ended by an infrastructure failure, or whose judgement
            cannot be read, are counted in `left_out`.
        evaluator: Whose beliefs and G_obs the problem takes.
        tasks: By name; every episode's must be there.

    Raises `InputError` where there is nothing to count.
    """
    groups: dict[tuple[object, ...], tuple[Task, list[Trajectory], Counter[str]]] = {}
    for episode in episodes:
        task = tasks[episode.task]
        _, trajectories, left_out = groups.setdefault(_problem_key(task), (task, [], Counter()))
        if episode.error is not None:
            left_out["ended by an infrastructure failure"] += 1
            continue
        try:
            trajectories.append(to_trajectory(episode, task, evaluator))
        except MalformedAnswer:
            left_out["the judge's answers cannot be read"] += 1
    if not any(trajectories for _, trajectories, _ in groups.values()):
        reasons = sum((left_out for _, _, left_out in groups.values()), Counter[str]())
        raise InputError(f"there is nothing to count: {format_left_out(reasons) or 'no episodes'}")
    return [
        _compare_problem(trajectories, task, judge_empty_episode(task, evaluator), left_out)
        for task, trajectories, left_out in groups.values()
        if trajectories
    ]


def format_left_out(left_out: Mapping[str, int]) -> str:
    """Reasons and counts in words: `3 episodes: ended by an infrastructure failure`."""
    return "; ".join(f"{n} episode{'s' * (n != 1)}: {reason}" for reason, n in left_out.items())


def _problem_key(task: Task) -> tuple[object, ...]:
    """Tasks with an equal key are variants of one problem and may be counted together."""
    stages = tuple(
        (s.name, s.needs, s.rewards, s.verbose is None, s.success is None, s.command.split()[0]) for s in task.stages
    )
    return (task.family, stages, task.fault.stage, task.fault.p, task.fault.evidence, task.fault.hideable)


def _compare_problem(
    trajectories: Sequence[Trajectory], task: Task, empty: EmptyEpisode, left_out: Mapping[str, int]
) -> TheoryComparison:
    """Estimates and solves one problem."""
    problem = estimate_problem(trajectories, task, empty)
    solved = solve(problem.returns, "history")
    favoured = _action_paths(problem, solved, solved.J_obs_optimal)
    best = _action_paths(problem, solved, solved.J_optimal)
    arms = {}
    for name in sorted({p.arm for p in trajectories}):
        own = [p for p in trajectories if p.arm == name]
        arms[name] = ArmComparison(
            episodes=len(own),
            measured=_estimate_measures(own, task),
            modelled=_model_measures(problem, own),
            favoured_share=float(np.average([_follows(p, favoured) for p in own], weights=_weights(own, task))),
            best_share=float(np.average([_follows(p, best) for p in own], weights=_weights(own, task))),
        )
    answers = _format_paths(task, favoured), _format_paths(task, best)
    again = [0, 0]
    for sample in _bootstrap_samples(trajectories, _RESAMPLES):
        resampled = estimate_problem(sample, task, empty)
        resolved = solve(resampled.returns, "history")
        for n, optimal in enumerate((resolved.J_obs_optimal, resolved.J_optimal)):
            again[n] += bool(set(_format_paths(task, _action_paths(resampled, resolved, optimal))) & set(answers[n]))
    return TheoryComparison(
        tasks=tuple(sorted({p.task for p in trajectories})),
        problem=problem,
        solved=solved,
        favoured=answers[0],
        best=answers[1],
        favoured_stability=again[0] / _RESAMPLES,
        best_stability=again[1] / _RESAMPLES,
        arms=arms,
        left_out=dict(left_out),
    )


def _estimate_measures(own: Sequence[Trajectory], task: Task) -> dict[str, Estimate]:
    """J, J_obs, E_plus and E_minus with their 95 % intervals."""
    G, G_obs = [p.G for p in own], [p.G_obs for p in own]
    clusters = Clusters([(p.task, p.seed) for p in own])
    plus, minus = overestimation(G, G_obs).tolist(), underestimation(G, G_obs).tolist()
    values = {"J": G, "J_obs": G_obs, "E_plus": plus, "E_minus": minus}
    least, greatest = return_range(task)
    limits = {name: (least, greatest) if name.startswith("J") else (0.0, greatest - least) for name in values}
    return {
        name: estimate_ratio(
            each, [1.0] * len(own), clusters, limits=[limits[name]] * len(own), weights=_weights(own, task)
        )
        for name, each in values.items()
    }


def _weights(own: Sequence[Trajectory], task: Task) -> NDArray[np.float64]:
    """Of each: 1, but where both builds of an instance were played, as the world draws them."""
    keys = [(p.arm, p.task, p.seed, p.sample) for p in own]
    return pair_weights(keys, [p.faulty for p in own], [task.fault.p] * len(own))


def _model_measures(problem: TabularProblem, own: Sequence[Trajectory]) -> Measures:
    """The arm as a stochastic policy, its actions as often as they were seen after each history, in the problem."""
    counts: dict[tuple[StageHistory, str], int] = Counter(
        (p.endings[:i], action) for p in own for i, action in enumerate(p.actions)
    )
    totals: dict[StageHistory, int] = Counter()
    for (history, _), n in counts.items():
        totals[history] += n
    returns = problem.returns
    T = returns.pomdp.T
    weights: NDArray[np.float64] = np.ones(len(returns.sequences.states))
    for n, row in enumerate(returns.sequences.states.tolist()):
        for here, there in pairwise(row):
            history = problem.states[here]
            if totals[history] == 0:
                weights[n] = 0.0
                break
            weights[n] *= sum(
                counts[history, action] / totals[history] * T[here, a, there] for a, action in enumerate(STAGE_ACTIONS)
            )
    # histories that the arm never came to, though its actions might have led there: what it would do is not known
    return measure(returns.G, returns.G_obs, weights / weights.sum())


def _bootstrap_samples(trajectories: Sequence[Trajectory], count: int) -> Iterator[list[Trajectory]]:
    """Bootstrap samples, stratified: each sequence of actions with each build as often as it was seen."""
    groups: dict[tuple[object, ...], list[Trajectory]] = {}
    for p in trajectories:
        groups.setdefault((*p.actions, p.faulty), []).append(p)
    rng = random.Random(0)
    for _ in range(count):
        yield [rng.choice(group) for group in groups.values() for _ in group]


def _action_paths(problem: TabularProblem, solved: Solved, policies: Iterable[Policy]) -> list[_ActionPath]:
    """The policies by their actions; two that never act differently are one. An action never seen counts as `skip`."""
    prefixes = [row for level in solved.tree.prefixes[:-1] for row in level.tolist()]
    paths: dict[_ActionPath, None] = {}
    for policy in policies:
        path = []
        for row, action in zip(prefixes, policy.actions, strict=True):
            if action is not None:
                history, name = problem.states[row[-1]], STAGE_ACTIONS[action]
                known = transitions(problem.transition_probabilities, problem.task, history)
                path.append((history, name if name in known else "skip"))
        paths[tuple(path)] = None
    return list(paths)


def _follows(p: Trajectory, policies: Sequence[_ActionPath]) -> bool:
    """Whether the episode deals with every stage as one of the policies would."""
    return any(
        all(dict(path).get(p.endings[:i], "skip") == action for i, action in enumerate(p.actions)) for path in policies
    )


def _format_paths(task: Task, paths: Sequence[_ActionPath]) -> tuple[str, ...]:
    return tuple(sorted({_format_path(task, path) for path in paths}))


def _format_path(task: Task, path: _ActionPath) -> str:
    """`driver plain, cuda hidden`; after a stage that is not installed, only what is not `skip` is named."""
    words = []
    for history, action in path:
        stage = task.stages[len(history)].name
        if all(truth.installed for truth, _ in history):
            words.append(f"{stage} {action}")
        elif action != "skip":
            words.append(f"{stage} {action} after {', '.join(t.words for t, _ in history)}")
    return ", ".join(words)
