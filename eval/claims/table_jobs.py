"""A claim's jobs as the table rung reads them: command and settings, without a recipe."""

import math

from devnull.eval.claims.claim_file import ClaimFile, Setting

SHARED_JOBS = {"demonstrations": "rollout", "feedback": "rollout", "sft": "train sft"}
"""The jobs that the recipes have, and their commands."""
_KNOWN = {
    "rollout": {"agent"},
    "train sft": {"run", "model", "conditional", "evaluator"},
    "train grpo": {"run", "model", "evaluator", "reward", "ending", "annotations", "hiding_penalty", "kl_limit"},
    "train dpo": {"run", "model", "feedback", "evaluator", "rounds", "beta"},
    "train reward": {"run", "model", "feedback", "annotations", "marginalised", "ending", "evaluator", "rationality"},
}
"""Command to the settings that move its optimum and that the table knows."""
_BESIDE_THE_OPTIMUM = {
    "seed",
    "samples",
    "max_steps",
    "iterations",
    "learning_rate",
    "batch_size",
    "epochs",
    "episodes",
}
_BESIDE_THE_OPTIMUM |= {"frozen", "stratify_builds", "train_report", "group", "pairs"}
_BESIDE_THE_OPTIMUM |= {"by_prompt", "fit_head", "head_ridge"}
"""Settings of how, and how far, a trainer goes there."""


class UnknownToTable(Exception):
    """The table does not know what a claim asks for."""


def resolve_job(claim: ClaimFile, name: str) -> tuple[str, dict[str, Setting]]:
    """Command and settings of a job, its likes under its own. Raises `UnknownToTable`, for a setting too."""
    job = claim.jobs.get(name)
    if job is None:
        if name not in SHARED_JOBS:
            raise UnknownToTable(f"no job {name}")
        return SHARED_JOBS[name], {}
    inherited = resolve_job(claim, job.like) if job.like else (SHARED_JOBS.get(name, ""), {})
    command, settings = job.command or inherited[0], {**inherited[1], **job.settings}
    if strange := settings.keys() - _KNOWN.get(command, set()) - _BESIDE_THE_OPTIMUM:
        raise UnknownToTable(f"{name}: {', '.join(strange)}")
    return command, settings


def label_settings(claim: ClaimFile, name: str) -> dict[str, Setting]:
    """Of a `label` job, which makes no policy. Raises `UnknownToTable`."""
    job = claim.jobs.get(name)
    if job is None:
        raise UnknownToTable(f"no job {name}")
    return {**(label_settings(claim, job.like) if job.like else {}), **job.settings}


def job_name(reference: Setting) -> str:
    """`sft` of `@sft`."""
    return str(reference).removeprefix("@")


def parse_number(value: Setting, name: str) -> float:
    """Of a setting. Raises `UnknownToTable` for what is no number from 0 up."""
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UnknownToTable(f"{name}: {value}")
    return number
