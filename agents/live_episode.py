"""One live episode: its box, what has happened so far, the time and tokens it took."""

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import perf_counter

from devnull.agents.agent import Reply
from devnull.agents.episode import Episode, EpisodeError, Usage
from devnull.agents.prompt_format import PLAIN_PROMPT, PromptFormat
from devnull.agents.protocol import Command, FinalReport, InvalidAction, parse_action
from devnull.sandbox.build_layout import lay_out_build
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import BoxDied, InfrastructureError
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.runtime import Limits, Runtime, Session
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verification.verify import verify

TurnCallback = Callable[[Instance, Turn], None]
"""Called after each turn, from the thread of the episode's box."""


class LiveEpisode:
    """An episode while it is played. Belongs to one thread at a time: the engine's while it waits for the agent, a
    box thread's while `start` or `act` runs.

    Args:
        instance: What is played.
        position: The instance's position in what the rollout was given.
        attempt: How many times an infrastructure failure has ended it before.
        max_turns: Messages the agent has.
        prompt: How it is prompted.
    """

    def __init__(
        self, instance: Instance, position: int, attempt: int, max_turns: int, prompt: PromptFormat = PLAIN_PROMPT
    ) -> None:
        self.instance, self.position, self.attempt, self.max_turns = instance, position, attempt, max_turns
        self.prompt = prompt
        self.turns: list[Turn] = []
        self.report: str | None = None
        self.outcome: Outcome | None = None
        self.session: Session | None = None
        self.closed = self.died = False
        self._lock = Lock()
        self.reply = Reply("")
        self.prompt_tokens = self.completion_tokens = 0
        self.dollars = 0.0
        self.model_seconds = self.command_seconds = self.box_seconds = 0.0
        self.started = perf_counter()

    @property
    def finished(self) -> bool:
        """Whether the outcome is known."""
        return self.outcome is not None

    def start(self, runtime: Runtime, limits: Limits) -> None:
        """Starts the box and lays out the instance's build in it. Raises `InfrastructureError`."""
        start = perf_counter()
        session = runtime.start(limits)
        with self._lock:
            self.session = session
        if self.closed:  # the rollout was stopped while the box started
            self.close()
        try:
            lay_out_build(self.box, self.instance)
        finally:
            self.box_seconds += perf_counter() - start

    def receive(self, reply: Reply) -> None:
        """Keeps the agent's message, and counts its tokens; `act` does what it asks for."""
        self.reply = reply
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.dollars += reply.dollars

    def act(self, tolerant: bool, on_turn: TurnCallback | None) -> None:
        """Plays one turn, and verifies the box after the last, or after one in which the box died. Raises the reply's
        error, if it has one, and `BoxDied` where nothing shows that the agent ended its box.

        Args:
            tolerant: Take actions that follow the protocol loosely, as `parse_action` does.
            on_turn: Called with the instance and the turn.
        """
        if self.reply.error is not None:
            raise self.reply.error
        over = self.reply.ended
        if not over:
            # A lone surrogate, which JSON can carry, is not text that a shell or a file could take.
            text, reasoning = (
                each.encode("utf-8", "backslashreplace").decode() for each in (self.reply.text, self.reply.reasoning)
            )
            action = parse_action(text, tolerant)
            result = self.run_command(action.text) if isinstance(action, Command) else None
            valid = not isinstance(parse_action(text), InvalidAction)
            turn = Turn(text=text, valid=valid, result=result, reasoning=reasoning)
            self.turns.append(turn)
            if isinstance(action, FinalReport):
                self.report, over = action.text, True
            if on_turn is not None:
                on_turn(self.instance, turn)
        if over or self.died or len(self.turns) >= self.max_turns:
            self.finish()

    def run_command(self, command: str) -> CommandResult:
        """Runs one command in the box, and counts its seconds. One in which the box dies is kept as far as it came."""
        start = perf_counter()
        try:
            return self.box.run(command)
        except BoxDied as death:
            if death.unfinished is None:
                raise
            self.died = True
            return death.unfinished
        finally:
            self.command_seconds += perf_counter() - start

    def finish(self) -> None:
        """Verifies what became of the task, sets `outcome`, and closes the box."""
        start = perf_counter()
        self.outcome = verify(self.box, self.instance, self.transcript)
        self.close()
        self.box_seconds += perf_counter() - start

    def close(self) -> None:
        """Ends the box, if there is one; from any thread, more than once. A box that is dead already is closed."""
        with self._lock:
            self.closed, session, self.session = True, self.session, None
        if session is not None:
            with suppress(InfrastructureError):
                session.close()

    @property
    def box(self) -> Session:
        """The open box. Raises `InfrastructureError` once it is closed."""
        session = self.session
        if session is None:
            raise InfrastructureError("the box was closed while its episode was going on")
        return session

    @property
    def transcript(self) -> Transcript:
        """What has happened so far."""
        return Transcript(instruction=self.instance.instruction, turns=tuple(self.turns), report=self.report)

    def undetermined(self, failure: BaseException | None) -> bool:
        """Whether the box died after the agent had acted in it, by whosever doing."""
        return isinstance(failure, BoxDied) and any(turn.result is not None for turn in self.turns)

    def to_episode(self, arm: str, agent: str, runtime: str, failure: BaseException | None) -> Episode:
        """The record of it; `failure` is what ended it before its outcome was known."""
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
            forced_build=self.instance.forced_build,
            attempt=self.attempt,
            runtime=runtime,
            prompt=self.prompt,
            transcript=self.transcript,
            outcome=None if failure else self.outcome,
            error=EpisodeError(
                kind=type(failure).__name__, message=str(failure), undetermined=self.undetermined(failure)
            )
            if failure
            else None,
            cost=Usage(
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.completion_tokens,
                dollars=self.dollars,
                model_seconds=self.model_seconds,
                command_seconds=self.command_seconds,
                box_seconds=self.box_seconds,
                waiting_seconds=max(0.0, perf_counter() - self.started - busy),
            ),
        )
