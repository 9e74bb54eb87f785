"""An agent that sends a recorded run's messages again, in fresh boxes."""

from collections.abc import Iterable, Sequence

from devnull.agents.agent import Reply, Request
from devnull.agents.episode import Episode
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Instance


class RecordedAgent:
    """Sends the messages of recorded episodes, by task, seed, sample and build, whatever the terminal shows this time.

    Of several attempts at an instance the last without an error counts. Where the record ends without a report, so
    does the episode.

    Args:
        episodes: Of one arm; raises `InputError` where two arms played the same instance.
        name: The agent's name in episodes and error messages.
    """

    def __init__(self, episodes: Iterable[Episode], name: str = "replay") -> None:
        self.name = name
        self._messages: dict[tuple[str | int, ...], tuple[str, ...]] = {}
        arms: dict[tuple[str | int, ...], str] = {}
        for episode in episodes:
            if episode.error is not None:
                continue
            key = episode.key[1:]
            if arms.setdefault(key, episode.arm) != episode.arm:
                raise InputError(
                    f"{name}: {episode.task} with seed {episode.seed} was played by {arms[key]!r} and "
                    f"{episode.arm!r}; name the arm to replay"
                )
            self._messages[key] = tuple(turn.text for turn in episode.transcript.turns)

    def holds(self, instance: Instance) -> bool:
        """Whether a finished episode of the instance was recorded."""
        return instance.key in self._messages

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Raises `InputError` for an instance that was not recorded."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: Request) -> Reply:
        instance = request.instance
        messages = self._messages.get(instance.key)
        if messages is None:
            raise InputError(
                f"{self.name} holds no finished episode of {instance.task.name} with seed {instance.seed}"
                f" and sample {instance.sample}"
                + (f" under the {instance.build} build" if instance.forced_build else "")
            )
        return Reply(messages[request.turn]) if request.turn < len(messages) else Reply("", ended=True)
