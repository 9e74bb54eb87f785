"""What each of two processes runs in the test of several: a step of DPO and a step of GRPO without boxes."""

import sys
import uuid
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import devnull.agents.live_episode
from devnull.agents.scripted import HIDING, HONEST, STOPPING
from devnull.training.dpo import train_dpo
from devnull.training.grpo import train_grpo
from devnull.training.reward_functions import true_return_reward
from devnull.training.settings import DPOSettings, GRPOSettings
from devnull.training.train_result import TrainResult
from tests.fakes import PretendRuntime, instances, pretend_verify
from tests.training_cases import TASK, episode, preference


def dpo_of_pairs_that_differ(start: Path, out: Path, batch_size: int) -> TrainResult:
    """One step on four pairs whose sides are of different lengths."""
    pairs = [preference(episode(HIDING if seed % 2 else STOPPING, seed), episode(HONEST, seed)) for seed in range(4)]
    return train_dpo(DPOSettings(batch_size=batch_size, max_steps=1), pairs, start, out)


def main(start: Path, out: Path) -> None:
    """Leaves `dpo-of-2`, `grpo-of-2`, and a file for each different episode in `played`."""
    dpo_of_pairs_that_differ(start, out / "dpo-of-2", batch_size=2)
    devnull.agents.live_episode.verify = pretend_verify  # type: ignore[assignment]
    played = out / "played"
    played.mkdir(exist_ok=True)
    settings = GRPOSettings(max_steps=1, batch_size=4, group=2, max_new_tokens=24, workers=4, max_turns=2, kl_every=1)
    boxes: Any = PretendRuntime(TASK)
    reward = true_return_reward({TASK.name: TASK})
    train_grpo(
        settings,
        instances(4, TASK),
        reward,
        boxes,
        start,
        out / "grpo-of-2",
        on_episode=lambda each: (played / uuid.uuid5(uuid.NAMESPACE_OID, str(each.key)).hex).touch(),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
