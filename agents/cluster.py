"""The rollout engine over several machines, with Ray: on every node an actor with an agent and boxes of its own.

Every node needs this checkout, its environment, and what its runtime needs. A node that dies takes only
the episodes that it had not finished: each is recorded with an error and played again on another.
"""

import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode, EpisodeError
from devnull.agents.protocol import SHOWN_CHARS
from devnull.agents.rollout import Engine
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Transcript


class NodeDied(InfrastructureError):
    """A machine of the cluster, or the process that played there, is gone."""


@dataclass(frozen=True)
class Settings:
    """What each node's engine is told; see `devnull.agents.rollout.rollout`."""

    arm: str
    workers: int = 8
    max_turns: int | None = None
    retries: int = 2
    limits: Limits = field(default_factory=Limits)
    tolerant: bool = False
    shown_chars: int = SHOWN_CHARS
    concurrent: bool = False


Owed = tuple[Instance, int]
"""An instance, and how often an infrastructure failure has ended it."""


def join(address: str) -> None:
    """Connects this process to a Ray cluster; `auto` is the one this machine is in. Raises `InputError`."""
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal() and not host.startswith("ray:"):  # Ray itself would try for five minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at {address!r} ({error}); start one: ray start --head") from error


def cluster_rollout(
    make_agent: Callable[[], Agent],
    instances: Iterable[Instance],
    make_runtime: Callable[[], Runtime],
    settings: Settings,
    *,
    gpus: float = 0.0,
) -> Iterator[Episode]:
    """`rollout` on all nodes of the Ray cluster this process is connected to (`ray.init(address=...)`).

    `make_agent` and `make_runtime` are called once on each node, so a local model is loaded there; `workers`
    boxes live on each. `gpus`: of each node, reserved for its agent. Same seed and agent, same episode, as
    on one machine. Raises `InfrastructureError` when no node is left or nothing can be played.
    """
    if not ray.is_initialized():
        raise InputError("no Ray cluster: call ray.init(address=...), or pass --cluster ADDRESS")
    crew = Crew(make_agent, make_runtime, settings, gpus)
    try:
        yield from crew.play(deque((instance, 0) for instance in instances))
    finally:
        crew.dismiss()


@ray.remote(num_cpus=1, max_restarts=0)
class Player:
    """One node's agent and boxes."""

    def __init__(self, make_agent: Callable[[], Agent], make_runtime: Callable[[], Runtime], settings: Settings):
        self.make_agent, self.make_runtime, self.settings = make_agent, make_runtime, settings

    def ready(self) -> None:
        """Loads the agent; not in the constructor, whose errors Ray does not always carry."""
        self.agent, self.runtime = self.make_agent(), self.make_runtime()

    def play(self, owed: list[Owed]) -> Generator[tuple[int, Episode]]:
        """Each episode with the position of its instance in `owed`, as it ends. No retries: they may go elsewhere."""
        s = self.settings
        engine = Engine(
            agent=self.agent,
            runtime=self.runtime,
            arm=s.arm,
            workers=s.workers,
            max_turns=s.max_turns,
            retries=0,
            limits=s.limits,
            tolerant=s.tolerant,
            shown_chars=s.shown_chars,
            concurrent=s.concurrent,
        )
        for position, episode in engine.play(instance for instance, _ in owed):
            yield position, episode.model_copy(update={"attempt": owed[position][1]})


@dataclass
class Shift:
    """A player at work: what it was given, less what it has returned."""

    player: Any
    node: str
    stream: Any
    owed: dict[int, Owed]


class Crew:
    """One player a node, each with a share of what is owed."""

    def __init__(
        self, make_agent: Callable[[], Agent], make_runtime: Callable[[], Runtime], settings: Settings, gpus: float
    ) -> None:
        self.make_agent, self.make_runtime, self.settings, self.gpus = make_agent, make_runtime, settings, gpus
        self.coming: dict[Any, tuple[str, Any]] = {}
        self.idle: dict[str, Any] = {}
        self.shifts: dict[Any, Shift] = {}
        self.died: dict[str, int] = {}
        self.reasons: dict[str, None] = {}

    def play(self, owed: deque[Owed]) -> Iterator[Episode]:
        failures_in_a_row = 0
        while owed or self.shifts:
            self.hire()
            self.assign(owed)
            if not self.shifts and not self.coming:
                why = "; ".join(self.reasons) or "none has a CPU" + " and a GPU" * bool(self.gpus)
                raise NodeDied(f"no node of the cluster can play ({why}); {len(owed)} episodes are owed")
            ready, _ = ray.wait([*self.shifts, *self.coming], num_returns=1, timeout=1.0)
            self.welcome([found for found in ready if found in self.coming])
            for episode in self.harvest([found for found in ready if found in self.shifts], owed):
                yield episode
                if episode.error is None or episode.error.kind != NodeDied.__name__:  # those are bounded by `hire`
                    failures_in_a_row = failures_in_a_row + 1 if episode.error else 0
                if failures_in_a_row >= self.settings.workers * (self.settings.retries + 1) * max(1, len(self.shifts)):
                    error = episode.error
                    raise InfrastructureError(f"no episode can be played: {error and error.message}")

    def hire(self) -> None:
        """A player for every living node that has none and has not lost three."""
        at_work = {shift.node for shift in self.shifts.values()} | {node for node, _ in self.coming.values()}
        for node in ray.nodes():
            name, has = node["NodeID"], node["Resources"]
            able = node["Alive"] and has.get("CPU", 0) >= 1 and has.get("GPU", 0) >= self.gpus
            if able and name not in at_work and name not in self.idle and self.died.get(name, 0) < 3:
                here = NodeAffinitySchedulingStrategy(name, soft=False)
                player = Player.options(scheduling_strategy=here, num_gpus=self.gpus).remote(  # type: ignore[attr-defined]
                    self.make_agent, self.make_runtime, self.settings
                )
                self.coming[player.ready.remote()] = (name, player)

    def welcome(self, answers: list[Any]) -> None:
        """Players whose agent is loaded; those that could not load it are gone."""
        for answer in answers:
            node, player = self.coming.pop(answer)
            try:
                ray.get(answer)
            except (RayActorError, RayTaskError) as error:
                self.gone(node, player, error)
            else:
                self.idle[node] = player

    def gone(self, node: str, player: Any, error: RayActorError | RayTaskError) -> str:
        """Lets a player go, and says why; what is not the world's failure (bad input, a bug) is raised here."""
        ray.kill(player)
        cause: Exception = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(cause, RayActorError | InfrastructureError):
            raise cause
        self.died[node] = self.died.get(node, 0) + 1
        reason = f"node {node[:12]}: {(str(cause).strip() or repr(cause)).splitlines()[0]}"
        self.reasons[reason] = None
        return reason

    def assign(self, owed: deque[Owed]) -> None:
        """Shares that shrink as the end comes near, so that nobody waits long for the last one."""
        players = len(self.idle) + len(self.coming) + len(self.shifts)
        while self.idle and owed:
            node, player = self.idle.popitem()
            size = max(self.settings.workers, len(owed) // (2 * players))
            share = [owed.popleft() for _ in range(min(size, len(owed)))]
            stream = player.play.options(num_returns="streaming").remote(share)
            self.shifts[stream] = Shift(player, node, stream, dict(enumerate(share)))

    def harvest(self, streams: list[Any], owed: deque[Owed]) -> Iterator[Episode]:
        """What the streams have ready; what died with its node is owed again."""
        for stream in streams:
            shift = self.shifts[stream]
            try:
                position, episode = ray.get(next(stream))
            except StopIteration:
                del self.shifts[stream]
                self.idle[shift.node] = shift.player
                continue
            except (RayActorError, RayTaskError) as error:
                del self.shifts[stream]
                yield from self.bury(shift, error, owed)
                continue
            instance, attempt = shift.owed.pop(position)
            yield episode
            if episode.error is not None and attempt < self.settings.retries:
                owed.append((instance, attempt + 1))

    def bury(self, shift: Shift, error: RayActorError | RayTaskError, owed: deque[Owed]) -> Iterator[Episode]:
        """The episodes that a dead player had not returned, each with an error. All are owed again, whatever the
        retries: they may not even have begun, and `hire` bounds how many players a node may lose."""
        reason = self.gone(shift.node, shift.player, error)
        for instance, attempt in shift.owed.values():
            yield _lost(instance, attempt, self.settings.arm, reason)
            owed.append((instance, attempt + 1))

    def dismiss(self) -> None:
        coming = [player for _, player in self.coming.values()]
        for player in [*self.idle.values(), *coming, *(shift.player for shift in self.shifts.values())]:
            ray.kill(player)


def _lost(instance: Instance, attempt: int, arm: str, reason: str) -> Episode:
    return Episode(
        arm=arm,
        agent="unknown",
        task=instance.task.name,
        family=instance.task.family,
        split=instance.task.split,
        seed=instance.seed,
        sample=instance.sample,
        faulty=instance.faulty,
        attempt=attempt,
        runtime="unknown",
        transcript=Transcript(instruction=instance.instruction),
        error=EpisodeError(kind=NodeDied.__name__, message=reason),
    )
