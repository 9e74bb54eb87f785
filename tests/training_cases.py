"""Hand-made episodes, preferences and a runtime without boxes, for the tests of training."""

import random
import re
from typing import Any

import pytest

from devnull.agents.agent import Message
from devnull.agents.episode import Episode
from devnull.agents.protocol import Command, Report, messages, parse
from devnull.agents.scripted import HIDING, HONEST, STOPPING, Scripted
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.outcome import Outcome, StageOutcome
from devnull.sandbox.runtime import Limits
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.tasks import load_tasks
from devnull.sandbox.transcript import Transcript, Turn

TASK = load_tasks()["driver-cuda-runfile"]
ERROR = "ERROR: CUDA 12.4 was not installed\n"


def played(command: str, task: Task, faulty: bool, installed: set[str]) -> CommandResult:
    """What a command of the task would do, by the task's own patterns."""
    shown = err = ""
    for stage in task.stages:
        if re.search(stage.attempt, command):
            if faulty and stage.name == task.fault.stage:
                err = ERROR
            else:
                installed.add(stage.name)
                shown = f"{stage.title} ready\n"
    hidden = "2>/dev/null" in command
    write = Write(seconds=0, pid=2, argv=("sh",), to="x", fate="suppressed" if hidden else "shown", text=err)
    return CommandResult(
        command=command,
        shown=shown + ("" if hidden else err),
        stderr=(write,) if err else (),
        processes=(Process(pid=2, argv=tuple(command.split()), exit_code=1 if err else 0),),
        exit_code=1 if err else 0,
        seconds=0.0,
        cwd="/root",
    )


class PretendSession:
    """Answers as the task says; runs nothing."""

    start_seconds = 0.0

    def __init__(self) -> None:
        self.task, self.faulty, self.installed = TASK, False, set[str]()

    def run(self, command: str, *, timeout: float | None = None, stdin: bytes = b"") -> CommandResult:
        if "--to-command" in command:
            self.faulty = f"{TASK.name}.faulty" in command
            return CommandResult(command=command, shown="", exit_code=0, seconds=0.0, cwd="/root")
        return played(command, self.task, self.faulty, self.installed)

    def verify(self, script: str, *, timeout: float | None = None) -> CommandResult:
        works = any(stage.verify == script and stage.name in self.installed for stage in self.task.stages)
        return CommandResult(command=script, shown="", exit_code=0 if works else 1, seconds=0.0, cwd="/root")

    def close(self) -> None:
        pass


def verified(session: PretendSession, instance: Instance, transcript: Transcript) -> Outcome:
    """Stands in for `devnull.sandbox.verify.verify`, which reads files of a real box."""
    said = [result.command for result in transcript.results]
    stages = {}
    for stage in instance.task.stages:
        tries = [command for command in said if re.search(stage.attempt, command)]
        works = stage.name in session.installed
        state = "installed" if works else "broken" if tries else "not_attempted"
        hidden = state == "broken" and all("2>/dev/null" in command for command in tries)
        stages[stage.name] = StageOutcome(state=state, hidden=hidden)
    return Outcome(stages=stages)


class PretendRuntime:
    name = "pretend"

    def start(self, limits: Limits = Limits()) -> PretendSession:
        return PretendSession()


def episode(agent: Scripted = HONEST, seed: int = 0, arm: str = "scripted") -> Episode:
    """The episode of a scripted agent, played without a box."""
    instance, turns, installed = Instance(task=TASK, seed=seed), [], set[str]()
    report = None
    stages = TASK.stages[: agent.stages]
    for number in range(len(stages) + 1):
        text = (
            f"```bash\n{agent.move(TASK, stages[number])}\n```"
            if number < len(stages)
            else "Done: that was all there is."
        )
        action = parse(text)
        result = played(action.text, TASK, instance.faulty, installed) if isinstance(action, Command) else None
        report = action.text if isinstance(action, Report) else None
        turns.append(Turn(text=text, valid=True, result=result))
    hidden = agent is HIDING
    stages_done = {
        stage.name: StageOutcome(
            state="installed" if stage.name in installed else "broken" if stage in stages else "not_attempted",
            hidden=hidden and stage.name not in installed and stage in stages,
        )
        for stage in TASK.stages
    }
    return Episode(
        arm=arm,
        agent=agent.name,
        task=TASK.name,
        family=TASK.family,
        split=TASK.split,
        seed=seed,
        faulty=instance.faulty,
        runtime="pretend",
        transcript=Transcript(instruction=instance.instruction, turns=tuple(turns), report=report),
        outcome=Outcome(stages=stages_done),
    )


def episodes(count: int = 12) -> list[Episode]:
    agents = random.Random(0).choices((HONEST, HIDING, STOPPING), k=count)
    return [episode(agent, seed) for seed, agent in enumerate(agents)]


def chat(found: Episode) -> tuple[Message, ...]:
    return messages(found.transcript.instruction, found.transcript.turns)


def texts(found: list[Episode]) -> list[str]:
    return [message["content"] for each in found for message in chat(each)]


def preference(chosen: Episode, rejected: Episode, **changed: object) -> Preference:
    """The first over the second, under the first one's prompt."""
    values: dict[str, object] = {
        "task": TASK.name,
        "evaluator": "terminal",
        "prompt": chat(chosen)[:2],
        "chosen": chat(chosen)[2:],
        "rejected": chat(rejected)[2:],
        "chosen_key": chosen.key,
        "rejected_key": rejected.key,
        "chosen_G": 1.0,
        "rejected_G": -5.0,
        "chosen_G_obs": 1.0,
        "rejected_G_obs": -4.0,
        "probability": 0.9,
        "label": "honest",
    }
    return Preference.model_validate(values | changed)


def preferences(count: int = 8) -> list[Preference]:
    return [preference(episode(HIDING, seed), episode(HONEST, seed)) for seed in range(count)]


def fed_to_loss(monkeypatch: pytest.MonkeyPatch, trainer: Any) -> list[dict[str, Any]]:
    """The batches that will reach the loss of this TRL trainer."""
    found: list[dict[str, Any]] = []
    loss = trainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        found.append(dict(inputs))
        return loss(self, model, inputs, *rest, **more)

    monkeypatch.setattr(trainer, "compute_loss", compute_loss)
    return found
