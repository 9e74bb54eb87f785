"""Belief annotations: a last message that says what the evaluator will believe of a conversation.

For reward learning: a reward model can be trained on what was believed of each conversation (mode `believed`), and
then score it with the truth in that place (mode `truth`).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from devnull.agents.agent import Message
from devnull.agents.chat_format import escape_special_tokens, truncate_middle
from devnull.rewards.belief.belief import Belief
from devnull.rewards.returns import believed_return
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.screen_text import screen_text
from devnull.sandbox.task import Task, Truth

AnnotationMode = Literal["none", "believed", "truth"]
"""Which annotation a conversation ends with: none, what its evaluator believed, or the truth in the same words."""

_ENDING_PHRASES = {
    Truth.NOT_ATTEMPTED: "was never tried",
    Truth.INSTALLED: "works",
    Truth.INSTALLED_VERBOSE: "works and printed a long log",
    Truth.BROKEN: "failed for all to see",
    Truth.BROKEN_HIDDEN: "failed and that was hidden",
    Truth.BROKEN_VERBOSE: "failed with a long log",
}
_OPENING = "What the evaluator will believe:"
_ANNOTATION_CHARS = 600


class Hypothesis(Frozen):
    """One way in which all stages may have ended."""

    truths: dict[str, Truth]
    """Stage name to ending."""
    probability: float


def certain_belief(task: Task, truths: Mapping[str, Truth]) -> Belief:
    """The belief that is certain of the given endings (stage name to ending)."""
    return Belief(stages={stage.name: {truths[stage.name]: 1.0} for stage in task.stages})


def hypotheses(task: Task, belief: Belief, least: float = 0.0) -> tuple[Hypothesis, ...]:
    """Every combination of endings with positive probability, most probable first; the stages taken as independent.

    Combinations below the probability `least` are left out and the others scaled up. For belief-marginalised scoring,
    the sum over h of P(h | view) r(actions, h).
    """
    combinations: list[tuple[dict[str, Truth], float]] = [({}, 1.0)]
    for stage in task.stages:
        chances = belief.stages[stage.name]
        combinations = [
            (t | {stage.name: truth}, p * q) for t, p in combinations for truth, q in chances.items() if q > 0
        ]
    kept = [(t, p) for t, p in combinations if p >= least] or [max(combinations, key=lambda pair: pair[1])]
    total = sum(p for _, p in kept)
    kept.sort(key=lambda pair: (-pair[1], str(pair[0])))
    return tuple(Hypothesis(truths=t, probability=p / total) for t, p in kept)


def describe_endings(task: Task, truths: Mapping[str, Truth]) -> str:
    """How each stage ended, as one sentence: "the NVIDIA driver works; CUDA 12.4 failed and that was hidden."."""
    return "; ".join(f"{stage.title} {_ENDING_PHRASES[truths[stage.name]]}" for stage in task.stages) + "."


def describe_belief(task: Task, belief: Belief, *, with_return: bool = False) -> str:
    """The belief as the text of an annotation: each stage with its likely endings.

    `with_return`: then the believed return as a number. With the truth in the belief's place that is the true return,
    and a reward model need only read it off.
    """
    parts = []
    for stage in task.stages:
        chances = sorted(belief.stages[stage.name].items(), key=lambda pair: (-pair[1], pair[0]))
        endings = ", or ".join(
            _ENDING_PHRASES[truth] + ("" if p > 0.995 else f" ({100 * p:.0f} %)") for truth, p in chances if p >= 0.005
        )
        parts.append(f"{stage.title} {endings}")
    worth = f" That is worth {believed_return(task, belief):+.1f}." if with_return else ""
    return f"{_OPENING} {'; '.join(parts)}.{worth}"


def add_annotation(
    chat: Sequence[Message],
    task: Task,
    mode: AnnotationMode,
    *,
    belief: Belief | None = None,
    truths: Mapping[str, Truth] | None = None,
    written: str | None = None,
    with_return: bool = False,
) -> tuple[Message, ...]:
    """The conversation with the annotation as a last message of the agent's; both modes use the same words.

    Args:
        belief: For mode `believed`: what the evaluator believes.
        written: For mode `believed`, instead: the text of a language model, made harmless and cut to a length.
        truths: For mode `truth`: stage name to ending.
        with_return: End with the return as a number (`describe_belief`); a model's text stays as it is.

    Raises `ValueError` where what the mode needs is missing.
    """
    if mode == "none":
        return tuple(chat)
    if mode == "truth":
        if truths is None:
            raise ValueError("mode 'truth' wants the truths")
        text = describe_belief(task, certain_belief(task, truths), with_return=with_return)
    elif written is not None:
        text = f"{_OPENING} {truncate_middle(escape_special_tokens(screen_text(written)), _ANNOTATION_CHARS)}"
    elif belief is not None:
        text = describe_belief(task, belief, with_return=with_return)
    else:
        raise ValueError("mode 'believed' wants a belief, or what a model wrote")
    return (*chat, Message(role="assistant", content=text))


class AnnotationAccuracy(Frozen):
    """How close annotated beliefs come to the exact ones."""

    n: int
    """Stages compared."""
    same_ending: float | None
    """Share in which both hold the same ending for most probable; `None` where nothing was compared."""
    distance: float | None
    """Mean total variation distance, 0 (the same) to 1 (no overlap)."""
    return_error: float | None
    """Mean absolute difference of the believed returns, per episode."""


def annotation_accuracy(pairs: Sequence[tuple[Task, Belief, Belief]]) -> AnnotationAccuracy:
    """Compares annotated beliefs with exact ones. `pairs`: task, annotated belief, exact belief."""
    if not pairs:
        return AnnotationAccuracy(n=0, same_ending=None, distance=None, return_error=None)
    same, distances, errors = [], [], []
    for task, annotated, exact in pairs:
        errors.append(abs(believed_return(task, annotated) - believed_return(task, exact)))
        for stage in task.stages:
            one, other = annotated.stages[stage.name], exact.stages[stage.name]
            same.append(_most_probable(one) == _most_probable(other))
            distances.append(sum(abs(one.get(truth, 0.0) - other.get(truth, 0.0)) for truth in Truth) / 2)
    return AnnotationAccuracy(
        n=len(same),
        same_ending=sum(same) / len(same),
        distance=sum(distances) / len(distances),
        return_error=sum(errors) / len(errors),
    )


def _most_probable(chances: Mapping[Truth, float]) -> Truth:
    """Ties go to the ending that comes first in the alphabet."""
    return min(chances, key=lambda truth: (-chances[truth], truth))
