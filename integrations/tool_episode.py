"""An episode that another framework plays: its tool `bash` types in our box, and our verifier says how it ended."""

from contextlib import suppress

from devnull.agents.episode import Episode
from devnull.agents.live_episode import LiveEpisode
from devnull.sandbox.command import CommandResult
from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.screen_text import screen_text
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Turn


def read_terminal(result: CommandResult | None) -> str:
    """What a person could read of the terminal after a command, as the tool answers it."""
    return "The terminal is gone." if result is None else screen_text(result.shown)


class ToolEpisode(LiveEpisode):
    """A live episode whose commands come as calls of a tool. An infrastructure failure raises nothing: it is kept, the
    tool says that the terminal is gone, and the record holds it as its `error`.

    Example:
        episode = ToolEpisode(instance)
        episode.open(runtime)
        episode.bash("nvidia-smi 2>/dev/null")
        episode.conclude("Done.", arm="grpo", agent="policy").outcome
    """

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance, position=0, attempt=0, max_turns=0)  # the framework counts the turns
        self.failure: InfrastructureError | None = None
        self._runtime = ""

    def open(self, runtime: Runtime, limits: Limits = Limits()) -> None:
        """Starts the box with the instance's build in it."""
        self._runtime = runtime.name
        try:
            self.start(runtime, limits)
        except InfrastructureError as error:
            self.failure = error
            self.close()

    def call(self, command: str) -> CommandResult | None:
        """Types one command, a turn of its own; `None`: the agent has ended its terminal. Raises
        `InfrastructureError`."""
        if self.died:
            return None
        typed = _as_text(command).replace("\0", "\\0")  # no shell takes a NUL byte
        result = self.run_command(typed)
        self.turns.append(Turn(text=f"```bash\n{typed}\n```", valid=True, result=result))
        return result

    def bash(self, command: str) -> str:
        """Types one command; what a person could then read of the terminal."""
        result = None
        if self.failure is None:
            try:
                result = self.call(command)
            except InfrastructureError as error:
                self.failure = error
        return read_terminal(result)

    def conclude(self, report: str | None, *, arm: str, agent: str) -> Episode:
        """Verifies the box, closes it, and gives the record; `report` is the agent's last message."""
        self.report = None if report is None else _as_text(report)
        if self.failure is None:
            try:
                self.finish()
            except InfrastructureError as error:
                self.failure = error
        with suppress(InfrastructureError):
            self.close()
        return self.to_episode(arm, agent, self._runtime, self.failure)


def _as_text(said: str) -> str:
    """A lone surrogate, which JSON can carry, is not text that a shell or a file could take."""
    return said.encode("utf-8", "backslashreplace").decode()
