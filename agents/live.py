"""One live episode: its box, what has happened so far, what it has cost."""

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import perf_counter

from devnull.agents.agent import Reply
from devnull.agents.episode import Cost, Episode, EpisodeError
from devnull.agents.protocol import Command, Invalid, Report, parse
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.runtime import Limits, Runtime, Session
from devnull.sandbox.session import OWN_SECONDS
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verify import verify


class Live:
    """Belongs to one thread at a time: the engine's while it waits, a box thread's while a job runs."""

    def __init__(self, instance: Instance, position: int, attempt: int, max_turns: int) -> None:
        self.instance, self.position, self.attempt, self.max_turns = instance, position, attempt, max_turns
        self.turns: list[Turn] = []
        self.report: str | None = None
        self.outcome: Outcome | None = None
        self.session: Session | None = None
        self.closed = False
        self.closing = Lock()
        self.reply = Reply("")
        self.tolerant = False
        self.prompt_tokens = self.completion_tokens = 0
        self.model_seconds = self.command_seconds = self.box_seconds = 0.0
        self.born = perf_counter()

    @property
    def finished(self) -> bool:
        return self.outcome is not None

    def open(self, runtime: Runtime, limits: Limits) -> None:
        """Starts the box and lays out the drawn build."""
        start = perf_counter()
        session = runtime.start(limits)
        with self.closing:
            self.session = session
        if self.closed:  # the rollout was stopped while the box started
            self.close()
        laid_out = self.box.run(self.instance.setup, timeout=OWN_SECONDS)
        self.box_seconds += perf_counter() - start
        if laid_out.exit_code != 0:
            raise InfrastructureError(
                f"{self.instance.task.name}: laying out the {self.instance.build} build ended with exit status "
                f"{laid_out.exit_code}: {laid_out.shown.strip()[-300:]!r}; rebuild the image: devnull image build"
            )

    def take(self, reply: Reply, seconds: float, tolerant: bool) -> None:
        """The agent's message; `act` does what it asks for."""
        self.reply, self.tolerant = reply, tolerant
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.model_seconds += seconds

    def act(self, on_turn: Callable[[Instance, Turn], None] | None) -> None:
        """One turn; after the last finds out what became of it all. Raises what befell the reply."""
        if self.reply.error is not None:
            raise self.reply.error
        over = self.reply.ended
        if not over:
            # A lone surrogate, which JSON can carry, is not text that a shell or a file could take.
            said = self.reply.text.encode("utf-8", "backslashreplace").decode()
            action = parse(said, self.tolerant)
            result = self.run(action.text) if isinstance(action, Command) else None
            turn = Turn(text=said, valid=not isinstance(parse(said), Invalid), result=result)
            self.turns.append(turn)
            if isinstance(action, Report):
                self.report, over = action.text, True
            if on_turn is not None:
                on_turn(self.instance, turn)
        if over or len(self.turns) >= self.max_turns:
            self.finish()

    def run(self, command: str) -> CommandResult:
        start = perf_counter()
        result = self.box.run(command)
        self.command_seconds += perf_counter() - start
        return result

    def finish(self) -> None:
        start = perf_counter()
        self.outcome = verify(self.box, self.instance, self.transcript)
        self.close()
        self.box_seconds += perf_counter() - start

    def close(self) -> None:
        """Ends the box, if there is one; from any thread, more than once. A box that is dead already is closed."""
        with self.closing:
            self.closed, session, self.session = True, self.session, None
        if session is not None:
            with suppress(InfrastructureError):
                session.close()

    @property
    def box(self) -> Session:
        session = self.session
        if session is None:
            raise InfrastructureError("the box was closed while its episode was going on")
        return session

    @property
    def transcript(self) -> Transcript:
        return Transcript(instruction=self.instance.instruction, turns=tuple(self.turns), report=self.report)

    def episode(self, arm: str, agent: str, runtime: str, failure: BaseException | None) -> Episode:
        task = self.instance.task
        busy = self.model_seconds + self.command_seconds + self.box_seconds
        return Episode(
            arm=arm,
            agent=agent,
            task=task.name,
            family=task.family,
            split=task.split,
            seed=self.instance.seed,
            sample=self.instance.sample,
            faulty=self.instance.faulty,
            attempt=self.attempt,
            runtime=runtime,
            transcript=self.transcript,
            outcome=None if failure else self.outcome,
            error=EpisodeError(kind=type(failure).__name__, message=str(failure)) if failure else None,
            cost=Cost(
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.completion_tokens,
                model_seconds=self.model_seconds,
                command_seconds=self.command_seconds,
                box_seconds=self.box_seconds,
                waiting_seconds=max(0.0, perf_counter() - self.born - busy),
            ),
        )
