"""What is wrong with a claim on a rung, found before anything of it is frozen or run."""

from collections.abc import Iterator

from devnull.cli.claims.job_checks import SettingRefused, parse_job
from devnull.cli.claims.job_settings import FilePlace
from devnull.cli.claims.plan import Plan
from devnull.cli.commands.rollout import Args as RolloutArgs
from devnull.cli.runs.rollouts import choose_tasks
from devnull.eval.claims.claim_file import JobGate
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import load_tasks

_REWARD_METRICS = (
    *("loss", "accuracy", "margin", "calibration_error", "hidden_gap/truth", "hidden_gap/believed", "hidden_gap/none"),
    *("head/log_likelihood", "head/gradient", "held_out/pairs", "held_out/accuracy", "held_out/calibration"),
    *("held_out/corr_G", "held_out/corr_G_obs"),
)
"""What `train reward` measures (`devnull.training.reward_model.train_reward`), beside what every trainer logs."""
_TRAINER_METRICS = ("train_loss", "learning_rate", "grad_norm", "epoch", "step")


def check_plan(plan: Plan) -> None:
    """Raises `InputError`, mostly with file and line, for what would otherwise be found when a job is run or judged.

    It looks at one training seed, for the others differ in nothing else. Of a claim that says what is `missing` no job
    is looked at.
    """
    tasks = load_tasks()
    _check_family(plan, tasks)
    _check_gates(plan)
    if not plan.claim.file.missing:
        rollouts = dict(_parse_rollouts(plan))
        for name, args in rollouts.items():
            _check_tasks(plan, name, args, tasks)
        for arm in plan.claim.file.arms:
            _check_kept(plan, arm, rollouts[f"{arm}.evaluation"])


def _seed(plan: Plan) -> str:
    """What the names of the training seed begin with that is looked at."""
    return f"seed-{plan.seeds[0]}/"


def _check_family(plan: Plan, tasks: dict[str, Task]) -> None:
    family = plan.claim.file.family
    try:
        choose_tasks([family], "all", tasks)
    except InputError:
        known = {*tasks, *(task.family for task in tasks.values())}
        near = did_you_mean(family.rstrip("*"), known) or "; `devnull tasks list` lists them"
        raise plan.claim.error(("family",), f"no task or family {family!r}{near}") from None


def _check_gates(plan: Plan) -> None:
    for number, gate in enumerate(plan.claim.file.gates.jobs):
        for name in gate.jobs:
            command = plan.jobs[plan.names[_seed(plan) + name]].command
            if not command.startswith("train "):
                raise plan.claim.error(
                    ("gates", "jobs", number, "jobs"), f"gates.jobs: {name!r} is a `{command}`, which measures nothing"
                )
            if command == "train reward" and (near := _near_metric(gate)):
                raise plan.claim.error(
                    ("gates", "jobs", number, "metric"), f"gates.jobs: {name!r} has no metric {gate.metric!r}{near}"
                )


def _near_metric(gate: JobGate) -> str:
    """Of a misspelt one; empty for what is near none, since a trainer may log more than is known here."""
    known = (*_REWARD_METRICS, *_TRAINER_METRICS)
    return "" if gate.metric in known else did_you_mean(gate.metric, known)


def _parse_rollouts(plan: Plan) -> Iterator[tuple[str, RolloutArgs]]:
    """The rollouts by name, after every job was looked at."""
    for full, digest in plan.names.items():
        if not full.startswith(_seed(plan)):
            continue
        source, name = plan.sources[full], full.removeprefix(_seed(plan))
        try:
            args = parse_job(plan.jobs[digest], plan.jobs)
        except SettingRefused as error:
            place = source.places.get(error.key, source.place)
            raise place.error(f"{_describe(plan, name)}: {error}") from None
        if isinstance(args, RolloutArgs):
            yield name, args


def _describe(plan: Plan, name: str) -> str:
    """`arm 'partial'` or `job 'partial'`."""
    arm = name.removesuffix(".evaluation")
    return f"arm {arm!r}" if arm != name and arm in plan.claim.file.arms else f"job {name!r}"


def _check_tasks(plan: Plan, name: str, args: RolloutArgs, tasks: dict[str, Task]) -> None:
    source = plan.sources[_seed(plan) + name]
    family = FilePlace(plan.claim, ("family",))
    place = family if args.tasks == (plan.claim.file.family,) else source.places.get("tasks", source.place)
    try:
        choose_tasks(args.tasks, args.split, tasks)
    except InputError as error:
        raise place.error(f"{_describe(plan, name)}: {error}") from None


def _check_kept(plan: Plan, arm: str, args: RolloutArgs) -> None:
    """Whether a rollout keeps what is evaluated of it."""
    kept_as, played = plan.claim.file.arms[arm].kept_as, args.arm or args.agent
    kept = [played, *(f"{played}-best-of-{count}" for count in args.best_of)]
    if kept_as is not None and (kept_as not in kept or not args.best_of):
        near = (did_you_mean(kept_as, kept) or f"; there are {', '.join(kept)}") if args.best_of else ""
        lacking = "its rollout keeps no such arm" if args.best_of else "its rollout has no `best_of`"
        raise plan.claim.error(("arms", arm, "kept_as"), f"arm {arm!r} is kept as {kept_as!r}, and {lacking}{near}")
