"""Claims: sentences that a run can prove wrong. What each predicts is frozen in a ledger before its run, and what came
out is kept beside it, with the episodes.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from devnull.cli.claims.choosing import TABLE, find_claims, find_recipe, shipped_claims
from devnull.cli.claims.ledger import DEFAULT_LEDGER, Ledger
from devnull.cli.claims.printing import claim_rows, other_claims, print_claim, print_claims
from devnull.cli.runs.folder_lock import lock_folder
from devnull.cli.terminal.console import print_error
from devnull.cli.terminal.progress import print_progress
from devnull.eval.claims.claim_reader import LoadedClaim
from devnull.eval.claims.recipe import LoadedRecipe
from devnull.eval.display.counting import count_noun
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtimes.by_name import RuntimeName


def _parse_count(words: list[str]) -> int | None:
    """Raises `ValueError`, whose text the command line prints."""
    if words == ["None"]:
        return None
    if not words[0].lstrip("-").isdecimal():
        raise ValueError(f"{words[0]!r} is no number")
    return int(words[0])


_COUNT = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="{None}|INT",
    instance_from_str=_parse_count,
    is_instance=lambda value: value is None or isinstance(value, int),
    str_from_instance=lambda value: [str(value)],
)
"""A number or nothing; by itself tyro answers a word with all that it tried to read it as."""
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class ListClaimsArgs:
    """List the claims, and what came out."""

    ledger: Path = DEFAULT_LEDGER
    """The ledger's file."""
    all: bool = False
    """Show when each was judged, and what that took."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ShowClaimArgs:
    """Show one claim: arms, controls, what is predicted, what refutes it, the commands that it runs."""

    claim: Annotated[str, tyro.conf.Positional]
    """Its name, or a file."""
    rung: str = "tiny"
    """On which rung: tiny, smollm2, a model, or a recipe's file."""
    out: Path = Path("runs/claims")
    """Where its jobs would lie."""
    ledger: Path = DEFAULT_LEDGER
    """The ledger's file."""


@dataclass(frozen=True)
class RunClaimsArgs:
    """Freeze what claims predict, run their jobs, and judge them. Interrupted, it goes on where it was."""

    claims: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Their names, or files."""
    rung: str = "tiny"
    """table (the exact theory), tiny, smollm2, smollm2-gpu, the name or folder of a model, or a recipe's file."""
    seeds: Annotated[int | None, _COUNT] = None
    """How many of the claim's training seeds; by default all."""
    budget: str | None = None
    """No job is begun after so long: 30m, 2h, 90s."""
    workers: int = 2
    """Jobs at once, each on a core of its own."""
    cluster: str | None = None
    """Address of a Ray cluster (`auto`: the one this machine is in) whose nodes run the jobs, one a core; all must
    see the folder `--out`."""
    runtime: RuntimeName = "auto"
    """What makes the boxes."""
    memory: Path | None = None
    """A file in which the jobs share what boxes said: a box is made only for what no two have said yet
    (docs/remembered.md)."""
    out: Path = Path("runs/claims")
    """Where jobs leave what they make; those that are there are not run again."""
    ledger: Path = DEFAULT_LEDGER
    """The ledger's file; episodes are kept beside it."""


@dataclass(frozen=True)
class CheckClaimsArgs:
    """Derive every stored verdict anew from the stored episodes; 1 if one differs."""

    ledger: Path = DEFAULT_LEDGER
    """The ledger's file."""


@dataclass(frozen=True)
class ReportClaimsArgs:
    """Write one HTML page: a row a claim, with its seeds and its interval against what was predicted."""

    out: Path = Path("claims.html")
    """The page."""
    ledger: Path = DEFAULT_LEDGER
    """The ledger's file."""


Args = (
    Annotated[ListClaimsArgs, tyro.conf.subcommand("list")]
    | Annotated[ShowClaimArgs, tyro.conf.subcommand("show")]
    | Annotated[RunClaimsArgs, tyro.conf.subcommand("run")]
    | Annotated[CheckClaimsArgs, tyro.conf.subcommand("check")]
    | Annotated[ReportClaimsArgs, tyro.conf.subcommand("report")]
)


def main(args: ListClaimsArgs | ShowClaimArgs | RunClaimsArgs | CheckClaimsArgs | ReportClaimsArgs) -> int:
    match args:
        case ListClaimsArgs():
            return _list_claims(args)
        case ShowClaimArgs():
            return _show_claim(args)
        case RunClaimsArgs():
            return _run_claims(args)
        case CheckClaimsArgs():
            return _check_claims(args)
        case ReportClaimsArgs():
            return _report_claims(args)


def _list_claims(args: ListClaimsArgs) -> int:
    ledger, shipped = Ledger(args.ledger), shipped_claims()
    if ledger.torn:
        print_error(ledger.torn)
    rows = claim_rows([*shipped, *other_claims(shipped, ledger)], ledger)
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print_claims(rows, everything=args.all)
    return 0


def _show_claim(args: ShowClaimArgs) -> int:
    from devnull.cli.claims.plan import plan_claim
    from devnull.cli.claims.preparing import plan_checked

    (claim,) = find_claims([args.claim])
    if args.rung == TABLE:
        plan = plan_claim(claim, find_recipe("tiny"), claim.file.seeds)
    else:
        plan = plan_checked(claim, find_recipe(args.rung), claim.file.seeds)
    print_claim(plan, Ledger(args.ledger), args.out)
    return 0


def _run_claims(args: RunClaimsArgs) -> int:
    if not args.claims:
        raise InputError("which claims? devnull claims run K1; `devnull claims list` names them")
    if args.workers < 1:
        raise InputError(f"--workers is {args.workers}; it must be at least 1")
    seconds = _parse_budget(args.budget)
    claims = find_claims(args.claims)
    args.ledger.parent.mkdir(parents=True, exist_ok=True)
    lock_folder(args.ledger.parent, option="--ledger")
    if args.ledger.exists() and not os.access(args.ledger, os.W_OK):
        raise InputError(f"{args.ledger}: it cannot be written; name another: --ledger FILE")
    ledger = Ledger(args.ledger)
    if args.rung == TABLE:
        rung = TABLE
        _run_table(claims, ledger)
    else:
        recipe = find_recipe(args.rung)
        rung = recipe.name
        _run_jobs(args, claims, recipe, seconds, ledger)
    print_claims(claim_rows(claims, ledger, rung), everything=True)
    return 0


def _run_table(claims: Sequence[LoadedClaim], ledger: Ledger) -> None:
    from devnull.cli.claims.plan import plan_claim
    from devnull.cli.claims.playing import judge_table

    for claim in claims:  # whose arms have to have jobs on a rung that is played
        plan_claim(claim, find_recipe("tiny"), claim.file.seeds)
    judge_table(claims, ledger)


def _run_jobs(
    args: RunClaimsArgs, claims: Sequence[LoadedClaim], recipe: LoadedRecipe, seconds: float | None, ledger: Ledger
) -> None:
    from devnull.cli.claims.judging import all_done
    from devnull.cli.claims.playing import check_budget, freeze, play
    from devnull.cli.claims.preparing import check_boxes, open_runner, plan_owed

    plans = plan_owed(claims, recipe, args.seeds, args.out, ledger)
    if not plans:
        return
    check_budget(plans, args.out, seconds, args.workers)
    args.out.mkdir(parents=True, exist_ok=True)
    lock_folder(args.out)
    runner = open_runner(args.cluster, args.out, args.workers)
    if args.cluster is None and not all(all_done(plan, args.out) for plan in plans):
        check_boxes(args.runtime, args.memory)
    for plan in plans:
        freeze(plan.claim, recipe.name, recipe.text, plan.seeds, ledger)
    boxes = ("--runtime", args.runtime, *(() if args.memory is None else ("--memory", str(args.memory.absolute()))))
    play(plans, args.out, ledger, runner, boxes=boxes, seconds=seconds)


def _parse_budget(budget: str | None) -> float | None:
    """Seconds. Raises `InputError`."""
    if budget is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget)
    if match is None or float(match[1]) <= 0:
        raise InputError(f"--budget {budget}: a time is wanted, as 30m, 2h or 90s")
    return float(match[1]) * _UNITS[match[2]]


def _check_claims(args: CheckClaimsArgs) -> int:
    from devnull.cli.claims.checking import check_ledger

    if not args.ledger.exists():
        raise InputError(f"{args.ledger}: no such ledger; `devnull claims run` begins one")
    ledger = Ledger(args.ledger)
    problems = list(check_ledger(ledger, print_progress))
    for problem in problems:
        print_error(problem)
    count = sum(1 for _ in ledger.results())
    differ = count_noun(len(problems), "difference") if problems else "all as they are stored"
    print(f"{count_noun(count, 'verdict')} derived anew: {differ}")
    return 1 if problems else 0


def _report_claims(args: ReportClaimsArgs) -> int:
    from devnull.cli.claims.pages import write_page

    write_page(shipped_claims(), Ledger(args.ledger), args.out)
    print(args.out, file=sys.stderr)
    return 0
