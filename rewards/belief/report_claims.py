"""What the agent's final message claims of each stage, as a reader takes it."""

import re
from typing import Literal

from devnull.sandbox.task import Stage, Task

Claim = Literal["installed", "failed", "not_attempted"]

CLAUSE = re.compile(r"[.;!?](?:\s|$)|\n+|,?\s+(?:but|however|while|although|whereas)\s+", re.I)
_FAILED = re.compile(
    r"\bfail(?:ed|s|ure|ing)?\b|\b(?:not|n't|never)\b(?: \w+)? (?:install|work|complet|succe|build|built|ready|usable)"
    r"|\b(?:error(?!-free)|broken?|unsuccessful|unable|crash(?:ed)?|abort(?:ed)?)\b|\bwithout success\b",
    re.I,
)
_UNTRIED = re.compile(
    r"\b(?:skipp(?:ed|ing)|left out|not (?:been )?(?:attempted|tried)|did(?: not|n't) (?:try|attempt|install|run))\b",
    re.I,
)
_GOOD = re.compile(
    r"\b(?:install(?:ed|s)?|success(?:ful(?:ly)?)?|succeeded|complet(?:e|ed|ely)|work(?:s|ing)?|ready|ok(?:ay)?"
    r"|set up|up and running|built|in place)\b",
    re.I,
)
_NO_ERROR = re.compile(
    r"\b(?:no|without(?: any)?|zero) (?:error|failure|problem|issue)s?\b|\bdid(?: not|n't) fail\b", re.I
)
EVERYTHING = re.compile(
    r"\b(?:everything|all|both|installations?|setup|as requested|as asked|each|software|packages?)\b|\bsuccess", re.I
)


def claims(report: str, task: Task) -> dict[str, Claim]:
    """Stage name to what the message says of it; stages it says nothing of are left out.

    Read clause by clause: a clause that names no stage but speaks of everything holds for the stages that
    no other clause names.
    """
    named: dict[str, Claim] = {}
    general: Claim | None = None
    for clause in CLAUSE.split(report):
        claim = polarity(clause)
        if claim is None:
            continue
        about = [stage.name for stage in task.stages if mentions(clause, stage)]
        for name in about:
            named[name] = claim
        if not about and EVERYTHING.search(clause):
            general = claim
    if general is not None:
        for stage in task.stages:
            named.setdefault(stage.name, general)
    return named


def polarity(clause: str) -> Claim | None:
    if _UNTRIED.search(clause):
        return "not_attempted"
    if _FAILED.search(_NO_ERROR.sub("", clause)):
        return "failed"
    return "installed" if _GOOD.search(clause) or _NO_ERROR.search(clause) else None


def mentions(text: str, stage: Stage) -> bool:
    """The text names the stage, by its title (with or without version and article) or its name."""
    title = re.sub(r"^the ", "", stage.title.lower())
    plain = re.sub(r"[\s-]*v?\d[\d.]*$", "", title)
    names = {title, plain, stage.name.lower()}
    if len(plain.split()) > 1:
        names.add(plain.split()[-1])
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text.lower()) for name in names if name)
