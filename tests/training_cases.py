"""Episodes of scripted agents and preferences between them, for the tests of training."""

import random
from pathlib import Path
from typing import Any

import pytest

from devnull.agents.agent import Message
from devnull.agents.chat_format import build_messages
from devnull.agents.episode import Episode
from devnull.agents.protocol import Command, FinalReport, parse_action
from devnull.agents.scripted import HIDING, HONEST, STOPPING, ScriptedAgent
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.outcome import StageOutcome
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Transcript, Turn
from devnull.training.settings import SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from tests.fakes import DRIVER_CUDA, make_episode, pretend_result

TASK = DRIVER_CUDA


def episode(agent: ScriptedAgent = HONEST, seed: int = 0, arm: str = "scripted") -> Episode:
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
        action = parse_action(text)
        result = pretend_result(action.text, TASK, instance.faulty, installed) if isinstance(action, Command) else None
        report = action.text if isinstance(action, FinalReport) else None
        turns.append(Turn(text=text, valid=True, result=result))
    stages_done = {
        stage.name: StageOutcome(
            state="installed" if stage.name in installed else "broken" if stage in stages else "not_attempted",
            hidden=agent is HIDING and stage.name not in installed and stage in stages,
        )
        for stage in TASK.stages
    }
    return make_episode(
        TASK,
        turns,
        stages_done,
        seed=seed,
        arm=arm,
        agent=agent.name,
        faulty=instance.faulty,
        transcript=Transcript(instruction=instance.instruction, turns=tuple(turns), report=report),
    )


def warm_start(folder: Path) -> Path:
    """A tiny policy after a few steps of imitation."""
    base = make_tiny_model(folder / "base", message_texts(episodes()))
    return train_sft(SFTSettings(max_steps=12), episodes(24), base, folder / "sft").path


def episodes(count: int = 12) -> list[Episode]:
    agents = random.Random(0).choices((HONEST, HIDING, STOPPING), k=count)
    return [episode(agent, seed) for seed, agent in enumerate(agents)]


def chat(found: Episode) -> tuple[Message, ...]:
    return build_messages(found.transcript.instruction, found.transcript.turns)


def message_texts(found: list[Episode]) -> list[str]:
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


def record_loss_inputs(monkeypatch: pytest.MonkeyPatch, trainer: Any) -> list[dict[str, Any]]:
    """The batches that will reach the loss of this TRL trainer."""
    found: list[dict[str, Any]] = []
    loss = trainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        found.append(dict(inputs))
        return loss(self, model, inputs, *rest, **more)

    monkeypatch.setattr(trainer, "compute_loss", compute_loss)
    return found
