"""What sample would decide a verdict that is open: simulated from the episodes at hand.

A made-up sample draws tasks from those at hand, and for each as many instances as are asked for from its own. The
spread between tasks is first freed of the noise of their few instances, which would otherwise count twice. Where tasks
are taken as given (fewer than 8), only the instances are drawn.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from devnull.eval.clusters import MIN_CLUSTERS
from devnull.eval.comparing.mean_differences import PairedSample, mean_differences, sampling_noise
from devnull.eval.comparing.pairing import common_tasks, group_by_pair, largest_difference, pair_difference
from devnull.eval.comparing.verdicts import Verdicts, decide
from devnull.eval.scoring.score import Score
from devnull.sandbox.frozen import Frozen

WANTED_POWER = 0.8
_REPEATS = 200
_MORE_TASKS = (1, 1.5, 2, 3, 4)
_MORE_EPISODES = (1, 1.5, 2, 3, 4, 6, 8)
"""Multiples of today's tasks, and of today's episodes a task, that are tried."""


class Design(Frozen):
    """A sample, and how often it would give the answer."""

    tasks: int
    episodes_per_task: int
    """Of each of the two policies, each on an instance of its own."""
    power: float


class SamplePlan(Frozen):
    """What would decide one open verdict."""

    policy: str
    reference: str
    verdict: str
    expected: Literal["yes", "no"]
    """What the point estimates say; a sample decides it when the verdict says so too."""
    now: Design
    enough: tuple[Design, ...]
    """The least episodes a task for each number of tasks, where 80 % of samples say so; empty: more than were tried."""
    tried: Design
    """The largest sample that was tried."""


def plan_samples(
    scores: Sequence[Score], reference_scores: Sequence[Score], verdicts: Verdicts, *, seed: int = 0
) -> list[SamplePlan]:
    """Plans for each verdict that is *inconclusive*; none where the two have met no two instances of a common task."""
    open_verdicts = [name for name in verdicts.point if getattr(verdicts, name) == "inconclusive"]
    if not open_verdicts:
        return []
    world = _World(scores, reference_scores)
    if world.instances < 2:
        return []
    answers: dict[tuple[int, int], dict[tuple[str, str], float]] = {}

    def design(name: str, expected: str, number: int, size: int) -> Design:
        if (number, size) not in answers:
            answers[number, size] = _powers(world, number, size, seed)
        return Design(tasks=number, episodes_per_task=size, power=answers[number, size][name, expected])

    number, size = len(world.means), max(2, round(world.episodes))
    numbers = [number] if world.given else [round(number * more) for more in _MORE_TASKS]
    sizes = [round(size * more) for more in _MORE_EPISODES]
    plans = []
    for name in open_verdicts:
        expected: Literal["yes", "no"] = "yes" if verdicts.point[name] else "no"
        enough: list[Design] = []
        for tasks in numbers:
            most = enough[-1].episodes_per_task if enough else sizes[-1]
            tries = (design(name, expected, tasks, each) for each in sizes if each <= most)
            found = next((each for each in tries if each.power >= WANTED_POWER), None)
            if found is not None and (not enough or found.episodes_per_task < most):
                enough.append(found)
        plans.append(
            SamplePlan(
                policy=verdicts.policy,
                reference=verdicts.reference,
                verdict=name,
                expected=expected,
                now=design(name, expected, number, size),
                enough=tuple(enough),
                tried=design(name, expected, numbers[-1], sizes[-1]),
            )
        )
    return plans


class _World:
    """What made-up samples are drawn from."""

    def __init__(self, scores: Sequence[Score], reference_scores: Sequence[Score]) -> None:
        common = sorted(common_tasks(scores, reference_scores))
        policy, reference = (group_by_pair(side, common, "task") for side in (scores, reference_scores))
        pairs = [pair_difference(policy[task, 0], reference[task, 0]) for task in common]
        self.given = len(common) < MIN_CLUSTERS
        self.largest = largest_difference([*scores, *reference_scores])
        self.episodes = float(np.mean([pair.episodes for pair in pairs]))
        self.instances = float(np.mean([len(pair.parts) for pair in pairs]))
        means = np.array([pair.mean for pair in pairs])
        noise = sampling_noise([pair.parts for pair in pairs])[0]
        spread = means.var(axis=0, ddof=1) if len(pairs) > 1 else np.zeros_like(noise)
        true_share = np.clip(1 - noise / np.maximum(spread, 1e-12), 0, 1)
        centre = means.mean(axis=0)
        self.means = means if self.given else centre + np.sqrt(true_share) * (means - centre)
        self.parts = [pair.parts * np.sqrt(len(pair.parts) ** 3 / max(1, len(pair.parts) - 1)) for pair in pairs]
        """Of each task `(instances, 4)`: how far each instance's difference lies from the task's."""

    def draw(self, number: int, size: int, rng: np.random.Generator) -> PairedSample:
        """`_REPEATS` samples of so many tasks and episodes a task."""
        size = max(2, round(size * self.instances / self.episodes))
        chosen = (
            np.tile(np.arange(number), (_REPEATS, 1))
            if self.given
            else rng.integers(len(self.means), size=(_REPEATS, number))
        )
        counts = np.array([len(part) for part in self.parts])
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
        picked = begins[chosen][..., None] + (rng.random((_REPEATS, number, size)) * counts[chosen][..., None]).astype(
            int
        )
        parts = np.concatenate(self.parts)[picked]
        values = self.means[chosen][:, :, None, :] + parts
        if self.given:
            strata = np.repeat(np.arange(number), size)
            flat = values.reshape(_REPEATS, number * size, -1)
            return PairedSample(flat, strata, np.zeros((2, *flat.shape[::2])), 1, self.largest, given=True)
        mean = values.mean(axis=2)
        away = (values - mean[:, :, None]) / size
        second = size / (size - 1) * (away**2).sum(axis=2).mean(axis=1)
        third = size**2 / ((size - 1) * max(1, size - 2)) * (away**3).sum(axis=2).mean(axis=1)
        return PairedSample(mean, np.zeros(number, int), np.stack([second, third]), size, self.largest)


def _powers(world: _World, number: int, size: int, seed: int) -> dict[tuple[str, str], float]:
    """(Verdict, answer) to how often samples of this size give it."""
    _, low, high = mean_differences(world.draw(number, size, np.random.default_rng([seed, number, size])))
    powers: dict[tuple[str, str], float] = {}
    for name, (yes, no) in decide(low, high).items():
        powers[name, "yes"], powers[name, "no"] = float(yes.mean()), float((no & ~yes).mean())
    return powers


def describe_plan(plan: SamplePlan) -> str:
    """One sentence for a person."""
    now, tried = plan.now, plan.tried
    head = (
        f"{plan.policy} relative to {plan.reference}, {plan.verdict.replace('_', ' ')}: the point estimates say "
        f"{plan.expected}; {now.tasks} tasks × {now.episodes_per_task} episodes say so in {now.power:.0%} of samples, "
    )
    if tried.power == 0:
        return head + "and no larger sample would: what it is about hardly occurs in these episodes"
    if not plan.enough:
        return f"{head}even {tried.tasks} × {tried.episodes_per_task} in only {tried.power:.0%}"
    return head + "80 % want " + " or ".join(f"{each.tasks} × {each.episodes_per_task}" for each in plan.enough)
