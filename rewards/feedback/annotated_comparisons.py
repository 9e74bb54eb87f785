"""Preferences whose conversations end with a thought about what the evaluator will believe."""

from collections.abc import Iterable, Mapping, Sequence

from devnull.agents.agent import Message
from devnull.agents.episode import Episode
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.belief.language_model import ModelJudge
from devnull.rewards.belief.table import Belief
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import Accuracy, Mode, accuracy, annotate
from devnull.rewards.feedback.comparisons import EpisodeKey, Preference
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task


def annotate_preferences(
    preferences: Sequence[Preference],
    episodes: Iterable[Episode],
    evaluator: Evaluator,
    tasks: Mapping[str, Task],
    mode: Mode,
    writer: ModelJudge | None = None,
) -> tuple[list[Preference], Accuracy]:
    """Each side ends with what its evaluator believed, or with the truth in the same words.

    `writer`: a language model writes the thoughts from the same view; what it could not be read saying is left to
    the exact belief. The accuracy compares its beliefs with the exact ones (of nothing, without a writer).
    """
    if writer is not None and mode != "believed":
        raise InputError(f"annotations {mode!r} are not written by a model; only 'believed' ones are")
    known = {episode.key: episode for episode in episodes}
    members = {member.name: member for member in evaluator.members}
    compared: dict[tuple[EpisodeKey, str, bool], tuple[Task, Belief, Belief]] = {}

    def side(preference: Preference, key: EpisodeKey, chat: Sequence[Message]) -> tuple[Message, ...]:
        if key not in known or preference.evaluator not in members:
            raise InputError(f"a preference speaks of {key} and {preference.evaluator!r}, which are not those given")
        episode = known[key]
        task = tasks[episode.task]
        member = members[preference.evaluator]
        judged = evaluator.judge(
            task, episode.transcript, seed=episode.stream, member=member, audit=preference.audited, paid=True
        )
        written = None
        if writer is not None:
            try:
                written, guess = writer.answer(task, judged.view).reasoning, writer(task, judged.view)
                compared[key, preference.evaluator, preference.audited] = (task, guess, judged.belief)
            except MalformedAnswer:
                written = None
        truths = episode.outcome.truths if episode.outcome else None
        return annotate(chat, task, mode, belief=judged.belief, truths=truths, written=written)

    made = [
        preference.model_copy(
            update={
                "chosen": side(preference, preference.chosen_key, preference.chosen),
                "rejected": side(preference, preference.rejected_key, preference.rejected),
                "annotations": mode,
            }
        )
        for preference in preferences
    ]
    return made, accuracy(list(compared.values()))
