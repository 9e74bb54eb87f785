"""Claims as a terminal shows them, in 80 columns."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from devnull.cli.claims.ledger import Ledger, LedgerLine, describe_answer
from devnull.cli.claims.plan import Plan, describe_jobs
from devnull.cli.terminal.tables import Column, print_table, table_console
from devnull.eval.claims.claim_reader import LoadedClaim
from devnull.eval.claims.table import predict
from devnull.eval.display.escaping import escape_controls


def claim_rows(claims: Sequence[LoadedClaim], ledger: Ledger, rung: str | None = None) -> list[dict[str, Any]]:
    """A row a claim and rung on which it was frozen; one for a claim that never was.

    Args:
        rung: This one only.
    """
    answers, rows = ledger.answers(), []
    for claim in claims:
        frozen = [line for line in ledger.frozen_rungs(claim.version) if rung is None or line.rung == rung]
        for line in frozen or (None,):
            result = None if line is None else ledger.result(*line.key)
            rows.append(
                {
                    "claim": claim.version,
                    "sentence": claim.file.sentence,
                    "rung": None if line is None else line.rung,
                    "status": _status(claim, line, result, answers),
                    "at": None if line is None else (result or line).at,
                    "seconds": None if result is None else result.seconds,
                }
            )
    return rows


def other_claims(claims: Sequence[LoadedClaim], ledger: Ledger) -> list[LoadedClaim]:
    """The ledger's claims that are not among `claims`, as they were frozen: each in its latest revision, and not where
    one of `claims` is a later one. Raises `InputError` where a text states no claim."""
    latest = {claim.name: (claim.file.revision, claim) for claim in claims}
    for line in ledger.lines:
        name, _, revision = line.claim.rpartition("@")
        if line.kind == "frozen" and (name not in latest or int(revision) > latest[name][0]):
            latest[name] = int(revision), ledger.frozen_claim(line)
    return [claim for _, claim in latest.values() if claim not in claims]


def _status(
    claim: LoadedClaim, frozen: LedgerLine | None, result: LedgerLine | None, answers: dict[tuple[str, str], Any]
) -> str:
    if result is not None:
        return describe_answer(answers[result.key], result.rung)
    if frozen is not None:
        return "begun"
    return "not runnable yet" if claim.file.missing else "never run"


def print_claims(rows: Sequence[dict[str, Any]], *, everything: bool = False) -> None:
    """The rows of `claim_rows` as a table; `everything`: with when each was judged, and what it took."""
    columns = [Column(name, [row[name] or "" for row in rows]) for name in ("claim", "status", "rung")]
    if everything:
        columns.append(Column("when", [(row["at"] or "")[:10] for row in rows]))
        columns.append(Column("cost", [_cost(row["seconds"]) for row in rows]))
    columns.append(Column("sentence", [row["sentence"] for row in rows], prose=True))
    print_table(table_console(), columns)


def _cost(seconds: float | None) -> str:
    """Of all jobs together."""
    if not seconds:
        return ""
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def print_claim(plan: Plan, ledger: Ledger, root: Path) -> None:
    """All that a claim says before it is run, and what came out if it was."""
    claim, console = plan.claim.file, table_console()

    def say(title: str, text: str) -> None:
        console.print(Text(f"\n{escape_controls(title)}", style="bold"))
        console.print(Text(escape_controls(text)))

    console.print(Text(escape_controls(f"{plan.claim.version}: {claim.sentence}")))
    if claim.source:
        console.print(Text(escape_controls(f"({claim.source})")))
    if claim.missing:
        say("not runnable yet", f"no command has {', '.join(claim.missing)}")
    say("arms", "\n".join(f"  {arm}: {_describe_arm(plan, arm)}" for arm in claim.arms))
    theory = predict(claim)
    console.print(Text("\npredicted, all of it", style="bold"))
    table = Table(box=None, pad_edge=False)
    for name in ("contrast", "of", "predicted", "exact theory"):
        table.add_column(name)
    for contrast in claim.contrasts:
        terms = " ".join(
            f"{weight:+.3g} {arm}{f' {metric}' if metric != contrast.metric else ''}"
            for arm, metric, weight in contrast.terms
        )
        exact = "" if theory is None else f"{theory[contrast.name]:+.2f}"
        cells = (contrast.name, f"{contrast.metric}: {terms}", contrast.prediction, exact)
        table.add_row(*(Text(escape_controls(cell)) for cell in cells))
    console.print(table)
    say("refuted by", claim.refuted_by)
    say("void unless, in every arm", _describe_gates(plan))
    say("caveat", claim.caveat)
    say(
        "sample",
        f"training seeds {', '.join(map(str, plan.seeds))}; {claim.episodes} held-out episodes of {claim.family} "
        f"an arm and seed; judged by pH {claim.p_hide:g}, r {claim.hiding_penalty:g}",
    )
    say(
        "budget",
        f"{len(plan.jobs)} jobs, about {plan.seconds / 60:.0f} minutes of one core on the rung {plan.recipe.name}: "
        f"{plan.recipe.file.summary}",
    )
    for row in claim_rows([plan.claim], ledger):
        if row["rung"] is not None:
            say(f"on the rung {row['rung']}", f"{row['status']}, {row['at'][:10]}")
    edited = [line for line in ledger.frozen_rungs(plan.claim.version) if line.text != plan.claim.text]
    if edited:
        say(
            "edited since it was frozen",
            f"what stands here is not what was frozen on {edited[0].at[:10]}, and cannot be run: raise `revision` in "
            f"{plan.claim.path} to {claim.revision + 1}, or take the edit back",
        )
    console.print(Text(f"\njobs of training seed {plan.seeds[0]}", style="bold"))
    for name, words in describe_jobs(plan, root, plan.seeds[0]):
        console.print(Text(escape_controls(f"# {name.partition('/')[2]}")))
        console.print(Text(escape_controls(f"devnull {shlex.join(words)}")), soft_wrap=True)


def _describe_arm(plan: Plan, arm: str) -> str:
    each = plan.claim.file.arms[arm]
    agent = each.settings.get("agent")
    words = [str(agent)] if agent is not None else []
    if agent is None:
        name = each.policy or arm
        job = plan.jobs[plan.names[f"seed-{plan.seeds[0]}/{name}"]]
        own = plan.claim.file.jobs.get(name)
        settings = own.settings if own is not None else {}
        like = "" if own is None or own.like is None else f" as {own.like}"
        words = [f"{job.command}{like}", *(f"{key} = {_spell(value)}" for key, value in settings.items())]
    words += [f"sampled with {key} = {value}" for key, value in each.settings.items() if key not in ("agent", "arm")]
    return ", ".join(words)


def _spell(value: object) -> str:
    """A setting for people: tables and lists without quotes."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_spell(each)}" for key, each in value.items())
    return " ".join(map(_spell, value)) if isinstance(value, list) else f"{value}"


def _describe_gates(plan: Plan) -> str:
    gates = plan.claim.file.gates
    parts = [
        f"valid messages ≥ {gates.valid:g}",
        f"material failures ≥ {gates.failures}",
        f"infrastructure errors ≤ {gates.errors:.0%}",
    ]
    parts += [] if gates.kl is None else [f"divergence ≤ {gates.kl:g} nats"]
    parts += [f"attempts of {arm} ≥ {least:g}" for arm, least in gates.attempts.items()]
    parts += [f"{gate.metric} of {', '.join(gate.jobs)} {gate.wanted}" for gate in gates.jobs]
    parts += [] if not gates.except_arms else [f"let through: {', '.join(gates.except_arms)}"]
    return "; ".join(parts)
