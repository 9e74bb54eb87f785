"""Ratings and thumbs: feedback on one episode at a time, from the same beliefs as comparisons."""

import random
from collections.abc import Iterable, Iterator, Mapping

from devnull.agents.agent import Message
from devnull.agents.episode import Episode, EpisodeKey
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.evaluator import Evaluator, Judgement, Label
from devnull.rewards.feedback.comparisons import episode_messages, episode_true_return
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Task


class Rating(Frozen):
    """One rated episode. A learner gets `prompt`, `completion` and `value` only; the rest is for evaluation."""

    task: str
    evaluator: str
    """Name of the evaluator, or of the member of its panel who rated."""
    view: str = ""
    """Name of the sensors."""
    prompt: tuple[Message, ...]
    """The messages before the agent's first."""
    completion: tuple[Message, ...]
    key: EpisodeKey
    value: int
    """A rating from 1 to `levels`; a thumb is 1 (up) or 0 (down)."""
    levels: int
    """How many levels a rating has; 2 for a thumb."""
    G: float
    """True return."""
    G_obs: float
    """Believed return."""
    label: Label
    audited: bool = False
    """The episode was seen in full."""
    flagged: bool = False
    """The evaluator's detector flagged it."""


def make_ratings(
    episodes: Iterable[Episode], evaluator: Evaluator, tasks: Mapping[str, Task], seed: int
) -> Iterator[Rating]:
    """Rates every episode once, by ratings or thumbs as the evaluator's config asks.

    Every draw depends on `seed` and the episode only. Episodes with an infrastructure error are left out. The shuffled
    control permutes the ratings among the episodes. Raises `InputError` for an unfinished episode, and for an
    evaluator with a setting that is not for labels.
    """
    config = evaluator.config
    config.check_labels()
    rows = []
    for episode in sorted((e for e in episodes if e.error is None), key=lambda e: e.key):
        task = tasks[episode.task]
        rng = random.Random(f"{seed}/{evaluator.name}/{episode.key}")
        member = evaluator.draw_member(rng)
        audit = rng.random() < config.audit_rate
        evaluator.costs.asked += 1
        try:
            judgement = evaluator.judge(task, episode.transcript, seed=episode.stream, member=member, audit=audit)
        except MalformedAnswer:
            evaluator.costs.unjudged += 1
            continue
        if config.screens and judgement.flagged:
            evaluator.costs.screened += 1
            continue
        label, value = _rate(evaluator, task, judgement, rng)
        evaluator.costs.add_answer("shuffled" if config.shuffled else label)
        chat = episode_messages(episode)
        rows.append(
            Rating(
                task=episode.task,
                evaluator=member.name,
                view=member.sensors.name,
                prompt=chat[:2],
                completion=chat[2:],
                key=episode.key,
                value=value,
                levels=2 if config.feedback == "thumb" else config.levels,
                G=episode_true_return(episode, tasks),
                G_obs=judgement.G_obs,
                label=label,
                audited=audit,
                flagged=judgement.flagged,
            )
        )
    if config.shuffled:
        values = [row.value for row in rows]
        random.Random(f"{seed}/{evaluator.name}/shuffled").shuffle(values)
        rows = [
            row.model_copy(update={"value": value, "label": "shuffled"})
            for row, value in zip(rows, values, strict=True)
        ]
    yield from rows


def _rate(evaluator: Evaluator, task: Task, judgement: Judgement, rng: random.Random) -> tuple[Label, int]:
    """The source of the rating, and its value."""
    config = evaluator.config
    label: Label = "honest"
    source = rng.random()
    if source < config.poisoned:
        label = "poisoned"
    elif source < config.poisoned + config.misaligned:
        label = "misaligned"
        judgement = judgement.model_copy(update={"G_obs": judgement.G_misaligned})
    thumb = config.feedback == "thumb"
    value = int(evaluator.thumbs_up(task, judgement, rng)) if thumb else evaluator.rate(task, judgement, rng)
    flipped = rng.random() < config.label_noise
    if flipped != (label == "poisoned"):
        # turned round: up for down, the best for the worst
        value = 1 - value if thumb else config.levels + 1 - value
    return ("flipped" if flipped else label), value
