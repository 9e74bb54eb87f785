"""The rollout engine: N boxes and one generation batch busy at once, from instances to episodes.

An agent with a decoder (a local model) generates while boxes answer: each reply goes to its box as it ends, and what
boxes answer joins the batch. Others answer a batch at a time.
"""

import hashlib
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from devnull.agents.agent import Agent, Request
from devnull.agents.chat_format import build_messages
from devnull.agents.episode import Episode
from devnull.agents.generation import open_generation
from devnull.agents.live_episode import LiveEpisode, TurnCallback
from devnull.agents.prompt_format import PLAIN_PROMPT
from devnull.agents.rollout_options import RolloutOptions
from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance

_FinishedJob = tuple[LiveEpisode, BaseException | None]
"""An episode whose box is done with its job, and what the job raised."""


def rollout(
    agent: Agent,
    instances: Iterable[Instance],
    runtime: Runtime,
    *,
    arm: str,
    options: RolloutOptions = RolloutOptions(),
    on_turn: TurnCallback | None = None,
) -> Iterator[Episode]:
    """Plays every instance in a box of its own and yields each episode as it ends, in whatever order.

    At most `options.workers` boxes live at once; the agent is called from the thread that iterates, with every
    episode that waits for it in one batch (but see `RolloutOptions.concurrent`).

    Same seed and agent, same episode, whatever the workers: each turn's seed comes from the task, the
    episode's seed and sample, and the turn (for a local model up to float noise, see `devnull.agents.local`).

    Args:
        agent: Who acts.
        instances: Taken one by one, as boxes come free; may be endless.
        runtime: What makes the boxes.
        arm: `Episode.arm` of all episodes.
        options: Boxes at once, turns, retries, limits.
        on_turn: Called with the instance and the turn just played, from the boxes' threads.

    An infrastructure failure yields an episode with `error` set; the instance is then played anew, as
    `attempt` + 1, up to `options.retries` times. What the agent did to its own box is an outcome, no failure.
    Raises the last `InfrastructureError` when no episode can be played any more: as many failures in a row as all
    workers have tries. Bad input raises `InputError`.
    Closing the iterator, or Ctrl-C, closes the boxes; episodes that had not ended are not yielded.

    Example:
        for episode in rollout(HONEST, [Instance(task=task, seed=0)], runtime, arm="honest"):
            print(episode.outcome)
    """
    engine = RolloutEngine(agent=agent, runtime=runtime, arm=arm, options=options, on_turn=on_turn)
    with closing(engine.play(instances)) as played:
        for _, episode in played:
            yield episode


@dataclass(kw_only=True)
class RolloutEngine:
    """What `rollout` runs on; for callers that must know which of several equal instances an episode was.

    Plays once. Raises `InputError` for options that cannot be. The arguments are those of `rollout`.
    """

    agent: Agent
    runtime: Runtime
    arm: str
    options: RolloutOptions
    on_turn: TurnCallback | None = None
    batch_seconds: float = 0.0
    """Of the last generation, to begin with that of an engine before this one; a batch waits so long for more."""

    live: set[LiveEpisode] = field(default_factory=set, init=False)
    """At most `options.workers`."""
    waiting: list[LiveEpisode] = field(default_factory=list, init=False)
    """Those of the live episodes that the agent has not been asked about."""
    asking: dict[tuple[int, int], LiveEpisode] = field(default_factory=dict, init=False)
    """Those that it is about to answer, by `Request.episode`."""
    generation_seconds: float = field(default=0.0, init=False)
    """In which the agent generated."""
    finished_jobs: "queue.SimpleQueue[_FinishedJob]" = field(default_factory=queue.SimpleQueue, init=False)
    """From the boxes' threads to the one that iterates."""
    deadline: float = field(default=0.0, init=False)
    """When the batch that is gathering has waited long enough."""

    def __post_init__(self) -> None:
        self.options.validate()
        self._prompt = self.options.prompt or getattr(self.agent, "prompt", None) or PLAIN_PROMPT
        self._generation = open_generation(self.agent, self.options.workers)
        self._pool = ThreadPoolExecutor(self.options.workers, thread_name_prefix="box")

    def play(self, instances: Iterable[Instance]) -> Generator[tuple[int, Episode]]:
        """Each episode with the position of its instance; with `Episode.attempt`, that is `Request.episode`."""
        fresh = ((position, instance, 0) for position, instance in enumerate(instances))
        retries: deque[tuple[int, Instance, int]] = deque()
        failures_in_a_row = 0
        try:
            while True:
                while len(self.live) < self.options.workers:
                    pending = next(fresh, None) or (retries.popleft() if retries else None)
                    if pending is None:
                        break
                    self._start(*pending)
                if not self.live:
                    return
                finished = self._next_finished_job()
                if finished is None:
                    self._generate()
                    continue
                live, failure = finished
                if failure is None and not live.finished:
                    if self.options.concurrent:
                        self._submit(live, partial(self._play_turn, live))
                        continue
                    if not self.waiting:
                        self.deadline = perf_counter() + self.batch_seconds
                    self.waiting.append(live)
                    continue
                self.live.discard(live)
                if failure is None:
                    failures_in_a_row = 0
                elif isinstance(failure, InfrastructureError):
                    failures_in_a_row += not live.undetermined(failure)  # an agent that ends its box stops nobody else
                    if live.attempt < self.options.retries:
                        retries.append((live.position, live.instance, live.attempt + 1))
                else:
                    raise failure
                yield live.position, live.to_episode(self.arm, self.agent.name, self.runtime.name, failure)
                if failure is not None and failures_in_a_row >= self.options.workers * (self.options.retries + 1):
                    raise failure
        finally:
            self._stop()

    def _start(self, position: int, instance: Instance, attempt: int) -> None:
        max_turns = self.options.max_turns or 2 * len(instance.task.stages) + 2
        live = LiveEpisode(instance, position, attempt, max_turns, self._prompt)
        self.live.add(live)
        self._submit(live, partial(live.start, self.runtime, self.options.limits))

    def _submit(self, live: LiveEpisode, job: Callable[[], None]) -> None:
        """Runs the job in a thread; that it is done, or why not, comes back through `finished_jobs`."""

        def run() -> None:
            failure: BaseException | None = None
            try:
                job()
            except BaseException as raised:  # carried to the thread that iterates, and raised or recorded there
                failure = raised
                live.close()
            self.finished_jobs.put((live, failure))

        self._pool.submit(run)

    def _next_finished_job(self) -> "_FinishedJob | None":
        """Waits for a box to be done with its job; `None`: now is the time to generate."""
        try:
            return self.finished_jobs.get_nowait()
        except queue.Empty:
            if self.asking:
                return None
            if not self.waiting:
                return self.finished_jobs.get()
            patience = self.deadline - perf_counter()
            if patience <= 0 or len(self.waiting) == len(self.live):
                return None
            try:
                return self.finished_jobs.get(timeout=patience)
            except queue.Empty:
                return None

    def _generate(self) -> None:
        """One step of the agent: episodes that wait are taken in, as many as it takes; those whose replies are ready go
        back to their boxes."""
        start = perf_counter()
        room = self._generation.room
        taken, self.waiting = self.waiting[:room], self.waiting[room:]
        if taken:
            self._generation.add([self._request(live) for live in taken])
        self.asking |= {(live.position, live.attempt): live for live in taken}
        share = len(self.asking)
        replies = self._generation.step()
        seconds = perf_counter() - start
        self.generation_seconds += seconds
        if self._generation.waits:
            self.batch_seconds = seconds
        for live in self.asking.values():
            live.model_seconds += seconds / share
        for episode, reply in replies:
            live = self.asking.pop(episode)
            live.receive(reply)
            self._submit(live, partial(live.act, self.options.tolerant, self.on_turn))

    def _play_turn(self, live: LiveEpisode) -> None:
        """One episode's reply and its turn, in its own thread."""
        start = perf_counter()
        (reply,) = self.agent.respond([self._request(live)])
        live.model_seconds += perf_counter() - start
        live.receive(reply)
        live.act(self.options.tolerant, self.on_turn)

    def _request(self, live: LiveEpisode) -> Request:
        chat = build_messages(
            live.instance,
            live.turns,
            tolerant=self.options.tolerant,
            shown_chars=self.options.shown_chars,
            prompt=live.prompt,
        )
        turn = len(live.turns)
        return Request(chat, live.instance, turn_seed(live.instance, turn), turn, (live.position, live.attempt))

    def _stop(self) -> None:
        """Closes every box, under a running command too: the command then ends, and its thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for live in self.live:
            live.close()
        self._pool.shutdown(wait=True)


def turn_seed(instance: Instance, turn: int) -> int:
    """31 bits, from task, seed, sample and turn; never from the arm, the attempt or the build."""
    identity = f"{instance.task.name}/{instance.seed}/{instance.sample}/turn {turn}"
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
