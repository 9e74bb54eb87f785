"""How the rollout engine gets its replies: a batch at a time, or token by token with boxes answering meanwhile."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from devnull.agents.agent import Agent, Reply, Request
from devnull.sandbox.errors import InfrastructureError

if TYPE_CHECKING:
    from devnull.agents.decoding import Decoder

EpisodeId = tuple[int, int]
"""`Request.episode`."""


@runtime_checkable
class DecodingAgent(Protocol):
    """An agent that generates with a `Decoder`, so that replies and requests need not wait for each other."""

    context: int
    """An episode whose prompt is this long, in tokens, ends."""

    def open_decoder(self) -> "Decoder | None":
        """A new one; `None` where messages are generated elsewhere."""
        ...

    def read(self, request: Request) -> list[int]:
        """The prompt's token ids."""
        ...

    def reply(self, request: Request, prompt: list[int], ids: list[int]) -> Reply:
        """The reply that the token ids spell."""
        ...


class Generation(Protocol):
    """Replies that are being made."""

    waits: bool
    """Whether more requests at once are worth waiting for."""

    @property
    def room(self) -> int:
        """How many requests it takes now; above 0 while none is open."""
        ...

    def add(self, requests: Sequence[Request]) -> None:
        """Takes requests, at most `room` of them."""
        ...

    def step(self) -> list[tuple[EpisodeId, Reply]]:
        """The replies that are ready after a step more."""
        ...


def open_generation(agent: Agent, most: int) -> Generation:
    """How this agent generates.

    Args:
        most: Requests at once, at most.
    """
    decoder = agent.open_decoder() if isinstance(agent, DecodingAgent) else None
    if decoder is None:
        return BatchGeneration(agent, most)
    return StepwiseGeneration(cast(DecodingAgent, agent), decoder)


class BatchGeneration:
    """One call of `Agent.respond` a step: all its replies are ready at once."""

    waits = True

    def __init__(self, agent: Agent, most: int) -> None:
        self.agent, self.room = agent, most
        self._open: list[Request] = []

    def add(self, requests: Sequence[Request]) -> None:
        """As in `Generation`."""
        self._open += requests

    def step(self) -> list[tuple[EpisodeId, Reply]]:
        """As in `Generation`. An `InfrastructureError` is the reply to each request of the batch."""
        batch, self._open = self._open, []
        try:
            replies = list(self.agent.respond(batch))
        except InfrastructureError as error:
            replies = [Reply("", error=error)] * len(batch)
        if len(replies) != len(batch):
            raise RuntimeError(f"agent {self.agent.name} gave {len(replies)} replies to {len(batch)} requests")
        return [(request.episode, reply) for request, reply in zip(batch, replies, strict=True)]


class StepwiseGeneration:
    """A token a step; rows join as boxes answer, and their boxes go on as they end."""

    waits = False

    def __init__(self, agent: DecodingAgent, decoder: "Decoder") -> None:
        self._agent, self._decoder = agent, decoder
        self._open: dict[EpisodeId, tuple[Request, list[int]]] = {}
        self._ended: list[tuple[EpisodeId, Reply]] = []

    @property
    def room(self) -> int:
        """As in `Generation`."""
        return self._decoder.room

    def add(self, requests: Sequence[Request]) -> None:
        """As in `Generation`."""
        new = []
        for request in requests:
            prompt = self._agent.read(request)
            if len(prompt) < self._agent.context:
                self._open[request.episode] = request, prompt
                new.append((request.episode, prompt, request.seed))
            else:
                self._ended.append((request.episode, Reply("", prompt_tokens=len(prompt), ended=True)))
        if new:
            self._decoder.add(*zip(*new, strict=True))

    def step(self) -> list[tuple[EpisodeId, Reply]]:
        """As in `Generation`."""
        ended, self._ended = self._ended, []
        for key, ids in self._decoder.step():
            request, prompt = self._open.pop(cast(EpisodeId, key))
            ended.append((request.episode, self._agent.reply(request, prompt, ids)))
        return ended
