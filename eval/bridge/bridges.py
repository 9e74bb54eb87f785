"""From transcripts back to the theory: a run as a table, solved, and its arms held against the solution.

`theory` says which conduct is best and which one feedback favours; each arm is measured, with intervals, beside
what the table has for its conduct.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from devnull.agents.episode import Episode
from devnull.eval.bridge.conduct import CONDUCTS, Past, Played, play
from devnull.eval.bridge.tabular import Nothing, Tabular, moves, nothing_done, tabular
from devnull.eval.statistics import Clusters, Estimate, ratio
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.theory.measures import Measures, measure, overestimation, underestimation
from devnull.theory.policies import Policy
from devnull.theory.solve import Solved, solve

_RESAMPLES = 100
Path = tuple[tuple[Past, str], ...]
"""What a policy does in each past that it can come to, in order."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One policy of the run, measured and as the table has it."""

    episodes: int
    measured: dict[str, Estimate]
    """J, J_obs, E_plus and E_minus over its episodes, with intervals clustered by task or instance."""
    modelled: Measures
    """Its conduct in the table: what the measured figures would be without chance."""
    favoured: float
    """Share of episodes that deal with every stage as some policy that feedback favours does."""
    best: float
    """The same for the truly best."""

    @property
    def outside(self) -> list[str]:
        """Measured figures whose interval misses what the table has."""
        return [
            name
            for name, m in self.measured.items()
            if m.low is not None
            and m.high is not None
            and not m.low - 1e-9 <= getattr(self.modelled, name) <= m.high + 1e-9
        ]


@dataclass(frozen=True, eq=False)
class Bridge:
    """The estimated problem, solved, beside what the run's arms did."""

    tasks: tuple[str, ...]
    table: Tabular
    solved: Solved
    favoured: tuple[str, ...]
    """Conduct of each policy that maximises J_obs, in words."""
    best: tuple[str, ...]
    """Of each that maximises J."""
    favoured_again: float
    """Share of bootstrap samples in which one of these is favoured again: how sure the answer is."""
    best_again: float
    arms: dict[str, Arm]
    left_out: dict[str, int]
    """Episodes that count for nothing here, by why."""


def bridges(episodes: Iterable[Episode], evaluator: Evaluator, tasks: Mapping[str, Task]) -> list[Bridge]:
    """One for each group of tasks that are alike. Raises `InputError` where there is nothing to count."""
    groups: dict[tuple[object, ...], tuple[Task, list[Played], Counter[str]]] = {}
    for episode in episodes:
        task = tasks[episode.task]
        _, played, left_out = groups.setdefault(_alike(task), (task, [], Counter()))
        if episode.error is not None:
            left_out["ended by an infrastructure failure"] += 1
            continue
        try:
            played.append(play(episode, task, evaluator))
        except MalformedAnswer:
            left_out["the judge's answers cannot be read"] += 1
    if not any(played for _, played, _ in groups.values()):
        reasons = sum((left_out for _, _, left_out in groups.values()), Counter[str]())
        raise InputError(f"there is nothing to count: {spelt(reasons) or 'no episodes'}")
    return [
        _bridge(played, task, nothing_done(task, evaluator), left_out)
        for task, played, left_out in groups.values()
        if played
    ]


def spelt(left_out: Mapping[str, int]) -> str:
    """`3 episodes: ended by an infrastructure failure`"""
    return "; ".join(f"{n} episode{'s' * (n != 1)}: {reason}" for reason, n in left_out.items())


def _alike(task: Task) -> tuple[object, ...]:
    """Tasks with the same answer are variants of one problem and may be counted together."""
    stages = tuple(
        (s.name, s.needs, s.rewards, s.verbose is None, s.success is None, s.command.split()[0]) for s in task.stages
    )
    return (task.family, stages, task.fault.stage, task.fault.p, task.fault.evidence, task.fault.hideable)


def _bridge(played: Sequence[Played], task: Task, nothing: Nothing, left_out: Mapping[str, int]) -> Bridge:
    """Estimates and solves one problem. `nothing`: what is shown and believed where nothing was done."""
    table = tabular(played, task, nothing)
    solved = solve(table.returns, "history")
    favoured, best = _paths(table, solved, solved.J_obs_optimal), _paths(table, solved, solved.J_optimal)
    arms = {}
    for name in sorted({p.arm for p in played}):
        own = [p for p in played if p.arm == name]
        arms[name] = Arm(
            episodes=len(own),
            measured=_measured(own),
            modelled=_modelled(table, own),
            favoured=sum(_follows(p, favoured) for p in own) / len(own),
            best=sum(_follows(p, best) for p in own) / len(own),
        )
    answers = _spoken(task, favoured), _spoken(task, best)
    again = [0, 0]
    for sample in _resamples(played, _RESAMPLES):
        other = tabular(sample, task, nothing)
        resolved = solve(other.returns, "history")
        for n, optimal in enumerate((resolved.J_obs_optimal, resolved.J_optimal)):
            again[n] += bool(set(_spoken(task, _paths(other, resolved, optimal))) & set(answers[n]))
    return Bridge(
        tasks=tuple(sorted({p.task for p in played})),
        table=table,
        solved=solved,
        favoured=answers[0],
        best=answers[1],
        favoured_again=again[0] / _RESAMPLES,
        best_again=again[1] / _RESAMPLES,
        arms=arms,
        left_out=dict(left_out),
    )


def _measured(own: Sequence[Played]) -> dict[str, Estimate]:
    """J, J_obs, E_plus and E_minus with their 95 % intervals."""
    G, G_obs = [p.G for p in own], [p.G_obs for p in own]
    clusters = Clusters([(p.task, p.seed) for p in own])
    plus, minus = overestimation(G, G_obs).tolist(), underestimation(G, G_obs).tolist()
    values = {"J": G, "J_obs": G_obs, "E_plus": plus, "E_minus": minus}
    return {name: ratio(each, [1.0] * len(own), clusters) for name, each in values.items()}


def _modelled(table: Tabular, own: Sequence[Played]) -> Measures:
    """The arm's mixture of conducts, by how often it was seen in each past, run through the table."""
    counts: dict[tuple[Past, str], int] = Counter(
        (p.endings[:i], done) for p in own for i, done in enumerate(p.conducts)
    )
    totals: dict[Past, int] = Counter()
    for (past, _), n in counts.items():
        totals[past] += n
    returns = table.returns
    T = returns.pomdp.T
    weights: NDArray[np.float64] = np.ones(len(returns.sequences.states))
    for n, row in enumerate(returns.sequences.states.tolist()):
        for here, there in pairwise(row):
            past = table.states[here]
            if totals[past] == 0:
                weights[n] = 0.0
                break
            weights[n] *= sum(counts[past, done] / totals[past] * T[here, a, there] for a, done in enumerate(CONDUCTS))
    # pasts that the arm never came to, though its conduct might have: what it would do there is not known
    return measure(returns.G, returns.G_obs, weights / weights.sum())


def _resamples(played: Sequence[Played], count: int) -> Iterator[list[Played]]:
    """Bootstrap samples, each way of dealing with each build as often as it was seen."""
    groups: dict[tuple[object, ...], list[Played]] = {}
    for p in played:
        groups.setdefault((*p.conducts, p.faulty), []).append(p)
    rng = random.Random(0)
    for _ in range(count):
        yield [rng.choice(group) for group in groups.values() for _ in group]


def _paths(table: Tabular, solved: Solved, policies: Iterable[Policy]) -> list[Path]:
    """Each policy's conduct; two that never act differently are one. A conduct never seen counts as skipping."""
    prefixes = [row for level in solved.tree.prefixes[:-1] for row in level.tolist()]
    found: dict[Path, None] = {}
    for policy in policies:
        done = []
        for row, action in zip(prefixes, policy.actions, strict=True):
            if action is not None:
                past, name = table.states[row[-1]], CONDUCTS[action]
                done.append((past, name if name in moves(table.chances, table.task, past) else "skip"))
        found[tuple(done)] = None
    return list(found)


def _follows(p: Played, policies: Sequence[Path]) -> bool:
    """Whether the episode deals with every stage as one of the policies would."""
    return any(
        all(dict(path).get(p.endings[:i], "skip") == done for i, done in enumerate(p.conducts)) for path in policies
    )


def _spoken(task: Task, found: Sequence[Path]) -> tuple[str, ...]:
    return tuple(sorted({_in_words(task, path) for path in found}))


def _in_words(task: Task, path: Path) -> str:
    """`driver plain, cuda hidden`; what it does off the happy path is said only where it is not to skip."""
    words = []
    for past, done in path:
        stage = task.stages[len(past)].name
        happy = all(truth.installed for truth, _ in past)
        if happy:
            words.append(f"{stage} {done}")
        elif done != "skip":
            words.append(f"{stage} {done} after {', '.join(t.value.replace('_', ' ') for t, _ in past)}")
    return ", ".join(words)
