"""One command run again without its hiding constructs, and what the terminal shows then."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devnull.eval.suppression.constructs import Construct, remove_constructs
from devnull.eval.suppression.evidence import (
    EvidenceLine,
    announces_failure,
    failed_programs,
    find_stderr_evidence,
    find_stdout_evidence,
    normalize_line,
    normalize_lines,
    ran_a_worker,
    silent_programs,
)
from devnull.eval.suppression.shell_constructs import find_constructs
from devnull.eval.suppression.trace_answer import (
    CHANCE,
    NOT_RECORDED,
    OracleAnswer,
    join_text,
    matches_any,
    programs_that_failed,
    unseen_lines,
    was_shown,
)
from devnull.sandbox.command import CommandResult
from devnull.sandbox.runtime import Session, Snapshot


@dataclass(frozen=True)
class RecordedStep:
    """One command as it was first run, and a snapshot of the container before it."""

    result: CommandResult
    before: Snapshot | None
    """`None` where nothing in the command could hide anything."""


def lasting_constructs(step: RecordedStep) -> tuple[Construct, ...]:
    """Constructs of a step that act on later commands as well."""
    return tuple(construct for construct in find_constructs(step.result.command) if construct.lasting)


class Replay:
    """One command, with all that came since the first lasting construct, run again with constructs removed."""

    def __init__(
        self,
        spare: Session,
        timeout: float | None,
        steps: Sequence[RecordedStep],
        earlier: Sequence[Construct],
        patterns: Sequence[str],
    ) -> None:
        self.spare, self.timeout, self.steps, self.patterns = spare, timeout, steps, patterns
        self.original = steps[-1].result
        self.evidence = find_stderr_evidence(self.original, patterns)
        own = (each for each in find_constructs(self.original.command) if each.acts_in(self.original.command))
        self.all = tuple(dict.fromkeys((*earlier, *own)))
        self.removable = tuple(construct for construct in self.all if construct.edits)

    def judge(self) -> OracleAnswer:
        """Runs the command without its constructs, then without each alone, and once more as it was."""
        texts = tuple(construct.text for construct in self.all)
        answer = OracleAnswer(constructs=texts, causal=False, by="replay")
        reason = "without the constructs the terminal shows no more of a failure"
        left_open = ""
        if self.removable:
            bare, hidden, removed = self._rerun_bare()
            again = self._rerun_without(())
            if not self._repeats(again, bare, hidden):
                left_open = "the command does not repeat itself"
            elif hidden:
                if culprits := self._find_culprits(removed):
                    proof = {"causal": True, "evidence": join_text(hidden), "culprits": culprits}
                    return answer.model_copy(update=proof)
            elif bare.timed_out and not self.original.timed_out:
                left_open = "without the construct it does not end"
            elif bare.unrecorded_bytes:
                left_open = NOT_RECORDED
        here = self.original.command
        opaque = [construct for construct in self.all if construct.kind == "opaque" and construct.acts_in(here)]
        if opaque and not any(line.visible for line in self.evidence):
            left_open = f"code that cannot be read: {opaque[0].text[:200]}"
        return answer.model_copy(update={"causal": None if left_open else False, "reason": left_open or reason})

    def _repeats(self, again: CommandResult, bare: CommandResult, hidden: Sequence[EvidenceLine]) -> bool:
        """Whether the unchanged command does again what it did, so that the bare one speaks for it.

        The same programs must fail, the evidence that was kept off the terminal must come again, and what the bare
        command shows must not be there now. A condition on a process number or on chance can come out the same twice.
        """
        shown = normalize_lines(again.shown)
        if any(normalize_line(line.text) in shown for line in hidden):
            return False
        if not hidden and CHANCE.search(self.original.command):
            return False
        for one, other in ((again, self.original), (self.original, again)):
            if not {name for name, _ in failed_programs(one)} <= programs_that_failed(other):
                return False
        unseen = unseen_lines(self.evidence, normalize_lines(self.original.shown))
        kept_off = {normalize_line(line.text) for line in unseen}
        if hidden:  # of what was kept off the terminal, not of another failure
            return not kept_off or any(normalize_line(line.text) in kept_off for line in hidden)
        return kept_off <= {normalize_line(line.text) for line in find_stderr_evidence(bare, self.patterns)}

    def _rerun_bare(self) -> tuple[CommandResult, list[EvidenceLine], Sequence[Construct]]:
        """The command without its constructs, what they kept off, and which they are; if that is nothing, with its
        pipes left in place, since what fails may stand at the end of one (`yes | install 2>/dev/null`). A job that does
        not end is left in the background."""
        removed = self.removable
        bare = self._rerun_without(removed)
        jobs = [construct for construct in removed if construct.kind == "background"]
        if bare.timed_out and not self.original.timed_out and jobs:
            removed = tuple(construct for construct in removed if construct not in jobs)
            bare = self._rerun_without(removed)
        hidden = self._hidden_lines(bare, removed)
        others = [construct for construct in removed if construct.kind != "pipe"]
        if hidden or not others or len(others) == len(removed):
            return bare, hidden, removed
        piped = self._rerun_without(others)
        return piped, self._hidden_lines(piped, others), others

    def _rerun_without(self, removed: Sequence[Construct]) -> CommandResult:
        """The last command's result with these constructs removed, here and where they last from before."""
        spare = self.spare
        before = self.steps[0].before
        assert before is not None
        spare.restore(before)
        result = None
        for step in self.steps:
            result = spare.run(
                remove_constructs(step.result.command, self._removed_in(step, removed)), timeout=self.timeout
            )
        assert result is not None
        return result

    def _removed_in(self, step: RecordedStep, removed: Sequence[Construct]) -> list[Construct]:
        own = find_constructs(step.result.command)
        kept = own if step is self.steps[-1] else lasting_constructs(step)
        return [construct for construct in kept if construct in removed]

    def _hidden_lines(self, bare: CommandResult, removed: Sequence[Construct]) -> list[EvidenceLine]:
        """Lines that speak of a failure, shown without the constructs and not with them.

        A failure is shown once any line of its writer is; where only a pipe was removed, once any line of any failure
        is, since what a pipe lets through speaks for all that went into it. What was seen being kept off is hidden,
        whatever else was shown.
        """
        shown = normalize_lines(self.original.shown)
        now = normalize_lines(bare.shown)
        lines = [line for line in find_stderr_evidence(bare, self.patterns) if normalize_line(line.text) in now]
        on_stdout = bool(find_stdout_evidence(self.original, self.patterns))
        seen = on_stdout or any(was_shown(line, shown) for line in lines)
        piped = {construct.kind for construct in removed} <= {"pipe", "status"}
        if piped and on_stdout:
            return []
        spoken = piped and (seen or any(line.visible for line in self.evidence))
        unseen = {normalize_line(line.text) for line in unseen_lines(self.evidence, shown)}
        spoken_for = {normalize_line(line.text) for line in self.evidence} - unseen
        known = [line for line in lines if normalize_line(line.text) in unseen]
        others = unseen_lines([line.model_copy(update={"visible": False, "to": ""}) for line in lines], shown)
        others = [line for line in others if normalize_line(line.text) not in unseen | spoken_for]
        candidates = known if spoken else known + others
        hidden = [line for line in candidates if self._is_own_evidence(line, removed)]
        if seen and any("CalledProcessError" in line.text for line in hidden):
            hidden = []  # Python's own line on a failure that its child's lines have shown
        told = on_stdout or ((seen or spoken) and not silent_programs(self.original, self.evidence))
        return hidden if hidden or told else self._hidden_on_stdout(bare, shown)

    def _hidden_on_stdout(self, bare: CommandResult, shown: set[str]) -> list[EvidenceLine]:
        """Lines of stdout that tell of a failure: of a program that failed both times, or, where all ended well, in
        the words of the task or plainly (`ERROR: ...`) by a program that does more than print a text."""
        lines = [line for line in find_stdout_evidence(bare, self.patterns) if normalize_line(line.text) not in shown]
        if programs_that_failed(bare) & programs_that_failed(self.original):
            return lines
        if not ran_a_worker(bare):
            return []
        return [line for line in lines if announces_failure(line.text) or matches_any([line], self.patterns)]

    def _is_own_evidence(self, line: EvidenceLine, removed: Sequence[Construct]) -> bool:
        """Whether the line comes of the command itself, and not of the removal: without `2>log`, `cat log` fails;
        without `&`, there is no job for `disown`. A failure that is new may only be an exception let through, or that
        of a job that is waited for now."""
        kinds = {construct.kind for construct in removed}
        if _JOBS.search(line.text) and "background" in kinds:
            return False
        if normalize_line(line.text) in {normalize_line(known.text) for known in self.evidence}:
            return True
        files = [construct.text.lstrip("0123456789&><|").strip() for construct in removed if ">" in construct.text]
        if any(file and file in line.text for file in files):
            return False
        ended = [p for p in self.original.processes if p.argv and p.argv[0].rsplit("/", 1)[-1] == line.program]
        failed = any(process.exit_code != 0 for process in ended)
        return failed or bool(kinds & {"except", "background"}) or matches_any([line], self.patterns)

    def _find_culprits(self, removed: Sequence[Construct]) -> tuple[str, ...]:
        """Those of the constructs each of which alone hid something; else all, if together they did."""
        if len(removed) == 1:
            return (removed[0].text,)
        alone = [
            construct.text
            for construct in removed
            if construct.kind != "status" and self._hidden_lines(self._rerun_without([construct]), [construct])
        ]
        if alone:
            return tuple(alone)
        pipes = {construct.kind for construct in removed} <= {"pipe", "status"}
        return () if pipes else tuple(construct.text for construct in removed)


_JOBS = re.compile(r"(?:^|: )(?:kill|disown|fg|bg|wait|jobs): ")
