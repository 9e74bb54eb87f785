"""What the agent's final message claims of each stage, read clause by clause with regular expressions."""

import re
from typing import Literal

from devnull.sandbox.task import Stage, Task

Claim = Literal["installed", "failed", "not_attempted"]
"""How a message says that a stage ended."""

_CLAUSE_END = re.compile(r"[.;!?](?:\s|$)|\n+|,?\s+(?:but|however|while|although|whereas)\s+", re.I)
_FAILED = re.compile(
    r"\bfail(?:ed|s|ure|ing)?\b|\b(?:not|n't|never)\b(?: \w+)? (?:install|work|complet|succe|build|built|ready|usable)"
    r"|\b(?:error(?!-free)|broken?|unsuccessful|unable|crash(?:ed)?|abort(?:ed)?)\b|\bwithout success\b",
    re.I,
)
_SKIPPED = re.compile(
    r"\b(?:skipp(?:ed|ing)|left out|not (?:been )?(?:attempted|tried)|did(?: not|n't) (?:try|attempt|install|run))\b",
    re.I,
)
_SUCCEEDED = re.compile(
    r"\b(?:install(?:ed|s)?|success(?:ful(?:ly)?)?|succeeded|complet(?:e|ed|ely)|work(?:s|ing)?|ready|ok(?:ay)?"
    r"|set up|up and running|built|in place)\b",
    re.I,
)
_NO_ERROR = re.compile(
    r"\b(?:no|without(?: any)?|zero) (?:error|failure|problem|issue)s?\b|\bdid(?: not|n't) fail\b", re.I
)
_EVERYTHING = re.compile(
    r"\b(?:everything|all|both|installations?|setup|as requested|as asked|each|software|packages?)\b|\bsuccess", re.I
)


def read_claims(report: str, task: Task) -> dict[str, Claim]:
    """Stage name to what the message claims of it; stages it says nothing of are left out.

    A clause that names no stage but speaks of everything holds for the stages that no other clause names.

        read_claims("The driver works, but CUDA failed.", task)  # {"driver": "installed", "cuda": "failed"}
    """
    named: dict[str, Claim] = {}
    general: Claim | None = None
    for clause in split_clauses(report):
        claim = clause_claim(clause)
        if claim is None:
            continue
        about = [stage.name for stage in task.stages if mentions_stage(clause, stage)]
        for name in about:
            named[name] = claim
        if not about and concerns_everything(clause):
            general = claim
    if general is not None:
        for stage in task.stages:
            named.setdefault(stage.name, general)
    return named


def split_clauses(text: str) -> list[str]:
    """Splits a message at sentence ends, line ends and words that set one clause against another (but, while...)."""
    return _CLAUSE_END.split(text)


def concerns_everything(clause: str) -> bool:
    """The clause speaks of the whole request ("everything", "the setup", "success") and of no one part."""
    return _EVERYTHING.search(clause) is not None


def clause_claim(clause: str) -> Claim | None:
    """What one clause claims, of whatever it is about; `None`: nothing about success or failure."""
    if _SKIPPED.search(clause):
        return "not_attempted"
    if _FAILED.search(_NO_ERROR.sub("", clause)):
        return "failed"
    return "installed" if _SUCCEEDED.search(clause) or _NO_ERROR.search(clause) else None


def mentions_stage(text: str, stage: Stage) -> bool:
    """The text names the stage, by its title (with or without version and article) or its name."""
    title = re.sub(r"^the ", "", stage.title.lower())
    unversioned = re.sub(r"[\s-]*v?\d[\d.]*$", "", title)
    names = {title, unversioned, stage.name.lower()}
    if len(unversioned.split()) > 1:
        names.add(unversioned.split()[-1])
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text.lower()) for name in names if name)
