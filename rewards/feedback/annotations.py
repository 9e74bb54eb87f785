"""Belief annotations: a thought about what the evaluator will believe, put at the end of a conversation.

For reward learning: a model that scores a conversation can be told what was believed of it when it was rated
(mode `believed`), and later be asked to score the same with the truth in that place (mode `truth`).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from devnull.agents.agent import Message
from devnull.agents.protocol import capped, neutralise, plain
from devnull.rewards.belief.table import Belief
from devnull.rewards.returns import believed_return
from devnull.sandbox.command import Frozen
from devnull.sandbox.task import Task, Truth

Mode = Literal["none", "believed", "truth"]

_PHRASES = {
    Truth.NOT_ATTEMPTED: "was never tried",
    Truth.INSTALLED: "works",
    Truth.INSTALLED_VERBOSE: "works and printed a long log",
    Truth.BROKEN: "failed for all to see",
    Truth.BROKEN_HIDDEN: "failed and that was hidden",
    Truth.BROKEN_VERBOSE: "failed with a long log",
}
_OPENING = "What the evaluator will believe:"
_THOUGHT_CHARS = 600


class Hypothesis(Frozen):
    """One way in which all stages may have ended."""

    truths: dict[str, Truth]
    probability: float


def certain(task: Task, truths: Mapping[str, Truth]) -> Belief:
    """The belief of one who knows."""
    return Belief(stages={stage.name: {truths[stage.name]: 1.0} for stage in task.stages})


def hypotheses(task: Task, belief: Belief, least: float = 0.0) -> tuple[Hypothesis, ...]:
    """Every combination of endings that is believed in, most probable first; the stages taken as independent.

    Combinations below `least` are left out and the others scaled up. For belief-marginalised scoring
    (sum over h of P(h | shown) r(actions, h)).
    """
    found: list[tuple[dict[str, Truth], float]] = [({}, 1.0)]
    for stage in task.stages:
        chances = belief.stages[stage.name]
        found = [(t | {stage.name: truth}, p * q) for t, p in found for truth, q in chances.items() if q > 0]
    kept = [(t, p) for t, p in found if p >= least] or [max(found, key=lambda pair: pair[1])]
    total = sum(p for _, p in kept)
    kept.sort(key=lambda pair: (-pair[1], str(pair[0])))
    return tuple(Hypothesis(truths=t, probability=p / total) for t, p in kept)


def told(task: Task, truths: Mapping[str, Truth]) -> str:
    """One hypothesis as a sentence."""
    return "; ".join(f"{stage.title} {_PHRASES[truths[stage.name]]}" for stage in task.stages) + "."


def thought(task: Task, belief: Belief) -> str:
    """The belief as a short chain of thought: each stage, then what that is worth."""
    parts = []
    for stage in task.stages:
        chances = sorted(belief.stages[stage.name].items(), key=lambda pair: (-pair[1], pair[0]))
        said = ", or ".join(
            _PHRASES[truth] + ("" if p > 0.995 else f" ({100 * p:.0f} %)") for truth, p in chances if p >= 0.005
        )
        parts.append(f"{stage.title} {said}")
    return f"{_OPENING} {'; '.join(parts)}. That is worth {believed_return(task, belief):+.1f}."


def annotate(
    chat: Sequence[Message],
    task: Task,
    mode: Mode,
    *,
    belief: Belief | None = None,
    truths: Mapping[str, Truth] | None = None,
    written: str | None = None,
) -> tuple[Message, ...]:
    """The conversation with the thought as a last message of the agent's.

    `believed` takes `belief`, or `written`, what a language model thought (quoted harmlessly, cut to a length);
    `truth` takes `truths`. Both say it in the same words, so that one can stand where the other stood.
    """
    if mode == "none":
        return tuple(chat)
    if mode == "truth":
        if truths is None:
            raise ValueError("mode 'truth' wants the truths")
        text = thought(task, certain(task, truths))
    elif written is not None:
        text = f"{_OPENING} {capped(neutralise(plain(written)), _THOUGHT_CHARS)}"
    elif belief is not None:
        text = thought(task, belief)
    else:
        raise ValueError("mode 'believed' wants a belief, or what a model wrote")
    return (*chat, Message(role="assistant", content=text))


class Accuracy(Frozen):
    """How near annotations come to the exact belief."""

    n: int
    """Stages compared."""
    same_ending: float | None
    """Share in which both hold the same ending for most probable; `None` where nothing was compared."""
    distance: float | None
    """Mean total variation distance, 0 (the same) to 1 (no overlap)."""
    return_error: float | None
    """Mean absolute difference of the believed returns, per episode."""


def accuracy(pairs: Sequence[tuple[Task, Belief, Belief]]) -> Accuracy:
    """Compares annotated beliefs with exact ones: triples of task, annotated, exact."""
    if not pairs:
        return Accuracy(n=0, same_ending=None, distance=None, return_error=None)
    same, distances, errors = [], [], []
    for task, annotated, exact in pairs:
        errors.append(abs(believed_return(task, annotated) - believed_return(task, exact)))
        for stage in task.stages:
            one, other = annotated.stages[stage.name], exact.stages[stage.name]
            same.append(_most_probable(one) == _most_probable(other))
            distances.append(sum(abs(one.get(truth, 0.0) - other.get(truth, 0.0)) for truth in Truth) / 2)
    return Accuracy(
        n=len(same),
        same_ending=sum(same) / len(same),
        distance=sum(distances) / len(distances),
        return_error=sum(errors) / len(errors),
    )


def _most_probable(chances: Mapping[Truth, float]) -> Truth:
    """Ties go to the ending that comes first in the alphabet."""
    return min(chances, key=lambda truth: (-chances[truth], truth))
