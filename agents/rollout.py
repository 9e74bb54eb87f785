"""The rollout engine: N boxes and one generation batch busy at once, from instances to episodes."""

import hashlib
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from devnull.agents.agent import Agent, Reply, Request
from devnull.agents.episode import Episode
from devnull.agents.live import Live
from devnull.agents.protocol import SHOWN_CHARS, messages
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Turn


def rollout(
    agent: Agent,
    instances: Iterable[Instance],
    runtime: Runtime,
    *,
    arm: str,
    workers: int = 8,
    max_turns: int | None = None,
    retries: int = 2,
    limits: Limits = Limits(),
    tolerant: bool = False,
    shown_chars: int = SHOWN_CHARS,
    concurrent: bool = False,
    on_turn: Callable[[Instance, Turn], None] | None = None,
) -> Iterator[Episode]:
    """Plays every instance in a box of its own and yields each episode as it ends, in whatever order.

    At most `workers` boxes live at once; the agent is called from the thread that iterates, with every
    episode that waits for it in one batch. `max_turns` defaults to twice the task's stages plus two.
    `on_turn` is called from the boxes' threads. With `concurrent` so is the agent, for one episode at a time:
    for an endpoint, which makes up its own batches, so that nobody waits for the slowest reply.

    Same seed and agent, same episode, whatever the workers: each turn's seed comes from the task, the
    episode's seed and sample, and the turn (for a local model up to float noise, see `devnull.agents.local`).

    An infrastructure failure yields an episode with `error` set; the instance is then played anew, as
    `attempt` + 1, up to `retries` times. Raises the last `InfrastructureError` when no episode can be
    played any more: as many failures in a row as all workers have tries. Bad input raises `InputError`.
    Closing the iterator, or Ctrl-C, closes the boxes; episodes that had not ended are not yielded.
    """
    engine = Engine(
        agent=agent,
        runtime=runtime,
        arm=arm,
        workers=workers,
        max_turns=max_turns,
        retries=retries,
        limits=limits,
        tolerant=tolerant,
        shown_chars=shown_chars,
        concurrent=concurrent,
        on_turn=on_turn,
    )
    with closing(engine.play(instances)) as played:
        for _, episode in played:
            yield episode


@dataclass(kw_only=True)
class Engine:
    """What `rollout` runs on; for callers that must know which of several equal instances an episode was.

    Who is live, who waits for the agent, what the boxes report. Plays once.
    """

    agent: Agent
    runtime: Runtime
    arm: str
    workers: int = 8
    max_turns: int | None = None
    retries: int = 2
    limits: Limits = field(default_factory=Limits)
    tolerant: bool = False
    shown_chars: int = SHOWN_CHARS
    concurrent: bool = False
    on_turn: Callable[[Instance, Turn], None] | None = None
    batch_seconds: float = 0.0
    """Of the last generation, to begin with that of an engine before this one; a batch waits so long for more."""

    live: set[Live] = field(default_factory=set, init=False)
    waiting: list[Live] = field(default_factory=list, init=False)
    reports: "queue.SimpleQueue[tuple[Live, BaseException | None]]" = field(
        default_factory=queue.SimpleQueue, init=False
    )
    deadline: float = field(default=0.0, init=False)
    """When the batch that is gathering has waited long enough."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("workers", self.workers, 1),
            ("retries", self.retries, 0),
            ("max_turns", 1 if self.max_turns is None else self.max_turns, 1),
            ("shown_chars", self.shown_chars, 0),
        ):
            if value < least:
                raise InputError(f"{name} is {value}; it must be at least {least}")
        if not self.limits.seconds > 0:
            raise InputError(f"a command has {self.limits.seconds} seconds; it needs more than 0")
        self.pool = ThreadPoolExecutor(self.workers, thread_name_prefix="box")

    def play(self, instances: Iterable[Instance]) -> Generator[tuple[int, Episode]]:
        """Each episode with the position of its instance; with `Episode.attempt`, that is `Request.episode`."""
        fresh = ((position, instance, 0) for position, instance in enumerate(instances))
        again: deque[tuple[int, Instance, int]] = deque()
        failures_in_a_row = 0
        try:
            while True:
                while len(self.live) < self.workers:
                    owed = next(fresh, None) or (again.popleft() if again else None)
                    if owed is None:
                        break
                    self.open(*owed)
                if not self.live:
                    return
                report = self.next_report()
                if report is None:
                    self.generate()
                    continue
                live, failure = report
                if failure is None and not live.finished:
                    if self.concurrent:
                        self.submit(live, partial(self.ask, live))
                        continue
                    if not self.waiting:
                        self.deadline = perf_counter() + self.batch_seconds
                    self.waiting.append(live)
                    continue
                self.live.discard(live)
                if failure is None:
                    failures_in_a_row = 0
                elif isinstance(failure, InfrastructureError):
                    failures_in_a_row += 1
                    if live.attempt < self.retries:
                        again.append((live.position, live.instance, live.attempt + 1))
                else:
                    raise failure
                yield live.position, live.episode(self.arm, self.agent.name, self.runtime.name, failure)
                if failure is not None and failures_in_a_row >= self.workers * (self.retries + 1):
                    raise failure
        finally:
            self.stop()

    def open(self, position: int, instance: Instance, attempt: int) -> None:
        live = Live(instance, position, attempt, self.max_turns or 2 * len(instance.task.stages) + 2)
        self.live.add(live)
        self.submit(live, partial(live.open, self.runtime, self.limits))

    def submit(self, live: Live, job: Callable[[], None]) -> None:
        """Runs the job in a thread; that it is done, or why not, comes back through `reports`."""

        def reported() -> None:
            failure: BaseException | None = None
            try:
                job()
            except BaseException as raised:  # carried to the thread that iterates, and raised or recorded there
                failure = raised
                live.close()
            self.reports.put((live, failure))

        self.pool.submit(reported)

    def next_report(self) -> tuple[Live, BaseException | None] | None:
        """Of a box that is done with its job; `None`: now is the time to generate."""
        try:
            return self.reports.get_nowait()
        except queue.Empty:
            if not self.waiting:
                return self.reports.get()
            patience = self.deadline - perf_counter()
            if patience <= 0 or len(self.waiting) == len(self.live):
                return None
            try:
                return self.reports.get(timeout=patience)
            except queue.Empty:
                return None

    def generate(self) -> None:
        """One batch: every episode that waits gets its reply and goes back to its box."""
        batch, self.waiting = self.waiting, []
        requests = [self.request(live) for live in batch]
        start = perf_counter()
        try:
            replies = list(self.agent.respond(requests))
        except InfrastructureError as error:
            replies = [Reply("", error=error)] * len(batch)
        if len(replies) != len(batch):
            raise RuntimeError(f"agent {self.agent.name} gave {len(replies)} replies to {len(batch)} requests")
        self.batch_seconds = perf_counter() - start
        for live, reply in zip(batch, replies, strict=True):
            live.take(reply, self.batch_seconds / len(batch), self.tolerant)
            self.submit(live, partial(live.act, self.on_turn))

    def ask(self, live: Live) -> None:
        """One episode's reply and its turn, in its own thread."""
        start = perf_counter()
        (reply,) = self.agent.respond([self.request(live)])
        live.take(reply, perf_counter() - start, self.tolerant)
        live.act(self.on_turn)

    def request(self, live: Live) -> Request:
        chat = messages(live.instance, live.turns, tolerant=self.tolerant, shown_chars=self.shown_chars)
        turn = len(live.turns)
        return Request(chat, live.instance, turn_seed(live.instance, turn), turn, (live.position, live.attempt))

    def stop(self) -> None:
        """Closes every box, under a running command too: the command then ends, and its thread."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for live in self.live:
            live.close()
        self.pool.shutdown(wait=True)


def turn_seed(instance: Instance, turn: int) -> int:
    """31 bits, from the task, the episode's seed and sample, and the turn; never from the arm or the attempt."""
    drawn_from = f"{instance.task.name}/{instance.seed}/{instance.sample}/turn {turn}"
    digest = hashlib.sha256(drawn_from.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
