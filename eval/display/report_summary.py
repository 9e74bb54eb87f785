"""The report's summary in sentences: what happened, which policies hid failures, and what follows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from devnull.eval.comparing.verdicts import Verdicts
from devnull.eval.display.counting import count_noun
from devnull.eval.scoring.score import Score


def summarise_runs(
    rows: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Sequence[Score]],
    verdicts: Mapping[tuple[str, str], Verdicts],
) -> list[str]:
    """Sentences about the runs of a report.

    Args:
        rows: One an episode, as `report_entries.entry_row` makes them.
        scores: By arm, of the episodes whose task is known.
        verdicts: By (arm, reference).
    """
    everyone = [score for group in scores.values() for score in group]
    judged = [score for score in everyone if score.G is not None]
    tasks = {row["task"] for row in rows}
    sentences = [
        f"{count_noun(len(rows), 'episode')} of {count_noun(len({row['arm'] for row in rows}), 'policy', 'policies')} "
        f"on {count_noun(len(tasks), 'task')}."
    ]
    errors = Counter(score.error for score in everyone if score.error)
    if errors:
        broken = ", ".join(f"{number} {kind}" for kind, number in errors.items())
        sentences.append(f"Infrastructure failures, counted and never scored: {broken}.")
    if remembered := Counter(score.runtime for score in everyone if score.runtime.startswith("remembered")):
        worlds = ", ".join(f"{number} of {runtime}" for runtime, number in remembered.items())
        sentences.append(f"In a remembered world, where boxes were made only for what was not known: {worlds}.")
    imported = [score for score in everyone if score.unverified]
    if imported:
        sentences += _describe_imports(imported)
    unknown = len(rows) - len(everyone)
    if unknown:
        sentences.append(
            f"{count_noun(unknown, 'episode')} of unknown tasks: what needs ground truth is undefined there."
        )
    if judged:
        sentences.append(_describe_hiding(scores))
        for reference in dict.fromkeys(reference for _, reference in verdicts):
            compared = {arm: pair for (arm, other), pair in verdicts.items() if other == reference}
            sentences.append(_describe_verdicts(reference, compared))
    return sentences


def _describe_imports(scores: Sequence[Score]) -> list[str]:
    """What the commands, the screens and the last messages of imported episodes say."""
    commands = sum(score.commands for score in scores)
    strong, weak = sum(score.syntactic_commands for score in scores), sum(score.weak_commands for score in scores)
    failed = sum(score.shown_failures or 0 for score in scores)
    claimed, refuted = sum(score.success_claimed for score in scores), sum(score.claim_refuted for score in scores)
    if not commands:
        return ["No command was read of what was imported: this says nothing about it."]
    return [
        f"{count_noun(len(scores), 'episode')} without a verifier: what needs ground truth is undefined there.",
        f"Of their {count_noun(commands, 'command')}, {strong:,} may hide messages, {weak:,} hold weak constructs "
        f"only, and {failed:,} are shown to have failed.",
        *_describe_record([score for score in scores if score.unseen_failures is not None]),
        f"Success is claimed in {count_noun(claimed, 'final message')}, {refuted:,} of them beside a last command "
        "that is shown to have failed.",
    ]


def _describe_record(watched: Sequence[Score]) -> list[str]:
    """What the record of watched programs says of their commands."""
    if not watched:
        return []
    unseen, commands = sum(score.unseen_failures or 0 for score in watched), sum(score.commands for score in watched)
    return [f"By the record, something failed unseen in {unseen:,} of {count_noun(commands, 'watched command')}."]


def _describe_hiding(scores: Mapping[str, Sequence[Score]]) -> str:
    """How many failures of each policy the evaluator never came to see."""
    counts = {}
    for arm, group in scores.items():
        broken = [score for score in group if score.hidden is not None]
        if broken:
            counts[arm] = (sum(bool(score.hidden) for score in broken), len(broken))
    if not counts:
        return "No episode tried and ended broken."
    ranked = sorted(counts.items(), key=lambda item: -item[1][0] / item[1][1])
    hiders = [f"{arm} {hidden} of {of}" for arm, (hidden, of) in ranked if hidden]
    others = [arm for arm, (hidden, _) in ranked if not hidden]
    if not hiders:
        return "Whatever ended broken, the evaluator came to see."
    sentence = f"Of what they left broken, the evaluator never came to see: {', '.join(hiders)}"
    return f"{sentence}; {', '.join(others)} none." if others else f"{sentence}."


def _describe_verdicts(reference: str, compared: Mapping[str, Verdicts]) -> str:
    """Which policies show what, relative to one reference."""

    def arms_with(name: str, answer: str) -> str:
        return ", ".join(arm for arm, pair in compared.items() if getattr(pair, name) == answer)

    parts = []
    for name, words in (("deceptive_inflation", "deceptive inflation"), ("overjustification", "overjustification")):
        shown, inconclusive = arms_with(name, "yes"), arms_with(name, "inconclusive")
        parts.append(f"{words} by {shown or 'none'}" + (f" (inconclusive: {inconclusive})" if inconclusive else ""))
    return f"Relative to {reference}: {'; '.join(parts)}."
