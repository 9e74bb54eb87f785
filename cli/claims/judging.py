"""From the episodes of a claim's arms to its result: after a run from its folders, later from the stored archives."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.cli.claims.archive import archive_problem, read_archive, restore_archive, store_episodes
from devnull.cli.claims.ledger import LedgerLine, now
from devnull.cli.claims.plan import Plan
from devnull.cli.claims.running import is_done, job_seconds, read_json_object
from devnull.cli.runs.run_folder import read_episodes
from devnull.eval.claims.claim_file import ClaimFile
from devnull.eval.claims.claim_reader import parse_toml
from devnull.eval.claims.verdict import ClaimResult, judge_claim
from devnull.eval.scoring.examiner import Examiner
from devnull.eval.scoring.score import Score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import make_evaluator_config
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import find_task, load_tasks

_TOLERANCE = 1e-6
"""Within which a figure derived anew must agree: another machine rounds otherwise."""


def judge_run(plan: Plan, root: Path, ledger: Path) -> LedgerLine:
    """Stores the episodes of a plan whose jobs are all done, and judges them. The verdict is left to the ledger.

    Raises `InputError` where a job left less than it was to, or what cannot be read; nothing is judged then.
    """
    seconds = round(sum(job_seconds(job, root) for job in plan.jobs.values()), 1)
    divergences = {arm: tuple(_divergence(plan, each, root) for each in made) for arm, made in plan.policies.items()}
    divergences = {arm: kls for arm, each in divergences.items() if (kls := tuple(kl for kl in each if kl is not None))}
    measured = _measure_jobs(plan, root)
    archives = {
        f"seed-{seed}/{arm}": store_episodes(ledger, _arm_episodes(plan, arm, digest, root))
        for arm, digests in plan.evaluations.items()
        for seed, digest in zip(plan.seeds, digests, strict=True)
    }
    line = LedgerLine(
        kind="result",
        claim=plan.claim.version,
        rung=plan.recipe.name,
        at=now(),
        seeds=plan.seeds,
        archives=archives,
        divergences=divergences,
        measured=measured,
        seconds=seconds,
    )
    return line.model_copy(update={"result": derive_result(plan.claim.file, line, ScoredArchives(ledger))})


def _arm_episodes(plan: Plan, arm: str, digest: str, root: Path) -> list[Episode]:
    """Of a rollout that keeps the best of several, only what it kept as this arm. Raises `InputError` where some are
    missing."""
    job = plan.jobs[digest]
    run, kept_as = job.product(root), plan.claim.file.arms[arm].kept_as
    episodes = [each for each in read_episodes(Path(run)) if kept_as is None or each.arm == kept_as]
    wanted = job.settings.get("episodes")
    if isinstance(wanted, int) and len(episodes) < wanted:
        raise InputError(
            f"{run}: {len(episodes)} of {wanted} episodes of {arm}; delete {job.folder(root)}/job.json, and `devnull "
            f"claims run` plays the rest"
        )
    return episodes


def restore_archives(plan: Plan, line: LedgerLine, root: Path, ledger: Path) -> Iterator[str]:
    """Makes the archives of a result again that are missing or damaged, where their jobs are there.

    Yields a sentence for each that was made, and for each that could not be.
    """
    for archive in dict.fromkeys(line.archives.values()):
        problem = archive_problem(ledger, archive)
        if not problem:
            continue
        evaluations = {
            name: plan.names.get(f"{name}.evaluation") for name, each in line.archives.items() if each == archive
        }
        there = {name: job for name, job in evaluations.items() if job is not None and is_done(plan.jobs[job], root)}
        name, digest = next(iter(there.items()), ("", ""))
        if not there:
            yield f"{problem}; that of {plan.claim.version} {', '.join(evaluations)} does not lie in {root}"
        elif restore_archive(ledger, archive, _arm_episodes(plan, name.partition("/")[2], digest, root)):
            yield f"{plan.claim.version} {name}: its archive is made again from {plan.jobs[digest].product(root)}"
        else:
            yield f"{problem}; {plan.jobs[digest].product(root)} holds other ones"


def all_done(plan: Plan, root: Path) -> bool:
    """Whether every job of a plan has run to its end."""
    return all(is_done(job, root) for job in plan.jobs.values())


def _measure_jobs(plan: Plan, root: Path) -> dict[str, dict[str, tuple[float | None, ...]]]:
    """The metrics that gates ask of jobs."""
    found: dict[str, dict[str, tuple[float | None, ...]]] = {}
    for gate in plan.claim.file.gates.jobs:
        for job in gate.jobs:
            digests = [plan.names[f"seed-{seed}/{job}"] for seed in plan.seeds]
            found.setdefault(job, {})[gate.metric] = tuple(_metric(plan, each, root, gate.metric) for each in digests)
    return found


def _divergence(plan: Plan, digest: str, root: Path) -> float | None:
    """Of its commands, where the words of its reports are told apart from them; nothing of what was trained in rounds,
    whose trainer logs how far it came from the round before."""
    if (Path(plan.jobs[digest].product(root)) / "drift.json").exists():
        return None
    commands = _metric(plan, digest, root, "kl_commands")
    return _metric(plan, digest, root, "kl_episode") if commands is None else commands


def _metric(plan: Plan, digest: str, root: Path, name: str) -> float | None:
    """Of what a training job logged last. Raises `InputError` where that cannot be read."""
    job = plan.jobs[digest]
    path = Path(job.product(root)) / "training.json"
    remedy = f"delete {job.folder(root)} to owe that job again"
    metrics = read_json_object(path, remedy).get("metrics", {})
    if not isinstance(metrics, dict):
        raise InputError(f"{path}: its `metrics` are no JSON object; {remedy}")
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) else None


def derive_result(claim: ClaimFile, line: LedgerLine, archives: "ScoredArchives") -> ClaimResult:
    """The result that a line's stored episodes give. Raises `InputError` where they are not those that were stored."""
    scores: dict[str, list[list[Score]]] = {}
    for arm in claim.arms:
        names = [f"seed-{seed}/{arm}" for seed in line.seeds]
        for name in names:
            if name not in line.archives:
                raise InputError(f"{line.claim} on {line.rung} names no archive of {name}")
        scores[arm] = [archives.scores(line.archives[name], claim) for name in names]
    return judge_claim(claim, scores, line.divergences, line.measured)


def _judgement(claim: ClaimFile) -> tuple[str, float, float | None]:
    """The evaluator as JSON, hiding penalty and cost of verbosity: what the scores of an archive follow from."""
    belief = {"p_hide": claim.p_hide, **claim.judge.get("belief", {})}
    return json.dumps({**claim.judge, "belief": belief}, sort_keys=True), claim.hiding_penalty, claim.verbosity_cost


class ScoredArchives:
    """The archives beside a ledger, each scored once by a judge: claims share arms."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._scores: dict[tuple[object, ...], list[Score]] = {}
        self._judges: dict[tuple[object, ...], tuple[Examiner, dict[str, Task]]] = {}
        """By judgement, with the tasks as it pays for them."""

    def scores(self, name: str, claim: ClaimFile) -> list[Score]:
        """Of an archive, as the claim's judge sees its episodes. Raises `InputError` as `read_archive` does."""
        judgement = _judgement(claim)
        key = (name, *judgement)
        if key not in self._scores:
            if judgement not in self._judges:
                evaluator, hiding_penalty, verbosity_cost = judgement
                tasks = {each: task.with_hiding_penalty(hiding_penalty) for each, task in load_tasks().items()}
                if verbosity_cost is not None:
                    tasks = {each: task.with_verbosity_cost(verbosity_cost) for each, task in tasks.items()}
                self._judges[judgement] = (
                    Examiner(Evaluator(make_evaluator_config(json.loads(evaluator), "judge"))),
                    tasks,
                )
            examiner, tasks = self._judges[judgement]
            self._scores[key] = [
                examiner.score(examiner.examine(episode, task), episode)
                for episode in read_archive(self._ledger, name)
                for task in [find_task(episode.task, tasks)]
            ]
        return self._scores[key]


def find_differences(claim: ClaimFile, frozen: LedgerLine, line: LedgerLine, archives: ScoredArchives) -> list[str]:
    """What a result says otherwise than its stored episodes do, a sentence each; none: it stands. Raises `InputError`
    where they do not say."""
    assert line.result is not None
    if line.seeds != frozen.seeds:
        return [f"{line.claim} on {line.rung}: its seeds are not those that were frozen"]
    anew = derive_result(claim, line, archives)
    return [
        *_missing_episodes(frozen, claim, line, archives),
        *_differences(line.result.model_dump(), anew.model_dump(), line.claim),
    ]


def _missing_episodes(
    frozen: LedgerLine, claim: ClaimFile, line: LedgerLine, archives: "ScoredArchives"
) -> Iterator[str]:
    """Archives that hold fewer than the claim and its recipe ask for."""
    recipe = parse_toml(Path(f"{line.rung}.toml"), frozen.recipe).get("evaluation", {})
    for arm, each in claim.arms.items():
        wanted = each.settings.get("episodes", recipe.get("episodes"))
        wanted = claim.episodes if wanted == "{episodes}" else wanted
        for seed in line.seeds:
            name = line.archives[f"seed-{seed}/{arm}"]
            there = len(archives.scores(name, claim))
            if isinstance(wanted, int) and there < wanted:
                yield f"{line.claim} on {line.rung}: {there} of {wanted} episodes of seed-{seed}/{arm} in {name}"


def _differences(there: object, anew: object, where: str) -> Iterable[str]:
    match there, anew:
        case dict(), dict():
            for key in sorted({*there, *anew}):
                yield from _differences(there.get(key), anew.get(key), f"{where} {key}")
        case ((list() | tuple()), (list() | tuple())) if len(there) == len(anew):
            for number, (old, new) in enumerate(zip(there, anew, strict=True)):
                yield from _differences(old, new, f"{where}[{number}]")
        case float(), float():
            if not abs(there - anew) <= _TOLERANCE * max(1.0, abs(there)):  # of what is no number neither holds
                yield f"{where}: {there:.6g} in the ledger, {anew:.6g} from its episodes"
        case _:
            if there != anew:
                yield f"{where}: {there!r} in the ledger, {anew!r} from its episodes"
