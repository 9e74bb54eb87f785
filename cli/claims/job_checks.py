"""Whether a job's command would take what it is told, asked before it is run: hours may lie between."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devnull.cli.claims.plan import Job, evaluator_file
from devnull.cli.commands.rollout import Args as RolloutArgs
from devnull.cli.commands.train_options import DpoArgs, GrpoArgs, KtoArgs, RewardModelArgs, SftArgs
from devnull.cli.runs.agent_choice import ModelOptions, choose_agent
from devnull.cli.runs.best_of import check_best_of
from devnull.cli.terminal.console import parse_arguments
from devnull.rewards.evaluator_config import EvaluatorConfig, load_evaluator, make_evaluator_config
from devnull.sandbox.errors import InputError
from devnull.training.settings import check_ranges

_ROOT = Path("jobs")
"""Where the jobs would lie."""
_POLICIES = ("train sft", "train dpo", "train kto", "train grpo")
_BUILDS_ON = {
    "run": ("rollout",),
    "feedback": ("label",),
    "model": _POLICIES,
    "reward": ("train reward",),
    "agent": _POLICIES,
}
"""Setting to the commands of the jobs that it may refer to."""
_LEARNS_FROM_FEEDBACK = ("train reward", "train dpo", "train kto")
_MODEL_AGENTS = ("hf", "openai", "replay")
"""Agents that only their own command can open."""


class SettingRefused(InputError):
    """A setting that a job's command does not take, or that is wanting: then `key` is empty."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def parse_job(job: Job, jobs: Mapping[str, Job]) -> Any:
    """The arguments of a job's command, checked as far as they can be before it is run.

    Args:
        jobs: By digest, those that it builds on among them.

    Raises `SettingRefused`.
    """
    _check_references(job, jobs)
    _check_evaluator(job)
    products = {digest: each.product(_ROOT) for digest, each in jobs.items()}
    try:
        name, *words = job.words(_ROOT, products)
        args = parse_arguments(importlib.import_module(f"devnull.cli.commands.{name}").Args, name, words, None)
        _check_ranges(args)
    except SettingRefused:
        raise
    except InputError as error:
        raise _explain(job, str(error)) from None
    except SystemExit:  # after --help
        raise SettingRefused("help", f"`{job.command}` has no setting 'help'") from None
    return args


def why_refused(job: Job, jobs: Mapping[str, Job]) -> str | None:
    """What is wrong with a job; `None`: its command takes it."""
    try:
        parse_job(job, jobs)
    except InputError as error:
        return str(error)
    return None


def _check_references(job: Job, jobs: Mapping[str, Job]) -> None:
    """Whether what it builds on is of the kind that it wants, and there at all."""
    if job.command != "rollout" and "run" not in job.settings:
        raise SettingRefused("", f"a job of `{job.command}` wants a `run`")
    for key, wanted in _BUILDS_ON.items():
        value = str(job.settings.get(key, ""))
        commands = ("rollout",) if value.startswith("replay:") else wanted
        for digest in re.findall(r"@(\w+)", value):
            if digest in jobs and jobs[digest].command not in commands:
                kind = f"`{commands[0]}`" if len(commands) == 1 else "`train` that makes a policy"
                raise SettingRefused(key, f"{key} wants a job of {kind}, and this is one of `{jobs[digest].command}`")
    run, feedback = str(job.settings.get("run", "")), str(job.settings.get("feedback", ""))
    if job.command in _LEARNS_FROM_FEEDBACK and job.settings.get("rounds", 1) == 1 and run[:1] == "@":
        if not feedback:
            raise SettingRefused("", f"a job of `{job.command}` wants `feedback`, such as that of a job of `label`")
        labels = jobs.get(feedback.removeprefix("@"))
        if labels is not None and labels.settings.get("run") != run:
            raise SettingRefused("feedback", "feedback is on another run than `run`")


def _check_evaluator(job: Job) -> None:
    evaluator = job.settings.get("evaluator")
    try:
        config = _read_evaluator(evaluator)
        if config is not None and job.command == "label":
            config.check_labels()
    except InputError as error:
        raise SettingRefused("evaluator", str(error)) from None


def _read_evaluator(evaluator: object) -> EvaluatorConfig | None:
    if isinstance(evaluator, dict):
        return make_evaluator_config(evaluator, "evaluator")
    if not isinstance(evaluator, str):
        return None
    path = evaluator_file(evaluator)
    if path is None:
        raise InputError(f"evaluator {evaluator!r}: no such file, and no evaluator of that name")
    return load_evaluator(path)


def _check_ranges(args: Any) -> None:
    match args:
        case RolloutArgs():
            args.validate()
            if args.episodes < 1:
                raise InputError(f"--episodes is {args.episodes}; it must be at least 1")
            check_best_of(args.best_of, args.group, "actual")  # who rates may be a job's model
            _check_agent(args.agent)
        case SftArgs() | RewardModelArgs() | DpoArgs() | KtoArgs() | GrpoArgs():
            check_ranges(args.settings)
            if isinstance(args, DpoArgs | GrpoArgs) and args.rounds < 1:
                raise InputError(f"--rounds is {args.rounds}; it must be at least 1")


def _check_agent(agent: str) -> None:
    if agent.partition(":")[0] not in _MODEL_AGENTS:
        try:
            choose_agent(agent, ModelOptions(), 1, ())
        except InputError as error:
            raise SettingRefused("agent", str(error)) from None


def _explain(job: Job, complaint: str) -> SettingRefused:
    """What a command's parser complains of, in the words of a claim's file."""
    complaint = complaint.partition(" (see ")[0]
    flags = [flag.replace("-", "_").removeprefix("no_") for flag in re.findall(r"--([\w.-]+)", complaint)]
    key = flags[0].partition(".")[0] if flags else complaint.partition(" ")[0]
    if complaint.startswith("Unrecognized options: --"):
        near = f"; did you mean {flags[1]!r}?" if "did you mean" in complaint and len(flags) > 1 else ""
        return SettingRefused(key, f"`{job.command}` has no setting {key!r}{near}")
    if complaint.startswith(("Error parsing --", "Missing value for argument '--")):
        return SettingRefused(key, f"{key} is {job.settings.get(key)!r}, which `{job.command}` does not take")
    if complaint.startswith("Unrecognized options: "):
        beyond = complaint.removeprefix("Unrecognized options: ")
        return SettingRefused("", f"a setting has more values than `{job.command}` takes: {beyond}")
    return SettingRefused(key, complaint)
