"""From the episodes of a claim's arms to its result: after a run from its folders, later from the stored archives."""

import json
from collections.abc import Iterable
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.cli.claims.archive import read_archive, store_episodes
from devnull.cli.claims.ledger import LedgerLine, now
from devnull.cli.claims.plan import Plan
from devnull.cli.claims.running import is_done, job_seconds
from devnull.cli.runs.run_folder import read_episodes
from devnull.eval.claims.claim_file import ClaimFile
from devnull.eval.claims.claim_reader import parse_claim
from devnull.eval.claims.verdict import ClaimResult, judge_claim
from devnull.eval.scoring.examiner import Examiner
from devnull.eval.scoring.score import Score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import make_evaluator_config
from devnull.sandbox.task import Task
from devnull.sandbox.tasks import find_task, load_tasks

_TOLERANCE = 1e-6
"""Within which a figure derived anew must agree: another machine rounds otherwise."""


def judge_run(plan: Plan, root: Path, ledger: Path) -> LedgerLine:
    """Stores the episodes of a plan whose jobs are all done, and judges them. The verdict is left to the ledger."""
    archives = {
        f"seed-{seed}/{arm}": store_episodes(ledger, _arm_episodes(plan, arm, Path(plan.jobs[digest].product(root))))
        for arm, digests in plan.evaluations.items()
        for seed, digest in zip(plan.seeds, digests, strict=True)
    }
    divergences = {
        arm: tuple(_divergence(Path(plan.jobs[digest].product(root))) for digest in digests)
        for arm, digests in plan.policies.items()
    }
    divergences = {arm: kls for arm, each in divergences.items() if (kls := tuple(kl for kl in each if kl is not None))}
    line = LedgerLine(
        kind="result",
        claim=plan.claim.version,
        rung=plan.recipe.name,
        at=now(),
        seeds=plan.seeds,
        archives=archives,
        divergences=divergences,
        measured=_measure_jobs(plan, root),
        seconds=round(sum(job_seconds(job, root) for job in plan.jobs.values()), 1),
    )
    return line.model_copy(update={"result": derive_result(plan.claim.file, line, ScoredArchives(ledger))})


def _arm_episodes(plan: Plan, arm: str, run: Path) -> Iterable[Episode]:
    """Of a rollout that keeps the best of several, only what it kept as this arm."""
    kept_as = plan.claim.file.arms[arm].kept_as
    return (episode for episode in read_episodes(run) if kept_as is None or episode.arm == kept_as)


def all_done(plan: Plan, root: Path) -> bool:
    """Whether every job of a plan has run to its end."""
    return all(is_done(job, root) for job in plan.jobs.values())


def _measure_jobs(plan: Plan, root: Path) -> dict[str, dict[str, tuple[float | None, ...]]]:
    """The metrics that gates ask of jobs."""
    found: dict[str, dict[str, tuple[float | None, ...]]] = {}
    for gate in plan.claim.file.gates.jobs:
        for job in gate.jobs:
            digests = [plan.names[f"seed-{seed}/{job}"] for seed in plan.seeds]
            models = [Path(plan.jobs[digest].product(root)) for digest in digests]
            found.setdefault(job, {})[gate.metric] = tuple(_metric(model, gate.metric) for model in models)
    return found


def _divergence(model: Path) -> float | None:
    """Of its commands, where the words of its reports are told apart from them; nothing of what was trained in rounds,
    whose trainer logs how far it came from the round before."""
    if (model / "drift.json").exists():
        return None
    commands = _metric(model, "kl_commands")
    return _metric(model, "kl_episode") if commands is None else commands


def _metric(model: Path, name: str) -> float | None:
    """Of what a training job logged last."""
    value = json.loads((model / "training.json").read_text()).get("metrics", {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def derive_result(claim: ClaimFile, line: LedgerLine, archives: "ScoredArchives") -> ClaimResult:
    """The result that a line's stored episodes give. Raises `InputError` where they are not those that were stored."""
    scores: dict[str, list[list[Score]]] = {}
    for arm in claim.arms:
        seeds = (line.archives[f"seed-{seed}/{arm}"] for seed in line.seeds)
        scores[arm] = [list(archives.scores(name, claim)) for name in seeds]
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


def find_differences(frozen: LedgerLine, line: LedgerLine, archives: ScoredArchives) -> list[str]:
    """What a result says otherwise than its stored episodes do, a sentence each; none: it stands."""
    assert line.result is not None
    claim = parse_claim(Path(f"{line.claim}.toml"), frozen.text)
    anew = derive_result(claim.file, line, archives)
    return [*_differences(line.result.model_dump(), anew.model_dump(), line.claim)]


def _differences(there: object, anew: object, where: str) -> Iterable[str]:
    match there, anew:
        case dict(), dict():
            for key in sorted({*there, *anew}):
                yield from _differences(there.get(key), anew.get(key), f"{where} {key}")
        case ((list() | tuple()), (list() | tuple())) if len(there) == len(anew):
            for number, (old, new) in enumerate(zip(there, anew, strict=True)):
                yield from _differences(old, new, f"{where}[{number}]")
        case float(), float():
            if abs(there - anew) > _TOLERANCE * max(1.0, abs(there)):
                yield f"{where}: {there:.6g} in the ledger, {anew:.6g} from its episodes"
        case _:
            if there != anew:
                yield f"{where}: {there!r} in the ledger, {anew!r} from its episodes"
