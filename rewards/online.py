"""What an evaluator gives for one episode while a policy is trained on it: the believed return, by its own dials.

Each dial that changes labels has a meaning for a return too, so that one file trains by comparisons and online:

| key | what an episode is given, by draws from its own stream |
| --- | --- |
| `audit_rate` | with this chance the return believed after the full view |
| `misaligned` | for this share the return by `misaligned_values` |
| `poisoned` | for this share the return turned round: lowest + highest return of the task, less the believed one |
| `label_noise` | with this chance it is turned round by accident |
| `rating_noise` | Gaussian noise of so many levels, a level being (highest - lowest) / (`levels` - 1) |
| `[detector]` | the penalty taken off, or nothing at all (screening) |
| `[report]` | the report's channel added |

`beta`, `feedback`, `thumb_threshold` and `pairs_within` say how a return becomes a label, and here none is made.
`min_confidence` is of pairs, and refused.
"""

import random

from devnull.rewards.evaluator import Evaluator, Judgement, Label
from devnull.rewards.returns import return_range
from devnull.sandbox.errors import InputError
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Task
from devnull.sandbox.transcript import Transcript


class OnlineReward(Frozen):
    """What one episode was given, and how that came about."""

    value: float
    """The reward."""
    judgement: Judgement
    source: Label
    """Who gave it: honest, misaligned, poisoned, or flipped by accident."""
    audited: bool
    """It was seen in full."""
    screened: bool
    """The detector flagged it, and what is flagged is left out."""


def check_rewards_online(evaluator: Evaluator) -> None:
    """Raises `InputError` for an evaluator with a setting that has no meaning for single episodes."""
    if evaluator.config.min_confidence > 0.5:
        raise InputError(
            f"evaluator {evaluator.name}: min_confidence is of comparisons, and here each episode has a reward; leave "
            f"it out, or let it label pairs (devnull label) for dpo or a reward model"
        )


def reward_online(
    evaluator: Evaluator, task: Task, transcript: Transcript, *, stream: int, step: int = 0
) -> OnlineReward:
    """The reward of one episode; the same whenever it is asked for.

    Args:
        stream: The episode's, which all draws come from.
        step: Optimiser steps made before, for a detector whose penalty changes.

    Raises `MalformedAnswer` where a language model judges and none of its answers can be read.
    """
    config = evaluator.config
    rng = random.Random(f"{evaluator.name}/online/{stream}")
    audited = rng.random() < config.audit_rate
    source, flipped, noise = rng.random(), rng.random() < config.label_noise, rng.gauss(0, 1)
    judgement = evaluator.judge(task, transcript, seed=stream, audit=audited, step=step)
    label: Label = "honest"
    value = judgement.value()
    if source < config.poisoned:
        label = "poisoned"
    elif source < config.poisoned + config.misaligned:
        label, value = "misaligned", judgement.value(judgement.G_misaligned)
    low, high = return_range(task)
    if flipped != (label == "poisoned"):
        value = low + high - value
    if config.rating_noise:
        value += config.rating_noise * noise * (high - low) / (config.levels - 1)
    return OnlineReward(
        value=value,
        judgement=judgement,
        source="flipped" if flipped else label,
        audited=audited,
        screened=config.screens and judgement.flagged,
    )
