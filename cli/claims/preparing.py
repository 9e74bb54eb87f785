"""Before a claim is frozen: all that would stop its run is tried, so that nothing is frozen in vain."""

from collections.abc import Sequence
from pathlib import Path

from devnull.cli.claims.choosing import choose_seeds
from devnull.cli.claims.judging import restore_archives
from devnull.cli.claims.ledger import Ledger
from devnull.cli.claims.plan import Plan, plan_claim
from devnull.cli.claims.plan_checks import check_plan
from devnull.cli.claims.playing import find_frozen
from devnull.cli.claims.running import JobRunner, LocalRunner
from devnull.cli.terminal.progress import print_progress
from devnull.eval.claims.claim_reader import LoadedClaim
from devnull.eval.claims.recipe import LoadedRecipe
from devnull.sandbox.errors import InputError
from devnull.sandbox.extras import require
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.runtimes.world_memory import WorldMemory


def plan_checked(claim: LoadedClaim, recipe: LoadedRecipe, seeds: Sequence[int]) -> Plan:
    """The jobs of a claim. Raises `InputError` as `plan_claim` and `check_plan` do."""
    plan = plan_claim(claim, recipe, seeds)
    check_plan(plan)
    return plan


def plan_owed(
    claims: Sequence[LoadedClaim], recipe: LoadedRecipe, count: int | None, root: Path, ledger: Ledger
) -> list[Plan]:
    """Plans of the claims that have no verdict yet; archives of the others that are gone are made again.

    Args:
        count: How many of each claim's training seeds; by default all.

    Raises `InputError` for a claim that cannot be run, or is not what was frozen.
    """
    owed = []
    for claim in claims:
        if claim.file.missing:
            raise InputError(f"{claim.name} cannot be run yet: {', '.join(claim.file.missing)} is not there")
        seeds, found = choose_seeds(claim, count), ledger.result(claim.version, recipe.name)
        if found is None:
            find_frozen(claim, recipe.name, recipe.text, seeds, ledger)
            owed.append(plan_checked(claim, recipe, seeds))
        else:
            find_frozen(claim, recipe.name, recipe.text, found.seeds, ledger)
            for sentence in restore_archives(plan_claim(claim, recipe, found.seeds), found, root, ledger.path):
                print_progress(sentence)
    return owed


def check_boxes(runtime: str, memory: Path | None) -> None:
    """Makes a box and throws it away. Raises as `open_runtime` does, and `InputError` for a memory that cannot be
    written; `remembered` may do without boxes."""
    if memory is not None:
        WorldMemory(memory).check_writable()
    if runtime != "remembered":
        open_runtime(runtime, print_progress).start().close()
    elif memory is not None:
        open_runtime(runtime, print_progress, memory=memory)


def open_runner(cluster: str | None, root: Path, workers: int) -> JobRunner:
    """What runs the jobs: this machine, or a Ray cluster. Raises `InputError` where there is none."""
    if cluster is None:
        return LocalRunner(root, workers)
    require("ray", "ray", "--cluster")
    from devnull.cli.claims.cluster_running import open_cluster_runner

    return open_cluster_runner(cluster, root)
