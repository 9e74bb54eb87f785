"""The agent protocol: messages in, one message out, for a whole batch of live episodes at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from typing_extensions import TypedDict

from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.task import Instance


class Message(TypedDict):
    """One chat message, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    """`user` is the person who asks, and after that the terminal."""
    content: str


@dataclass(frozen=True)
class Request:
    """One live episode that waits for the agent's next message."""

    messages: tuple[Message, ...]
    """The conversation so far; ends with a `user` message."""
    instance: Instance
    """A scripted agent reads its task; no agent may read `faulty`."""
    seed: int
    """Seed of this turn, 31 bits: same seed, model and messages, same reply."""
    turn: int
    """Counted from 0; the messages hold this many of the agent's own."""
    episode: tuple[int, int] = (0, 0)
    """Which live episode asks: the instance's position in what `rollout` was given, and the attempt.
    An agent that keeps state (token ids, say) keys it by this; the same instance given twice, or an
    episode retried after an infrastructure failure, is another episode and starts again at turn 0."""


@dataclass(frozen=True)
class Reply:
    """The agent's message, or why there is none."""

    text: str
    """The message; see `devnull.agents.protocol` for what it may ask for."""
    prompt_tokens: int = 0
    """0 where the agent has no tokens."""
    completion_tokens: int = 0
    dollars: float = 0.0
    """What an endpoint charged for it, as far as is known."""
    ended: bool = False
    """The agent cannot go on (its context is full, its transcript is over): `text` is not acted on, the
    episode ends without a report."""
    reasoning: str = ""
    """What the model thought before the message; kept in the transcript, never acted on, never in a prompt."""
    error: InfrastructureError | None = None
    """The world broke while this reply was made: the episode ends with `Episode.error`, the others go on."""


class Agent(Protocol):
    """Whoever sends the messages: a script, a local model, an endpoint.

    Called from one thread, the one that iterates over `rollout`, unless `RolloutOptions.concurrent` is set.
    """

    @property
    def name(self) -> str:
        """`Episode.agent` of its episodes."""
        ...

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply a request, in order. An `InfrastructureError` ends all episodes of the batch."""
        ...
