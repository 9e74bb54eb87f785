"""The rollout engine on several machines, with Ray: on every node an actor with an agent and boxes of its own.

Every node needs this checkout, its environment, and what its runtime needs. A node that dies takes only
the episodes that it had not finished: each is recorded with an error and played again on another.
"""

import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode, EpisodeError
from devnull.agents.rollout import RolloutEngine
from devnull.agents.rollout_options import RolloutOptions
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Transcript


class NodeDied(InfrastructureError):
    """A machine of the cluster, or the process that played there, is gone."""


class _Pending(NamedTuple):
    """An instance to play, and how often an infrastructure failure has ended it."""

    instance: Instance
    attempt: int


def join_cluster(address: str) -> None:
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
    *,
    arm: str,
    options: RolloutOptions = RolloutOptions(),
    gpus: float = 0.0,
) -> Iterator[Episode]:
    """`rollout` on all nodes of the Ray cluster this process is connected to (`ray.init(address=...)`).

    Same seed and agent, same episode, as on one machine.

    Args:
        make_agent: Called once on each node, so a local model is loaded there.
        instances: All are listed before the first is played.
        make_runtime: Called once on each node; `options.workers` boxes live on each.
        arm: `Episode.arm` of all episodes.
        options: As for `rollout`.
        gpus: Of each node, reserved for its agent.

    Raises `InfrastructureError` when no node is left or nothing can be played, and `InputError` for bad input.
    """
    options.validate()
    if not ray.is_initialized():
        raise InputError("no Ray cluster: call ray.init(address=...), or pass --cluster ADDRESS")
    cluster = _ClusterRollout(make_agent, make_runtime, arm, options, gpus)
    try:
        yield from cluster.play(deque(_Pending(instance, 0) for instance in instances))
    finally:
        cluster.stop()


@ray.remote(num_cpus=1, max_restarts=0)
class _NodeWorker:
    """The actor on one node: its agent and its boxes."""

    def __init__(
        self,
        make_agent: Callable[[], Agent],
        make_runtime: Callable[[], Runtime],
        arm: str,
        options: RolloutOptions,
    ) -> None:
        self.make_agent, self.make_runtime = make_agent, make_runtime
        # A failed episode may go to another node: whether it is played again is not for this one to say.
        self.arm, self.rollout_options = arm, replace(options, retries=0)

    def load(self) -> None:
        """Loads the agent; not in the constructor, whose errors Ray does not always carry."""
        self.agent, self.runtime = self.make_agent(), self.make_runtime()

    def play(self, share: list[_Pending]) -> Generator[tuple[int, Episode]]:
        """Each episode as it ends, with the position of its instance in `share`."""
        engine = RolloutEngine(agent=self.agent, runtime=self.runtime, arm=self.arm, options=self.rollout_options)
        for position, episode in engine.play(pending.instance for pending in share):
            yield position, episode.model_copy(update={"attempt": share[position].attempt})


@dataclass
class _Assignment:
    """What a worker was given to play, less what it has returned."""

    worker: Any
    node: str
    unfinished: dict[int, _Pending]


class _ClusterRollout:
    """One worker a node, each with a share of the instances."""

    def __init__(
        self,
        make_agent: Callable[[], Agent],
        make_runtime: Callable[[], Runtime],
        arm: str,
        options: RolloutOptions,
        gpus: float,
    ) -> None:
        self.make_agent, self.make_runtime = make_agent, make_runtime
        self.arm, self.options, self.gpus = arm, options, gpus
        self.loading: dict[Any, tuple[str, Any]] = {}
        """Node and worker by the answer that says its agent is loaded."""
        self.idle: dict[str, Any] = {}
        """Workers by node."""
        self.assignments: dict[Any, _Assignment] = {}
        """By the stream of its episodes."""
        self.failures: dict[str, int] = {}
        """Workers lost, by node."""
        self.reasons: dict[str, None] = {}

    def play(self, queue: deque[_Pending]) -> Iterator[Episode]:
        failures_in_a_row = 0
        while queue or self.assignments:
            self.start_workers()
            self.assign(queue)
            if not self.assignments and not self.loading:
                why = "; ".join(self.reasons) or "none has a CPU" + " and a GPU" * bool(self.gpus)
                raise NodeDied(f"no node of the cluster can play ({why}); {len(queue)} episodes are owed")
            ready, _ = ray.wait([*self.assignments, *self.loading], num_returns=1, timeout=1.0)
            self.collect_loaded([answer for answer in ready if answer in self.loading])
            for episode in self.collect_episodes([stream for stream in ready if stream in self.assignments], queue):
                yield episode
                # a node's death is no failure in a row: `start_workers` bounds those
                if episode.error is None or episode.error.kind != NodeDied.__name__:
                    failures_in_a_row = failures_in_a_row + 1 if episode.error else 0
                tries = self.options.workers * (self.options.retries + 1) * max(1, len(self.assignments))
                if failures_in_a_row >= tries:
                    error = episode.error
                    raise InfrastructureError(f"no episode can be played: {error and error.message}")

    def start_workers(self) -> None:
        """A worker for every living node that has none and has not lost three."""
        busy = {assignment.node for assignment in self.assignments.values()} | {
            node for node, _ in self.loading.values()
        }
        for node in ray.nodes():
            name, has = node["NodeID"], node["Resources"]
            able = node["Alive"] and has.get("CPU", 0) >= 1 and has.get("GPU", 0) >= self.gpus
            if able and name not in busy and name not in self.idle and self.failures.get(name, 0) < 3:
                here = NodeAffinitySchedulingStrategy(name, soft=False)
                worker = _NodeWorker.options(scheduling_strategy=here, num_gpus=self.gpus).remote(  # type: ignore[attr-defined]
                    self.make_agent, self.make_runtime, self.arm, self.options
                )
                self.loading[worker.load.remote()] = (name, worker)

    def collect_loaded(self, answers: list[Any]) -> None:
        """Workers whose agent is loaded become idle; those that could not load it are dropped."""
        for answer in answers:
            node, worker = self.loading.pop(answer)
            try:
                ray.get(answer)
            except (RayActorError, RayTaskError) as error:
                self.drop_worker(node, worker, error)
            else:
                self.idle[node] = worker

    def drop_worker(self, node: str, worker: Any, error: RayActorError | RayTaskError) -> str:
        """Ends a worker, and returns why; what is not the world's failure (bad input, a bug) is raised here."""
        ray.kill(worker)
        cause: Exception = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(cause, RayActorError | InfrastructureError):
            raise cause
        self.failures[node] = self.failures.get(node, 0) + 1
        reason = f"node {node[:12]}: {(str(cause).strip() or repr(cause)).splitlines()[0]}"
        self.reasons[reason] = None
        return reason

    def assign(self, queue: deque[_Pending]) -> None:
        """Gives idle workers shares that shrink as the end comes near, so that nobody waits long for the last one."""
        workers = len(self.idle) + len(self.loading) + len(self.assignments)
        while self.idle and queue:
            node, worker = self.idle.popitem()
            size = max(self.options.workers, len(queue) // (2 * workers))
            share = [queue.popleft() for _ in range(min(size, len(queue)))]
            stream = worker.play.options(num_returns="streaming").remote(share)
            self.assignments[stream] = _Assignment(worker, node, dict(enumerate(share)))

    def collect_episodes(self, streams: list[Any], queue: deque[_Pending]) -> Iterator[Episode]:
        """The next episode of each stream; what failed, or was lost with its node, goes back into the queue."""
        for stream in streams:
            assignment = self.assignments[stream]
            try:
                position, episode = ray.get(next(stream))
            except StopIteration:
                del self.assignments[stream]
                self.idle[assignment.node] = assignment.worker
                continue
            except (RayActorError, RayTaskError) as error:
                del self.assignments[stream]
                yield from self.requeue_lost(assignment, error, queue)
                continue
            instance, attempt = assignment.unfinished.pop(position)
            yield episode
            if episode.error is not None and attempt < self.options.retries:
                queue.append(_Pending(instance, attempt + 1))

    def requeue_lost(
        self, assignment: _Assignment, error: RayActorError | RayTaskError, queue: deque[_Pending]
    ) -> Iterator[Episode]:
        """The episodes that a dead worker had not returned, each with an error. All go back into the queue, whatever
        the retries: they may not even have begun, and `start_workers` bounds how many workers a node may lose."""
        reason = self.drop_worker(assignment.node, assignment.worker, error)
        for instance, attempt in assignment.unfinished.values():
            yield _lost_episode(instance, attempt, self.arm, reason)
            queue.append(_Pending(instance, attempt + 1))

    def stop(self) -> None:
        """Ends every worker."""
        loading = [worker for _, worker in self.loading.values()]
        for worker in [*self.idle.values(), *loading, *(a.worker for a in self.assignments.values())]:
            ray.kill(worker)


def _lost_episode(instance: Instance, attempt: int, arm: str, reason: str) -> Episode:
    return Episode(
        arm=arm,
        agent="unknown",
        task=instance.task.name,
        family=instance.task.family,
        split=instance.task.split,
        seed=instance.seed,
        sample=instance.sample,
        faulty=instance.faulty,
        forced_build=instance.forced_build,
        attempt=attempt,
        runtime="unknown",
        transcript=Transcript(instruction=instance.instruction),
        error=EpisodeError(kind=NodeDied.__name__, message=reason),
    )
