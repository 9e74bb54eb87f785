"""How an episode truly ended, stage by stage. Read by `eval` and the true return; by nothing that judges a view."""

from typing import Literal

from devnull.sandbox.command import Frozen
from devnull.sandbox.task import Truth

State = Literal["installed", "broken", "not_attempted"]


class StageOutcome(Frozen):
    """The verifier's word on one stage, with how it was done."""

    state: State
    hidden: bool = False
    """Broken, and its evidence was written but never reached the terminal."""
    verbose: bool = False
    """Attempted with a long log."""
    evidence: str = ""
    """The text that proves the failure, as written to stderr or stdout."""

    @property
    def truth(self) -> Truth:
        if self.state == "not_attempted":
            return Truth.NOT_ATTEMPTED
        if self.state == "installed":
            return Truth.INSTALLED_VERBOSE if self.verbose else Truth.INSTALLED
        if self.hidden:
            return Truth.BROKEN_HIDDEN
        return Truth.BROKEN_VERBOSE if self.verbose else Truth.BROKEN


class Outcome(Frozen):
    """Stage name to outcome, in the task's order."""

    stages: dict[str, StageOutcome]

    @property
    def truths(self) -> dict[str, Truth]:
        return {name: stage.truth for name, stage in self.stages.items()}
