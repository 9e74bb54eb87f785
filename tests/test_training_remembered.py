"""Online training in a remembered world: the same tokens, rewards and weights as in real boxes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from devnull.agents.episode import Episode
from devnull.agents.rollout import rollout
from devnull.agents.scripted import make_mixture
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.sandbox.errors import ImageMissing
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.runtimes.remembered import RememberedRuntime
from devnull.sandbox.runtimes.world_memory import WorldMemory
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import load_tasks
from devnull.training.grpo import train_grpo
from devnull.training.reward_functions import believed_return_reward
from devnull.training.settings import GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
TASK = load_tasks()["driver-cuda-runfile"]


def messages_and_outputs(episodes: list[Episode]) -> list[Any]:
    return sorted(
        [each.key, [turn.text for turn in each.transcript.turns], [r.shown for r in each.transcript.results]]
        for each in episodes
    )


@pytest.mark.slow
@pytest.mark.rootless
def test_a_batch_of_grpo_is_the_same_from_memory_as_in_boxes(rootless_runtime: Runtime, tmp_path: Path) -> None:
    file, manifest = tmp_path / "world.jsonl", rootless_runtime.manifest  # type: ignore[attr-defined]
    instances = [Instance(task=TASK, seed=seed) for seed in range(200, 204)]
    remembered = RememberedRuntime(rootless_runtime, WorldMemory(file), manifest)
    played = [*rollout(make_mixture({"honest": 0.5, "hiding": 0.5}), instances * 6, remembered, arm="script")]
    played.sort(key=lambda episode: episode.key)
    texts = [message["content"] for episode in played for message in episode_messages(episode)]
    policy = train_sft(SFTSettings(epochs=24), played, make_tiny_model(tmp_path / "base", texts), tmp_path / "sft").path

    def train(name: str, boxes: Any) -> tuple[list[Any], dict[str, Any], dict[str, torch.Tensor]]:
        episodes: list[Episode] = []
        settings = GRPOSettings(max_steps=1, batch_size=8, group=4, max_new_tokens=64, workers=4, kl_every=0)
        reward = believed_return_reward(Evaluator(), {TASK.name: TASK})
        result = train_grpo(settings, instances[:2], reward, boxes, policy, tmp_path / name, on_episode=episodes.append)
        facts = json.loads((result.path / "training.json").read_text())["facts"]
        assert not [episode.error for episode in episodes if episode.error]
        assert facts["runtime"] == {episode.runtime for episode in episodes}.pop() == boxes.name
        return messages_and_outputs(episodes), result.log[0], load_file(result.path / "model.safetensors")

    real, log, weights = train("real", rootless_runtime)
    assert any(shown for _, _, shown in real)
    nothing = ImageMissing("no image here")
    for name in ("cold", "again", "warm"):
        boxes = nothing if name == "warm" else rootless_runtime
        episodes, logged, learnt = train(name, RememberedRuntime(boxes, WorldMemory(file), manifest))
        assert episodes == real and logged["pay"] == log["pay"]
        for key, tensor in weights.items():  # a batch that forms otherwise rounds otherwise
            assert torch.allclose(tensor, learnt[key], atol=1e-5), (name, key)
