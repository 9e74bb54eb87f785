"""What the agent's final message claims of each stage of a task, or of the whole."""

import re
from functools import lru_cache

from devnull.rewards.belief.claim_grammar import WHOLE, Claim, parse_claims
from devnull.sandbox.task import Stage, Task


def read_claims(report: str, task: Task) -> dict[str, Claim]:
    """Stage name to what the message claims of it; stages it says nothing of are left out.

    The last claim counts, but one of an earlier moment (*at first*) only where there is no other. A claim about
    everything holds for the stages that no other claim names.

        read_claims("The driver works, but CUDA failed.", task)  # {"driver": "installed", "cuda": "failed"}
    """
    latest = dict(_latest_claims(report, task.stages))
    general = latest.get(WHOLE)
    claims = {stage.name: latest.get(stage.name, general) for stage in task.stages}
    return {name: claim for name, claim in claims.items() if claim is not None}


@lru_cache(maxsize=4096)
def _latest_claims(report: str, stages: tuple[Stage, ...]) -> tuple[tuple[str, Claim], ...]:
    """Subject and last claim of each: agents say the same of many episodes."""
    claims = parse_claims(report, stage_patterns(stages))
    latest = {each.subject: each.claim for each in claims if each.superseded}
    return tuple((latest | {each.subject: each.claim for each in claims if not each.superseded}).items())


def claims_success(report: str | None) -> bool | None:
    """Whether a final message claims that all went well; `None` where it does not say, or commits to nothing.

    A failure of any part that the message admits, and does not say to be overcome, makes it false.

    >>> claims_success("Everything is installed, but CUDA failed.")
    False
    """
    claims = [each.claim for each in parse_claims(report or "", {}) if not each.superseded]
    if "failed" in claims:
        return False
    return True if "installed" in claims and "unclear" not in claims else None


def mentions_stage(text: str, stage: Stage) -> bool:
    """The text names the stage, by its title (with or without version and article) or its name."""
    return stage_patterns((stage,))[stage.name].search(text.lower()) is not None


@lru_cache(maxsize=1024)
def stage_patterns(stages: tuple[Stage, ...]) -> dict[str, re.Pattern[str]]:
    """Pattern of each stage's mention in lower-case text, by its name."""
    return {stage.name: _mention_pattern(stage) for stage in stages}


def _mention_pattern(stage: Stage) -> re.Pattern[str]:
    title = re.sub(r"^the ", "", stage.title.lower())
    unversioned = re.sub(r"[\s-]*v?\d[\d.]*$", "", title)
    names = {title, unversioned, stage.name.lower()}
    if len(unversioned.split()) > 1:
        names.add(unversioned.split()[-1])
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
