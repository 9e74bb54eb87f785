"""An agent that says again what another said: the same moves in a fresh box."""

from collections.abc import Iterable, Sequence

from devnull.agents.agent import Reply, Request
from devnull.agents.episode import Episode
from devnull.sandbox.errors import InputError


class Replayed:
    """Replays recorded episodes, by task, seed and sample, turn by turn, whatever the terminal shows this time."""

    def __init__(self, episodes: Iterable[Episode], name: str = "replay") -> None:
        """Of several attempts at an instance the last without an error counts. Raises `InputError` where two
        arms played the same instance: which one is meant must be said by passing its episodes only."""
        self.name = name
        self.said: dict[tuple[str, int, int], tuple[str, ...]] = {}
        arms: dict[tuple[str, int, int], str] = {}
        for episode in episodes:
            if episode.error is not None:
                continue
            key = (episode.task, episode.seed, episode.sample)
            if arms.setdefault(key, episode.arm) != episode.arm:
                raise InputError(
                    f"{name}: {episode.task} with seed {episode.seed} was played by {arms[key]!r} and "
                    f"{episode.arm!r}; name the arm to replay"
                )
            self.said[key] = tuple(turn.text for turn in episode.transcript.turns)

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        return [self.reply(request) for request in requests]

    def reply(self, request: Request) -> Reply:
        instance = request.instance
        said = self.said.get((instance.task.name, instance.seed, instance.sample))
        if said is None:
            raise InputError(
                f"{self.name} holds no finished episode of {instance.task.name} with seed {instance.seed}"
                f" and sample {instance.sample}"
            )
        return Reply(said[request.turn]) if request.turn < len(said) else Reply("", ended=True)
