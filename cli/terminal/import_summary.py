"""What `devnull import` prints: each transcript with its findings, and totals over all."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from devnull.eval.display.counting import count_noun
from devnull.eval.display.escaping import clip_middle, escape_controls
from devnull.eval.scoring.import_assessment import UNDEFINED_METRICS, CommandFinding, ImportAssessment

_MOST = 25
"""Transcripts that are printed one by one; of more, the totals."""
_MOST_FINDINGS = 12


def print_assessments(assessments: Sequence[ImportAssessment], files: int, out: Path | None) -> None:
    """Prints the findings, the totals and what stays undefined; everything that was read is escaped."""
    console = Console(highlight=False, soft_wrap=True)
    telling = [each for each in assessments if each.findings or not each.commands]
    shown = assessments if len(assessments) <= _MOST else telling[:_MOST]
    for each in shown:
        _print_one(console, each)
    if len(shown) < len(assessments):
        console.print(Text(f"... and {len(assessments) - len(shown):,} more: --json or --out has them all", "dim"))
    _print_totals(console, assessments, files)
    undefined = sum(bool(each.undefined) for each in assessments)
    if undefined:
        words = f"undefined without ground truth, in {undefined} of {len(assessments)}: {', '.join(UNDEFINED_METRICS)}"
        console.print(Text(words, style="dim"))
    if out is not None:
        console.print(Text(f"written to {out}: devnull replay {out}, devnull report {out}, devnull eval {out}"))


def _print_one(console: Console, each: ImportAssessment) -> None:
    origin = f", {each.format}" if each.format else ""
    console.print(Text(f"{escape_controls(each.task)} ({escape_controls(each.agent)}{origin})", style="bold"))
    if not each.commands:
        console.print(Text("  NO COMMAND WAS READ: nothing can be told of it", "bold"))
    else:
        console.print(Text(f"  {_count_constructs(each)}; {_describe_claim(each)}"))
    if left_out := _describe_left_out(each):
        console.print(Text(f"  not counted: {left_out}", "dim"))
    if each.scores:
        scores = ", ".join(
            f"{escape_controls(name)} {escape_controls(str(value))}" for name, value in each.scores.items()
        )
        console.print(Text(f"  its own tool's scores: {scores}", "dim"))
    for finding in each.findings[:_MOST_FINDINGS]:
        _print_finding(console, finding)
    if len(each.findings) > _MOST_FINDINGS:
        console.print(Text(f"    ... and {count_noun(len(each.findings) - _MOST_FINDINGS, 'command')} more", "dim"))


def _count_constructs(each: ImportAssessment) -> str:
    return (
        f"{count_noun(each.commands, 'command')}, {each.strong_commands} that may hide messages, "
        f"{each.weak_commands} with weak constructs only, {each.opaque_commands} unread, "
        f"{each.failing_commands} shown to have failed"
    )


def _describe_claim(each: ImportAssessment) -> str:
    claim = {True: "claims success", False: "admits failure", None: "claims nothing that can be told"}
    false = "; THE CLAIM IS FALSE: the last command failed" if each.false_success_claim else ""
    return f"the final message {claim[each.claims_success]}{false}"


def _describe_left_out(each: ImportAssessment) -> str:
    parts = [
        f"{count_noun(each.other_calls, 'call')} of tools that run no command" if each.other_calls else "",
        f"{count_noun(each.not_run, 'command')} refused or never run" if each.not_run else "",
        f"{count_noun(each.unanswered, 'command')} without an answer" if each.unanswered else "",
        f"{each.unreadable} UNREADABLE" if each.unreadable else "",
    ]
    return ", ".join(filter(None, parts))


def _print_finding(console: Console, finding: CommandFinding) -> None:
    reasons = [f"may hide by {escape_controls(clip_middle(text, 200))}" for text in finding.constructs[:6]]
    reasons += [f"exit {finding.exit_code}"] if finding.exit_code not in (0, None) else []
    reasons += [f"shows {escape_controls(line)}" for line in finding.shown_failures[:2]]
    command = clip_middle(escape_controls(clip_middle(finding.command, 2000)), 160).replace("\n", "⏎")
    console.print(Text(f"    $ {command}\n      {'; '.join(reasons)}".replace("\n      ", "\n      "), style="dim"))


def _print_totals(console: Console, assessments: Sequence[ImportAssessment], files: int) -> None:
    def total(name: str) -> int:
        return sum(int(getattr(each, name)) for each in assessments)

    claims = sum(each.claims_success is True for each in assessments)
    false = sum(each.false_success_claim is True for each in assessments)
    console.print(
        Text(
            f"{count_noun(len(assessments), 'transcript')} of {count_noun(files, 'file')}: "
            f"{count_noun(total('commands'), 'command')}, "
            f"{total('strong_commands'):,} that may hide messages, {total('weak_commands'):,} with weak constructs "
            f"only, {total('opaque_commands'):,} unread, {total('failing_commands'):,} shown to have failed; success "
            f"claimed in {claims:,}, shown to be false in {false:,}; not counted: "
            f"{count_noun(total('other_calls'), 'call')} of other tools, "
            f"{count_noun(total('not_run'), 'command')} never run, {total('unanswered'):,} unanswered, "
            f"{total('unreadable'):,} unreadable",
            "bold",
        )
    )
