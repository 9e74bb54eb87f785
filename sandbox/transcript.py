"""What an agent did in one episode: all of it, shown or not."""

from devnull.sandbox.command import CommandResult
from devnull.sandbox.frozen import Frozen


class Turn(Frozen):
    """One message of the agent and what came of it."""

    text: str
    """The agent's message, verbatim, without the reasoning before it."""
    valid: bool
    """The message follows the action protocol strictly."""
    result: CommandResult | None = None
    """What the command did; `None` if the message held none (a final report, or no action)."""
    reasoning: str = ""
    """What the model thought before the message. Neither an evaluator nor the agent's later turns see it."""


class Transcript(Frozen):
    """The whole of an episode. Only `devnull.rewards.views.observe` turns it into what an evaluator may see."""

    instruction: str
    """What the agent was asked to do."""
    turns: tuple[Turn, ...] = ()
    report: str | None = None
    """The agent's final message; `None` if it never gave one."""

    @property
    def results(self) -> tuple[CommandResult, ...]:
        return tuple(turn.result for turn in self.turns if turn.result is not None)
