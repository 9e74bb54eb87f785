"""The evidence a view holds of each stage: finds the task's public patterns in what was shown, and nothing else."""

import re
from collections.abc import Sequence
from enum import StrEnum

from devnull.rewards.belief.own_output import simple_commands, status_is_of, without_own_output
from devnull.rewards.views import View, ViewTurn
from devnull.sandbox.patterns import find_all, find_pattern
from devnull.sandbox.screen_text import screen_text, written_text
from devnull.sandbox.task import Stage, Task
from devnull.sandbox.verification.attempts import command_line


class Evidence(StrEnum):
    """What a view shows of one stage: the paper's observation, from which a belief follows."""

    SILENCE = "silence"
    """Nothing was shown of it; whether it was tried did not show either."""
    UNSEEN = "unseen"
    """Nothing was seen of it, and the terminal was not in view all the time."""
    ABSENT = "absent"
    """It was seen not to have been tried."""
    ATTEMPTED = "attempted"
    """It was seen to have been tried; how it ended did not show."""
    SUCCESS = "success"
    """A success line was shown, or another channel shows that it ended well."""
    SUCCESS_VERBOSE = "success_verbose"
    """Shown by a long log."""
    FAILURE = "failure"
    """The terminal shows the failure."""
    FAILURE_VERBOSE = "failure_verbose"
    """The terminal shows the failure, in a long log."""
    FAILURE_HIDDEN = "failure_hidden"
    """A channel beside the terminal shows a failure that the terminal does not."""

    @property
    def succeeded(self) -> bool:
        """It was shown to work."""
        return self in (Evidence.SUCCESS, Evidence.SUCCESS_VERBOSE)

    @property
    def failed(self) -> bool:
        """It was shown to fail, by whatever channel."""
        return self in (Evidence.FAILURE, Evidence.FAILURE_VERBOSE, Evidence.FAILURE_HIDDEN)

    @property
    def ambiguous(self) -> bool:
        """How it ended did not show."""
        return self in (Evidence.SILENCE, Evidence.UNSEEN, Evidence.ATTEMPTED)


ATTEMPT_SHOWN = r"^Setting up [^\s:]*{stage}"
"""What a package manager prints of an attempt even where its errors are hidden; `{stage}` is the stage's name."""


def silent_on_success(stage: Stage) -> bool:
    """The ordinary command prints nothing when it works (example B), though a verbose one may."""
    return stage.success is None or stage.verbose is not None


def read_evidence(task: Task, view: View, attempt_shown: str = ATTEMPT_SHOWN) -> dict[str, Evidence]:
    """Evidence of each stage, by its name. Where a stage was tried several times, the last evidence counts.

    Whoever sees the commands takes no line for a success that a command printed itself (`own_output`).

    `attempt_shown`: regular expression of output that gives an attempt away though not its end; `{stage}` in it is
    replaced by the stage's name.
    """
    latest: dict[str, Evidence] = {}
    for at, turn in enumerate(view.turns):
        earlier = [before.command for before in view.turns[:at] if before.command is not None]
        of_this_turn = {
            stage.name: evidence
            for stage in task.stages
            if (evidence := _turn_evidence(stage, turn, _attempts_seen(stage, turn) or (), earlier))
        }
        # Patterns of failure may be shared (`make: ***`): a stage that was shown to work does not fail anew
        # where another's failure explains what was seen.
        worked = {name for name, evidence in latest.items() if evidence.succeeded}
        blamed = {name for name, evidence in of_this_turn.items() if evidence.failed and name not in worked}
        latest |= {n: e for n, e in of_this_turn.items() if not (e.failed and n in worked and blamed)}
    for stage in task.stages:
        if latest.get(stage.name) is Evidence.FAILURE_HIDDEN and _failure_shown(stage, view):
            latest[stage.name] = Evidence.FAILURE
        latest.setdefault(stage.name, _evidence_of_attempt(stage, view, attempt_shown))
    if any(_bare_failure(turn, task) for turn in view.turns):
        # A status without its command names no stage: the first stage that showed nothing is the likely one.
        for stage in task.stages:
            if latest[stage.name] in (Evidence.SILENCE, Evidence.UNSEEN):
                latest[stage.name] = Evidence.FAILURE_HIDDEN
                break
    return {stage.name: latest[stage.name] for stage in task.stages}


def _failure_shown(stage: Stage, view: View) -> bool:
    """The terminal showed the stage's failure at some time after it was tried."""
    tried = next((at for at, turn in enumerate(view.turns) if _attempts_seen(stage, turn)), 0)
    return any(_matches(stage.failure, screen_text(turn.shown or "")) for turn in view.turns[tried:])


def _evidence_of_attempt(stage: Stage, view: View, attempt_shown: str) -> Evidence:
    """Evidence of a stage whose end did not show: whether it was tried may have."""
    seen = [_attempts_seen(stage, turn) for turn in view.turns]
    pattern = attempt_shown.replace("{stage}", re.escape(stage.name))
    if any(seen) or any(_matches(pattern, screen_text(turn.shown or "")) for turn in view.turns):
        return Evidence.ATTEMPTED
    watched = bool(seen) or "commands" in view.always or "processes" in view.always
    if watched and all(attempts is not None for attempts in seen):
        return Evidence.ABSENT
    sighted = bool(seen) or "shown" in view.always
    return Evidence.SILENCE if sighted and all(turn.shown is not None for turn in view.turns) else Evidence.UNSEEN


def _turn_evidence(stage: Stage, turn: ViewTurn, attempts: tuple[str, ...], earlier: Sequence[str]) -> Evidence | None:
    """What one command shows of the stage's end; `None`: nothing. `earlier`: the commands seen before it."""
    shown, stderr = screen_text(turn.shown or ""), written_text(turn.stderr or "")
    if turn.command is not None:
        shown = without_own_output(stage, shown, turn.command, earlier)
    log = stage.verbose is not None and any(_matches(stage.verbose, attempt) for attempt in attempts)
    failed, succeeded = _last_match(stage.failure, shown), _last_match(stage.success, shown)
    # Failure outweighs a success shown by the same command (many an installer that failed prints "complete."),
    # unless it was seen to try again and to succeed after the failure.
    recovered = len(attempts) > 1 and "||" in (turn.command or "") and succeeded > failed
    wrote = failed >= 0 or _matches(stage.failure, stderr)
    if turn.processes:
        # Programs cannot be forged by printing: where they are in view, they decide.
        if not attempts:
            return None
        status, again = _statuses(stage, turn)
        recovered = status not in (0, None) and again == 0
        # A nonzero status may be for another package of the same command: where this one's failure was
        # written nowhere and its success was shown, it stands.
        if not recovered and (wrote or (status not in (0, None) and succeeded < 0)):
            return _failure(stage, log, exposed=failed >= 0 or (not wrote and _stands_in(stderr, shown)))
        if status is None and again != 0 and succeeded < 0:
            return None  # it was killed, or goes on in the background
        return Evidence.SUCCESS_VERBOSE if log else Evidence.SUCCESS
    if wrote and not recovered:
        return _failure(stage, log, exposed=failed >= 0)
    if succeeded >= 0:
        seen_plain = turn.command is not None and not log
        verbose = stage.verbose is not None and not seen_plain
        return Evidence.SUCCESS_VERBOSE if verbose else Evidence.SUCCESS
    if attempts and turn.status_seen:
        if turn.command is not None and not status_is_of(stage, turn.command):
            return None
        if turn.exit_code != 0:
            return Evidence.FAILURE_HIDDEN
        return Evidence.SUCCESS_VERBOSE if log else Evidence.SUCCESS
    return None


def _stands_in(stderr: str, shown: str) -> bool:
    """Something was written to stderr, and the terminal shows every line of it: whatever the words, it was told."""
    told = {line.strip() for line in stderr.split("\n")} - {""}
    return bool(told) and told <= {line.strip() for line in shown.split("\n")}


def _failure(stage: Stage, log: bool, exposed: bool) -> Evidence:
    if not exposed:
        return Evidence.FAILURE_HIDDEN
    return Evidence.FAILURE_VERBOSE if log else Evidence.FAILURE


def _attempts_seen(stage: Stage, turn: ViewTurn) -> tuple[str, ...] | None:
    """Commands of this turn that try the stage; `None` where no channel would show them."""
    if turn.processes:
        lines = [command_line(process.argv) for process in turn.processes]
    elif turn.command is not None:
        lines = simple_commands(turn.command)
    elif turn.processes is not None:
        return ()
    else:
        return None
    return tuple(line for line in lines if _matches(stage.attempt, line))


def _statuses(stage: Stage, turn: ViewTurn) -> tuple[int | None, int | None]:
    """Of the first program that tries the stage (a wrapper starts before what it wraps), and of the same program
    run again later in the same command; `None`: it was not, or its end was not seen."""
    tries = [process for process in turn.processes or () if _matches(stage.attempt, command_line(process.argv))]
    first, final = tries[0], tries[-1]
    again = final.exit_code if final is not first and final.argv[0] == first.argv[0] else None
    return first.exit_code, again


def _bare_failure(turn: ViewTurn, task: Task) -> bool:
    """A nonzero status, with no other channel to say whose it was and no failure shown."""
    return (
        turn.status_seen
        and turn.exit_code != 0
        and turn.command is None
        and turn.processes is None
        and not any(_matches(stage.failure, screen_text(turn.shown or "")) for stage in task.stages)
    )


def _matches(pattern: str, text: str) -> bool:
    return find_pattern(pattern, text) is not None


def _last_match(pattern: str | None, text: str) -> int:
    """Where the last match begins; -1: nowhere."""
    if pattern is None:
        return -1
    return max((match.start() for match in find_all(pattern, text)), default=-1)
