"""`devnull claims run`: freezes what is predicted, runs the jobs, judges each claim as soon as its jobs are done."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from devnull.cli.claims.choosing import TABLE
from devnull.cli.claims.judging import all_done, judge_run
from devnull.cli.claims.ledger import Ledger, LedgerLine, now
from devnull.cli.claims.plan import Plan, merge_jobs
from devnull.cli.claims.running import JobEnd, JobRunner, is_done, last_line, run_jobs
from devnull.cli.runs.run_folder import git_revision
from devnull.cli.terminal.progress import print_progress
from devnull.eval.claims.claim_reader import LoadedClaim, text_digest
from devnull.eval.claims.table import predict
from devnull.eval.claims.verdict import exact_result
from devnull.eval.display.escaping import escape_controls
from devnull.sandbox.errors import InfrastructureError, InputError

_STOPPING_RULE = "every arm and seed, once; nothing is judged before all are there"


def find_frozen(claim: LoadedClaim, rung: str, recipe: str, seeds: Sequence[int], ledger: Ledger) -> LedgerLine | None:
    """The prediction, if it is in the ledger.

    Raises `InputError` for a claim that was edited since it was frozen for any rung, or is to be run otherwise.
    """
    digest = text_digest(claim.text, recipe)
    there = ledger.frozen(claim.version, rung)
    for frozen in ledger.frozen_rungs(claim.version):
        other_text, other_recipe = frozen.text != claim.text, frozen is there and frozen.digest != digest
        if other_text or other_recipe:
            raise InputError(
                f"{claim.version} was frozen on {frozen.at[:10]} and {'its file' if other_text else 'the recipe'} was "
                f"edited since; raise `revision` in {claim.path} to {claim.file.revision + 1}, or take the edit back"
            )
    if there is not None and there.seeds != tuple(seeds):
        raise InputError(
            f"{claim.version} was frozen on {there.at[:10]} for seeds {', '.join(map(str, there.seeds))}; run it "
            f"with --seeds {len(there.seeds)}, or raise `revision` in {claim.path}"
        )
    return there


def freeze(claim: LoadedClaim, rung: str, recipe: str, seeds: Sequence[int], ledger: Ledger) -> LedgerLine:
    """Writes the prediction into the ledger, flushed, unless it is there. Raises `InputError` as `find_frozen` does."""
    there = find_frozen(claim, rung, recipe, seeds, ledger)
    if there is not None:
        return there
    primary = claim.file.contrasts[0]
    line = LedgerLine(
        kind="frozen",
        claim=claim.version,
        rung=rung,
        at=now(),
        git_revision=git_revision(),
        text=claim.text,
        recipe=recipe,
        digest=text_digest(claim.text, recipe),
        seeds=tuple(seeds),
        episodes=claim.file.episodes,
        primary=f"{primary.name} {primary.prediction}",
        theory=predict(claim.file),
        stopping_rule=_STOPPING_RULE,
    )
    ledger.append(line)
    return line


def judge_table(claims: Sequence[LoadedClaim], ledger: Ledger) -> None:
    """The verdicts of the exact theory, into the ledger, unless they are there. Raises `InputError` where it says
    nothing of a claim, or as `freeze` does; then nothing is written."""
    predictions = []
    for claim in claims:
        find_frozen(claim, TABLE, "", (), ledger)
        predicted = predict(claim.file)
        if predicted is None:
            raise InputError(f"{claim.name}: the table rung knows nothing of its tasks, arms or metrics; --rung tiny")
        predictions.append(predicted)
    for claim, predicted in zip(claims, predictions, strict=True):
        freeze(claim, TABLE, "", (), ledger)
        if ledger.result(claim.version, TABLE) is None:
            line = LedgerLine(kind="result", claim=claim.version, rung=TABLE, at=now())
            line = line.model_copy(update={"result": exact_result(claim.file, predicted)})
            ledger.append(line.model_copy(update={"answer": ledger.answer_next(line)}))


def play(
    plans: Sequence[Plan], root: Path, ledger: Ledger, runner: JobRunner, *, boxes: Sequence[str], seconds: float | None
) -> None:
    """Runs what the plans owe and judges each that is whole. All must be frozen.

    Args:
        boxes: The options of a command that say what makes its boxes.
        seconds: The budget.

    Raises `InfrastructureError` where a job failed or the budget was too short for all; what is done stays.
    """
    jobs = merge_jobs(plans)
    names = {digest: f"{plan.claim.name} {name}" for plan in reversed(plans) for name, digest in plan.names.items()}
    for plan in plans:
        _link_jobs(plan, root)
    done = sum(is_done(job, root) for job in jobs.values())
    if done:
        print_progress(f"{done} of {len(jobs)} jobs are there")
    failed: list[str] = []
    _judge_whole(plans, root, ledger)
    with contextlib.closing(run_jobs(jobs, root, runner, boxes=boxes, seconds=seconds)) as ends:
        for end in ends:
            done += end.status == 0
            print_progress(_describe_end(end, names[end.digest], done, len(jobs)))
            if end.status:
                folder = jobs[end.digest].folder(root)
                failed.append(f"{names[end.digest]}: {last_line(jobs[end.digest], root)} (all of it: {folder})")
            _judge_whole(plans, root, ledger)
    if failed:
        raise InfrastructureError(f"{len(failed)} of {len(jobs)} jobs failed; {failed[0]}")
    if done < len(jobs):
        owed = ", ".join(plan.claim.name for plan in plans if not all_done(plan, root))
        raise InfrastructureError(
            f"the budget is spent: {len(jobs) - done} of {len(jobs)} jobs are owed ({owed}); "
            f"run the same command again to go on"
        )


def _judge_whole(plans: Sequence[Plan], root: Path, ledger: Ledger) -> None:
    for plan in plans:
        if ledger.result(plan.claim.version, plan.recipe.name) is None and all_done(plan, root):
            line = judge_run(plan, root, ledger.path)
            answer = ledger.answer_next(line)
            ledger.append(line.model_copy(update={"answer": answer, "git_revision": git_revision()}))
            print_progress(escape_controls(f"{plan.claim.version}: {answer}"))


def _describe_end(end: JobEnd, name: str, done: int, total: int) -> str:
    outcome = f"{end.seconds:.0f} s" if end.status == 0 else f"failed with {end.status}"
    return escape_controls(f"{name}: {outcome} ({done} of {total} jobs)")


def _link_jobs(plan: Plan, root: Path) -> None:
    """`K1/seed-0/partial`, for people: a link to the job's folder."""
    for name, digest in plan.names.items():
        link = root / plan.claim.name / name
        link.parent.mkdir(parents=True, exist_ok=True)
        target = os.path.relpath(plan.jobs[digest].folder(root), link.parent)
        if link.is_symlink() and link.readlink() != Path(target):
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(target)


def check_budget(plans: Sequence[Plan], root: Path, seconds: float | None, workers: int) -> None:
    """Raises `InputError` where the budget is too small for one arm of any of the claims."""
    if seconds is None:
        return
    arms = [
        sum(job.seconds for job in plan.chain(digest).values() if not is_done(job, root))
        for plan in plans
        for digests in plan.evaluations.values()
        for digest in digests
        if not is_done(plan.jobs[digest], root)
    ]
    if arms and min(arms) > seconds:
        raise InputError(
            f"--budget {seconds / 60:g}m is less than one arm takes, about {min(arms) / 60:.0f} minutes; all that is "
            f"owed takes about {_owed(plans, root) / workers / 60:.0f} minutes"
        )


def _owed(plans: Sequence[Plan], root: Path) -> float:
    return sum(job.seconds for job in merge_jobs(plans).values() if not is_done(job, root))
