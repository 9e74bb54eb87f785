"""One episode: the unit of every run file."""

from devnull.sandbox.command import Frozen
from devnull.sandbox.outcome import Outcome
from devnull.sandbox.transcript import Transcript


class EpisodeError(Frozen):
    """Why an episode has no outcome: the world broke, not the agent. Counted, never scored."""

    kind: str
    """Class name of the `InfrastructureError`."""
    message: str


class Cost(Frozen):
    """Where an episode's time and tokens went."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_seconds: float = 0.0
    """Share of batched generation, divided evenly over the batch."""
    command_seconds: float = 0.0
    box_seconds: float = 0.0
    """Starting, verifying and closing the box."""
    waiting_seconds: float = 0.0
    """For a generation batch or a free box."""


class Episode(Frozen):
    """All that happened from one seed. A line of `episodes.jsonl`."""

    arm: str
    """Which policy of the run acted: `sft`, `partial`, `full`, or the agent's name."""
    agent: str
    task: str
    family: str
    split: str
    seed: int
    """Draws the instruction and the fault."""
    sample: int = 0
    """Which of the episodes of that instance; with the seed it draws the agent's randomness."""
    faulty: bool
    attempt: int = 0
    """How many times an infrastructure failure had ended this seed before."""
    runtime: str
    transcript: Transcript
    outcome: Outcome | None = None
    """`None` exactly when `error` is set."""
    error: EpisodeError | None = None
    cost: Cost = Cost()

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Arm, task, seed, sample: identifies the episode within its run."""
        return (self.arm, self.task, self.seed, self.sample)

    @property
    def stream(self) -> int:
        """Seeds what is drawn for this episode alone, such as a sensor that is on with some probability."""
        return self.seed + (self.sample << 32)
