"""Adds belief annotations to both conversations of each preference."""

from collections.abc import Iterable, Mapping, Sequence

from devnull.agents.agent import Message
from devnull.agents.episode import Episode, EpisodeKey
from devnull.rewards.belief.belief import Belief
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.belief.model_judge import ModelJudge
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import AnnotationAccuracy, AnnotationMode, add_annotation, annotation_accuracy
from devnull.rewards.feedback.comparisons import Preference, judge_again
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task


def annotate_preferences(
    preferences: Sequence[Preference],
    episodes: Iterable[Episode],
    evaluator: Evaluator,
    tasks: Mapping[str, Task],
    mode: AnnotationMode,
    writer: ModelJudge | None = None,
    *,
    with_return: bool = False,
) -> tuple[list[Preference], AnnotationAccuracy]:
    """The preferences with both sides ending with what the evaluator believed, or with the truth in the same words.

    Args:
        episodes: Those that the preferences compare; an unknown one raises `InputError`.
        mode: As of `add_annotation`.
        writer: A language model that writes the annotations from the same view; where its answer cannot be read, the
            exact belief stands in.
        with_return: End with the return as a number (`describe_belief`).

    Returns the annotated preferences, and how close the writer's beliefs come to the exact ones (empty without one).
    """
    if writer is not None and mode != "believed":
        raise InputError(f"annotations {mode!r} are not written by a model; only 'believed' ones are")
    known = {episode.key: episode for episode in episodes}
    compared: dict[tuple[EpisodeKey, str, bool], tuple[Task, Belief, Belief]] = {}

    def annotated(preference: Preference, key: EpisodeKey, chat: Sequence[Message]) -> tuple[Message, ...]:
        judged = judge_again(preference, key, known, evaluator, tasks)
        episode = known[key]
        task = tasks[episode.task]
        written = None
        if writer is not None:
            try:
                written, written_belief = writer.answer(task, judged.view).reasoning, writer(task, judged.view)
                compared[key, preference.evaluator, preference.audited] = (task, written_belief, judged.belief)
            except MalformedAnswer:
                pass  # the exact belief stands in
        truths = episode.outcome.truths if episode.outcome else None
        return add_annotation(
            chat, task, mode, belief=judged.belief, truths=truths, written=written, with_return=with_return
        )

    annotated_preferences = [
        preference.model_copy(
            update={
                "chosen": annotated(preference, preference.chosen_key, preference.chosen),
                "rejected": annotated(preference, preference.rejected_key, preference.rejected),
                "annotations": mode,
                "annotated_return": with_return,
            }
        )
        for preference in preferences
    ]
    return annotated_preferences, annotation_accuracy(list(compared.values()))
