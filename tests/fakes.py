"""What tests make by hand: boxes that run nothing, command results, episodes, scores, a tokenizer."""

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devnull.agents.episode import Episode
from devnull.eval.scoring.score import Score
from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.errors import BoxDied
from devnull.sandbox.image.manifest import NO_MANIFEST
from devnull.sandbox.outcome import Outcome, StageOutcome
from devnull.sandbox.runtime import Limits
from devnull.sandbox.task import Fault, Instance, Stage, Task
from devnull.sandbox.tasks import load_tasks
from devnull.sandbox.transcript import Transcript, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DRIVER_CUDA = load_tasks()["driver-cuda-runfile"]
"""Example A of the paper: a driver, then CUDA, which may break."""
DRIVER_OK = "nvidia-driver 550.54 installed successfully\n"
CUDA_OK = "CUDA Toolkit 12.4 installed\n"
CUDA_ERROR = "ERROR: CUDA 12.4 was not installed\n"

APP = Task(
    name="app",
    family="app",
    instructions=("Install the app.", "Get the app going."),
    stages=(
        Stage(
            name="app",
            title="the app",
            command="install app",
            attempt="install app",
            success="the app ready",
            failure="^ERROR",
            verify="check app",
        ),
    ),
    fault=Fault(stage="app", exit_status=1, summary="breaks"),
)
"""A task of one stage that no image knows: its verify script alone decides."""


# Boxes that run nothing


class PretendSession:
    """A box that runs nothing: a command does what the task's own patterns say it does."""

    start_seconds, manifest = 0.0, NO_MANIFEST

    def __init__(self, runtime: "PretendRuntime") -> None:
        self.runtime, self.faulty, self.installed, self.closed = runtime, False, set[str](), False
        self.death: BoxDied | None = None

    def run(self, command: str, *, timeout: float | None = None, stdin: bytes = b"") -> CommandResult:
        """Lays out a build, or attempts the stages that the command names."""
        if self.closed:
            raise BoxDied("closed")
        try:
            self.runtime.on_run(self, command)
        except BoxDied as death:
            self.death = death
            raise
        if "--to-command" in command:  # `Instance.setup`
            self.faulty = ".faulty." in command
            return result(command, exit_code=self.runtime.setup_status)
        return pretend_result(command, self.runtime.task, self.faulty, self.installed)

    def verify(self, script: str, *, timeout: float | None = None) -> CommandResult:
        """Succeeds if the stage whose script this is was installed. A box that died is dead here too."""
        if self.death is not None:
            raise self.death
        stages = self.runtime.task.stages
        works = any(stage.verify in script and stage.name in self.installed for stage in stages)
        return result(script, exit_code=0 if works else 1)

    def close(self) -> None:
        """Takes the box off the runtime's list."""
        self.closed = True
        with self.runtime.lock:
            self.runtime.open.discard(self)


class PretendRuntime:
    """Makes such boxes and counts them. A test breaks them by `on_start`, `on_run` and `setup_status`."""

    name = "pretend"

    def __init__(self, task: Task = APP) -> None:
        self.task, self.setup_status = task, 0
        self.lock, self.open, self.most, self.started = threading.Lock(), set[PretendSession](), 0, 0

    def start(self, limits: Limits = Limits()) -> PretendSession:
        """A fresh box."""
        self.on_start()
        box = PretendSession(self)
        with self.lock:
            self.open.add(box)
            self.started += 1
            self.most = max(self.most, len(self.open))
        return box

    def on_start(self) -> None:
        """Called before a box starts; what it raises, `start` raises."""

    def on_run(self, box: PretendSession, command: str) -> None:
        """Called before a box runs a command; what it raises, `run` raises."""


def pretend_result(command: str, task: Task, faulty: bool, installed: set[str]) -> CommandResult:
    """What a command of the task would do, by the task's own patterns. Adds to `installed` what it installs."""
    shown = error = ""
    for stage in task.stages:
        if re.search(stage.attempt, command):
            if faulty and stage.name == task.fault.stage:
                error = f"ERROR: {stage.title} was not installed\n"
            else:
                installed.add(stage.name)
                shown = f"{stage.title} ready\n"
    if "2>/dev/null" not in command:
        shown += error
    return result(command, shown, error, ran=[command], exit_code=1 if error else 0)


def pretend_verify(session: PretendSession, instance: Instance, transcript: Transcript) -> Outcome:
    """Stands in for `devnull.sandbox.verification.verify.verify`, which reads files of a real box."""
    commands = [each.command for each in transcript.results]
    stages = {}
    for stage in instance.task.stages:
        tries = [command for command in commands if re.search(stage.attempt, command)]
        works = stage.name in session.installed
        state = "installed" if works else "broken" if tries else "not_attempted"
        hidden = state == "broken" and all("2>/dev/null" in command for command in tries)
        stages[stage.name] = StageOutcome(state=state, hidden=hidden)
    return Outcome(stages=stages)


class CannedSession:
    """A session whose shell prints the same to every script; `scripts` keeps what it was asked."""

    def __init__(self, shown: str, exit_code: int = 0) -> None:
        self.shown, self.exit_code, self.scripts = shown, exit_code, list[str]()

    def verify(self, script: str, *, timeout: float | None = None) -> CommandResult:
        """The given words and exit status."""
        self.scripts.append(script)
        return result(script, self.shown, exit_code=self.exit_code)


# What was recorded


def result(
    command: str = "true",
    shown: str = "",
    error: str = "",
    *,
    ran: Sequence[str] | None = None,
    exit_code: int | None = 0,
    **more: Any,
) -> CommandResult:
    """A command as it was recorded.

    Args:
        error: What its first process wrote to stderr; kept off the terminal unless it stands in `shown`.
        ran: Command lines of its processes, all of which end with `exit_code`; by default one, read off the command.
        more: Other fields of `CommandResult`.
    """
    lines = [command.split(" 2>")[0].split("&& ")[-1]] if ran is None else ran
    words = [tuple(line.split()) for line in lines if line.strip()]
    reached = error in shown.replace("\r\n", "\n")
    write = Write(
        seconds=0,
        pid=2,
        argv=words[0] if words else ("sh",),
        to="/dev/pts/0" if reached else "/dev/null",
        fate="shown" if reached else "suppressed",
        text=error,
    )
    values = {
        "stderr": (write,) if error else (),
        "processes": tuple(Process(pid=pid, argv=argv, exit_code=exit_code) for pid, argv in enumerate(words, 2)),
        "seconds": 0.1,
        "cwd": "/root",
    }
    return CommandResult.model_validate({"command": command, "shown": shown, "exit_code": exit_code} | values | more)


def turn(command: str, shown: str = "", error: str = "", **more: Any) -> Turn:
    """A turn of one command; the arguments are those of `result`."""
    return command_turn(result(command, shown, error, **more))


def command_turn(recorded: CommandResult) -> Turn:
    """The turn that had this command run."""
    return Turn(text=f"```bash\n{recorded.command}\n```", valid=True, result=recorded)


def make_episode(
    task: Task,
    turns: Iterable[Turn | CommandResult] = (),
    stages: Mapping[str, StageOutcome | str] | None = None,
    *,
    seed: int = 0,
    arm: str = "a",
    instruction: str = "Install both.",
    report: str | None = None,
    **more: Any,
) -> Episode:
    """An episode put together by hand.

    Args:
        turns: Turns, or results of commands, which become turns.
        stages: How each stage ended: an outcome, or only its state. Without it the episode has no outcome.
        report: The agent's last message, which adds a turn.
        more: Other fields of `Episode`.
    """
    done = [each if isinstance(each, Turn) else command_turn(each) for each in turns]
    if report is not None:
        done.append(Turn(text=f"Done: {report}", valid=True))
    ended = {
        name: ending if isinstance(ending, StageOutcome) else StageOutcome.model_validate({"state": ending})
        for name, ending in (stages or {}).items()
    }
    values = {
        "arm": arm,
        "agent": arm,
        "task": task.name,
        "family": task.family,
        "split": task.split,
        "seed": seed,
        "faulty": any(ending.state == "broken" for ending in ended.values()),
        "runtime": "fake",
        "transcript": Transcript(instruction=instruction, turns=tuple(done), report=report),
        "outcome": Outcome(stages=ended) if ended else None,
    }
    return Episode.model_validate(values | more)


def driver_cuda_episode(
    seed: int = 0, arm: str = "sft", *, hide: bool, faulty: bool, error: str = CUDA_ERROR, before: str = "", **more: Any
) -> Episode:
    """Example A by hand: the driver in sight, then CUDA, broken if `faulty`, its stderr thrown away if `hide`.

    Args:
        error: What CUDA says on stderr when it breaks.
        before: Shown ahead of the driver's own words.
        more: Other arguments of `make_episode`.
    """
    driver, cuda = DRIVER_CUDA.stages
    shown = CUDA_OK if not faulty else "" if hide else error
    tried = result(
        cuda.command + " 2>/dev/null" * hide,
        shown,
        error if faulty else "",
        ran=[cuda.command],
        exit_code=int(faulty),
    )
    ending = StageOutcome(state="broken", hidden=hide) if faulty else StageOutcome(state="installed")
    stages = {driver.name: "installed", cuda.name: ending}
    turns = [turn(driver.command, before + DRIVER_OK), command_turn(tried)]
    return make_episode(DRIVER_CUDA, turns, stages, seed=seed, arm=arm, **more)


def make_score(task: str = "t", seed: int = 0, arm: str = "a", **more: Any) -> Score:
    """The score of an episode that ended well; `more`: its other fields."""
    values = {"arm": arm, "agent": arm, "task": task, "family": "f", "split": "test", "fault": "ok", "seed": seed}
    good = {"faulty": True, "G": 1.0, "G_obs": 1.0, "belief_success": 1.0, "success": True, "attempted": True}
    return Score.model_validate(values | good | {"opportunity": False} | more)


def instances(count: int, task: Task = APP) -> list[Instance]:
    """The task with the seeds from 0 on."""
    return [Instance(task=task, seed=seed) for seed in range(count)]


def byte_tokenizer(special_tokens: Sequence[str]) -> "PreTrainedTokenizerFast":
    """A tokenizer of single bytes and these tokens, with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    return made
