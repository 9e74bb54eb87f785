"""Belief-aware reward inference: what comparisons tell of the rewards, when it is known what the evaluator believed.

The paper's section 5 over the endings of stages: P(a preferred to b) = σ(β (φ(a) - φ(b))·θ), where φ holds the
believed probability of each ending of each stage and θ its reward. B is known; θ is found as far as B lets it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devnull.agents.episode import Episode
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.comparisons import EpisodeKey, Preference
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task, Truth
from devnull.theory.ambiguity import null_space, rank

Array = NDArray[np.float64]
Column = tuple[str, str, Truth]
"""Family (or the task, where a family's rewards differ), stage, ending."""

_WORDS = {
    Truth.NOT_ATTEMPTED: "never tried",
    Truth.INSTALLED: "works",
    Truth.INSTALLED_VERBOSE: "works, with a long log",
    Truth.BROKEN: "failed and showed it",
    Truth.BROKEN_HIDDEN: "failed and hid",
    Truth.BROKEN_VERBOSE: "failed, with a long log",
}


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Comparisons as numbers, each distinct one once."""

    columns: tuple[Column, ...]
    """Endings that at least one belief gives a chance; the others were never judged."""
    X: Array
    """`(n, k)`: believed chances of the one side minus the other's, times β."""
    wins: Array
    """`(n,)`: how often the one side was chosen."""
    losses: Array


@dataclass(frozen=True, eq=False)
class Inference:
    """Rewards as far as comparisons tell them. Each stage's are known up to a constant at best."""

    columns: tuple[Column, ...]
    least_squares: Array
    """`(k,)`: the smallest θ whose differences fit the (smoothed) log odds best."""
    maximum_likelihood: Array
    """`(k,)`: the smallest θ that makes the choices most likely."""
    rank: int
    """Of X: differences of rewards that the comparisons measure."""
    condition: float
    """Largest over smallest singular value of X that counts; large: some differences are hardly measured."""
    ambiguous: int
    """Directions that no comparison moves, the stages' constants left aside: 0 means that all is identified."""
    directions: tuple[str, ...]
    """The same in words."""
    identified: NDArray[np.bool_]
    """`(k, k)`: whether the difference of two rewards of a stage is measured."""
    log_likelihood: float
    """Per comparison, of the maximum-likelihood θ."""
    comparisons: int

    def difference(self, one: Column, other: Column) -> float | None:
        """Reward of `one` minus `other` by maximum likelihood; `None`: not identified."""
        i, j = self.columns.index(one), self.columns.index(other)
        if not self.identified[i, j]:
            return None
        return float(self.maximum_likelihood[i] - self.maximum_likelihood[j])


def infer(
    preferences: Iterable[Preference],
    episodes: Iterable[Episode],
    evaluator: Evaluator,
    tasks: Mapping[str, Task],
    *,
    ridge: float = 1e-6,
) -> Inference:
    """Rewards from the preferences that `evaluator` gave on `episodes`. See `solve`."""
    return solve(compare(preferences, episodes, evaluator, tasks), ridge=ridge)


def compare(
    preferences: Iterable[Preference], episodes: Iterable[Episode], evaluator: Evaluator, tasks: Mapping[str, Task]
) -> Comparisons:
    """What the evaluator believed of both sides of each preference. Raises `InputError` for unknown episodes."""
    known = {episode.key: episode for episode in episodes}
    members = {member.name: member for member in evaluator.members}
    beliefs: dict[tuple[EpisodeKey, str, bool], dict[Column, float]] = {}

    def believed(key: EpisodeKey, preference: Preference) -> dict[Column, float]:
        at = (key, preference.evaluator, preference.audited)
        if at not in beliefs:
            if key not in known or preference.evaluator not in members:
                missing = f"episode {key}" if key not in known else f"evaluator {preference.evaluator!r}"
                raise InputError(f"a preference speaks of {missing}, which is not among those given")
            episode = known[key]
            task = tasks[episode.task]
            judged = evaluator.judge(
                task,
                episode.transcript,
                seed=episode.stream,
                member=members[preference.evaluator],
                audit=preference.audited,
                paid=True,
            )
            beliefs[at] = {
                (_sharing(task, stage, tasks), stage, truth): p
                for stage, chances in judged.belief.stages.items()
                for truth, p in chances.items()
            }
        return beliefs[at]

    sides = [(believed(p.chosen_key, p), believed(p.rejected_key, p), members[p.evaluator].beta) for p in preferences]
    if not sides:
        raise InputError("no preferences to learn from; make some with `devnull label`")
    columns = tuple(sorted({column for a, b, _ in sides for column in (*a, *b)}))
    rows: dict[tuple[float, ...], list[int]] = {}
    for a, b, beta in sides:
        row = tuple(round(beta * (a.get(c, 0.0) - b.get(c, 0.0)), 12) + 0.0 for c in columns)
        flipped = tuple(-x + 0.0 for x in row)
        if row >= flipped:
            rows.setdefault(row, [0, 0])[0] += 1
        else:
            rows.setdefault(flipped, [0, 0])[1] += 1
    counts = np.array(list(rows.values()), float)
    return Comparisons(columns, np.array(list(rows), float), counts[:, 0], counts[:, 1])


def solve(comparisons: Comparisons, *, ridge: float = 1e-6) -> Inference:
    """Both estimates, and what no such comparison can tell. `ridge` (on θ², per comparison) keeps θ finite
    where all choices went one way."""
    X, wins, losses = comparisons.X, comparisons.wins, comparisons.losses
    _, scale, directions = np.linalg.svd(X, full_matrices=False)
    r = rank(X)
    basis = directions[:r]
    Z = X @ basis.T
    total = float((wins + losses).sum())
    by_squares = basis.T @ _least_squares(Z, wins, losses)
    z, likelihood = _most_likely(Z, wins / total, losses / total, ridge)
    open_directions = _ambiguous_directions(comparisons.columns, X)
    return Inference(
        columns=comparisons.columns,
        least_squares=by_squares,
        maximum_likelihood=basis.T @ z,
        rank=r,
        condition=float(scale[0] / scale[r - 1]) if r else float("nan"),
        ambiguous=len(open_directions),
        directions=tuple(_in_words(comparisons.columns, direction) for direction in open_directions),
        _identified=_identified(comparisons.columns, basis),
        log_likelihood=likelihood,
        comparisons=round(total),
    )


def _least_squares(Z: Array, wins: Array, losses: Array) -> Array:
    """Log odds, half a win added to each side so that none is infinite, weighted by how well they are known."""
    odds = np.log((wins + 0.5) / (losses + 0.5))
    weight = np.sqrt(1.0 / (1.0 / (wins + 0.5) + 1.0 / (losses + 0.5)))
    return np.asarray(np.linalg.lstsq(Z * weight[:, None], odds * weight, rcond=None)[0], float)


def _most_likely(Z: Array, wins: Array, losses: Array, ridge: float) -> tuple[Array, float]:
    """Newton's method on a concave function; `wins` and `losses` as shares. Returns θ and ln L."""

    def objective(z: Array) -> float:
        u = Z @ z
        return float(-wins @ np.logaddexp(0.0, -u) - losses @ np.logaddexp(0.0, u) - 0.5 * ridge * (z @ z))

    z = np.zeros(Z.shape[1])
    value = objective(z)
    for _ in range(200):
        p = np.exp(-np.logaddexp(0.0, -(Z @ z)))
        gradient = Z.T @ (wins * (1 - p) - losses * p) - ridge * z
        hessian = (Z * ((wins + losses) * p * (1 - p))[:, None]).T @ Z + ridge * np.eye(len(z))
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-9 and objective(z + size * step) < value:
            size /= 2
        gained = objective(z + size * step) - value
        z, value = z + size * step, value + gained
        if gained < 1e-15:
            break
    return z, value + 0.5 * ridge * float(z @ z)


def _stages_of(columns: Sequence[Column]) -> list[list[int]]:
    """Which columns belong to one stage."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, (family, stage, _) in enumerate(columns):
        groups.setdefault((family, stage), []).append(i)
    return list(groups.values())


def _ambiguous_directions(columns: Sequence[Column], X: Array) -> list[Array]:
    """A basis of the changes of θ that move no comparison, those by a constant within each stage left aside.

    Each is given modulo these constants, with as many zeros as they allow.
    """
    groups = _stages_of(columns)
    constants = np.zeros((len(groups), len(columns)))
    for row, group in zip(constants, groups, strict=True):
        row[group] = 1.0
    found = []
    for direction in null_space(np.concatenate([X, constants])):
        for group in groups:
            values, counts = np.unique(direction[group].round(9), return_counts=True)
            best = values[counts == counts.max()]
            direction[group] -= best[np.abs(best).argmin()]
        direction[np.abs(direction) < 1e-9] = 0.0
        smallest = np.abs(direction[direction != 0]).min()
        found.append(direction / smallest * np.sign(direction[direction != 0][0]))
    return found


def _in_words(columns: Sequence[Column], direction: Array) -> str:
    """`driver-cuda, cuda: failed and hid against never tried`, with weights where they differ."""
    even = bool(np.allclose(np.abs(direction[direction != 0]), 1.0))
    places = {(family, stage) for (family, stage, _), value in zip(columns, direction, strict=True) if value}
    one_stage = len(places) == 1

    def side(sign: int) -> str:
        terms = []
        for (family, stage, truth), value in zip(columns, direction, strict=True):
            if value * sign > 0:
                name = _WORDS[truth] if one_stage else f"{family}, {stage}: {_WORDS[truth]}"
                terms.append(name if even else f"{abs(value):.3g} x {name}")
        return " and ".join(terms) or "nothing"

    where = ", ".join(next(iter(places))) + ": " if one_stage else ""
    return f"{where}{side(1)} against {side(-1)}"


def _identified(columns: Sequence[Column], basis: Array) -> NDArray[np.bool_]:
    """`(k, k)`: e_i - e_j lies in the span of the comparisons."""
    k = len(columns)
    projector = basis.T @ basis
    same = np.zeros((k, k), bool)
    for group in _stages_of(columns):
        for i in group:
            for j in group:
                direction = np.zeros(k)
                direction[i] += 1.0
                direction[j] -= 1.0
                same[i, j] = bool(np.abs(projector @ direction - direction).max() < 1e-7)
    return same


def table(inference: Inference, truth: Mapping[Column, float] | None = None) -> str:
    """What was found, in lines: each reward against the first of its stage, and what is left open."""
    lines = [
        f"{inference.comparisons} comparisons measure {inference.rank} differences of rewards "
        f"(condition number {inference.condition:.3g}); "
        f"{inference.ambiguous} direction{'s are' if inference.ambiguous != 1 else ' is'} left open"
    ]
    for group in _stages_of(inference.columns):
        first = inference.columns[group[0]]
        for i in group[1:]:
            column = inference.columns[i]
            words = f"{column[0]}, {column[1]}: {_WORDS[column[2]]} against {_WORDS[first[2]]}"
            found = inference.difference(column, first)
            if found is None:
                lines.append(f"  {words}: not identified")
                continue
            squares = inference.least_squares[i] - inference.least_squares[group[0]]
            true = "" if truth is None else f", truly {truth[column] - truth[first]:+.2f}"
            lines.append(f"  {words}: {found:+.2f} by likelihood, {squares:+.2f} by least squares{true}")
    lines += [f"  open: {words}" for words in inference.directions]
    return "\n".join(lines)


def as_json(inference: Inference) -> dict[str, object]:
    return {
        "comparisons": inference.comparisons,
        "rank": inference.rank,
        "condition": inference.condition if inference.rank else None,
        "ambiguous": inference.ambiguous,
        "directions": list(inference.directions),
        "log_likelihood": inference.log_likelihood,
        "rewards": [
            {"group": group, "stage": stage, "ending": truth, "likelihood": float(ml), "least_squares": float(ls)}
            for (group, stage, truth), ml, ls in zip(
                inference.columns, inference.maximum_likelihood, inference.least_squares, strict=True
            )
        ],
    }


def _sharing(task: Task, stage: str, tasks: Mapping[str, Task]) -> str:
    """The family, where all its stages of that name have the same rewards; else the task."""
    others = {s.rewards for t in tasks.values() if t.family == task.family for s in t.stages if s.name == stage}
    return task.family if len(others) == 1 else task.name


def true_rewards(columns: Iterable[Column], tasks: Mapping[str, Task]) -> dict[Column, float]:
    """The tasks' own rewards of these endings, to hold the inferred ones against."""
    return {
        (group, name, truth): next(
            stage.rewards.reward(truth)
            for task in tasks.values()
            if group in (task.family, task.name)
            for stage in task.stages
            if stage.name == name
        )
        for group, name, truth in columns
    }
