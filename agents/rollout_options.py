"""How episodes are played: the options that every rollout takes, on one machine or on a cluster."""

import math
from dataclasses import dataclass

from devnull.agents.chat_format import SHOWN_CHARS
from devnull.agents.prompt_format import PromptFormat
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtime import Limits


@dataclass(frozen=True, kw_only=True)
class RolloutOptions:
    """Options of `devnull.agents.rollout.rollout`; those of the command `devnull rollout` inherit from it.

    Episodes depend on `max_turns`, `tolerant`, `shown_chars`, `command_seconds` and `prompt`, never on the others.

    Example:
        rollout(agent, instances, runtime, arm="sft", options=RolloutOptions(workers=16, max_turns=6))
    """

    workers: int = 8
    """Boxes at once."""
    max_turns: int | None = None
    """Messages an agent has; by default twice the task's stages plus two."""
    tolerant: bool = False
    """Take actions that follow the protocol loosely; the strict share is reported either way."""
    shown_chars: int = SHOWN_CHARS
    """What one command may add to the agent's prompt; longer output is cut in the middle."""
    command_seconds: float = 60.0
    """Time limit of one command."""
    retries: int = 2
    """How often an episode is played anew after the world broke."""
    concurrent: bool = False
    """Call the agent from the boxes' threads, for one episode at a time: for an agent that makes up its own batches,
    such as an endpoint, so that nobody waits for the slowest reply."""
    prompt: PromptFormat | None = None
    """How the agent is prompted; by default as the policy was trained, and one without training plainly."""

    @property
    def limits(self) -> Limits:
        """What one box may use."""
        return Limits(seconds=self.command_seconds)

    def validate(self) -> None:
        """Raises `InputError` for a value that cannot be; called by whatever starts a rollout, before it starts."""
        for name, value, least in (
            ("workers", self.workers, 1),
            ("retries", self.retries, 0),
            ("max_turns", 1 if self.max_turns is None else self.max_turns, 1),
            ("shown_chars", self.shown_chars, 0),
        ):
            if value < least:
                raise InputError(f"{name} is {value}; it must be at least {least}")
        if not 0 < self.command_seconds < math.inf:
            raise InputError(f"command_seconds is {self.command_seconds}; it must be a finite number above 0")
