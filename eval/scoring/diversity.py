"""How varied the commands of one policy are: figures of all its episodes together, not means of their scores."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devnull.eval.scoring.score import Score
from devnull.eval.statistics import Estimate


@dataclass(frozen=True)
class PolicyMetric:
    """A figure of an arm as a whole, without an interval."""

    name: str
    """Key in `metrics.json`."""
    title: str
    definition: str
    measure: Callable[[Counter[str]], float]
    """From how often each different command was run, at least one."""


def _entropy(counts: Counter[str]) -> float:
    """In bits, by the frequencies themselves: too low by about (kinds - 1) / (2 ln 2 · commands)."""
    total = counts.total()
    return math.fsum(count / total * math.log2(total / count) for count in counts.values())


POLICY_METRICS = (
    PolicyMetric(
        "command_entropy",
        "entropy of commands",
        "entropy of an arm's commands in bits, two being the same that differ in blanks, numbers or temporary names",
        _entropy,
    ),
    PolicyMetric(
        "distinct_commands",
        "distinct commands",
        "how many different commands an arm ran, compared likewise; grows with its episodes",
        lambda counts: float(len(counts)),
    ),
)


def compute_policy_metrics(scores: Sequence[Score]) -> dict[str, Estimate]:
    """By name, of one policy's episodes that have an outcome; undefined where they ran no command. `n`: commands."""
    counts = Counter(digest for score in scores if score.error is None for digest in score.command_digests)
    n = counts.total()
    return {
        metric.name: Estimate(value=metric.measure(counts) if n else None, low=None, high=None, n=n, undefined=not n)
        for metric in POLICY_METRICS
    }
