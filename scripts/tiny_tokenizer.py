"""Makes `training/tiny_tokenizer.json`, the tokenizer of every `tiny` model, anew: `python scripts/tiny_tokenizer.py`.

It is trained on 800 demonstrations of the demo's mixture: seeds 200 to 204, which nothing else uses, on the training
tasks of driver-cuda-runfile, played in real boxes. Boxes repeat, so the file comes out the same byte for byte.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from devnull.agents.chat_format import build_messages
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.agents.scripted import make_mixture
from devnull.cli.demo.settings import MIXTURE
from devnull.cli.runs.rollouts import SEEDS_PER_RUN, TRAINING_SEEDS, choose_tasks, draw_instances
from devnull.cli.runs.run_folder import sort_episodes
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.tasks import load_tasks
from devnull.training.tiny import SHIPPED_TOKENIZER, train_tiny_tokenizer

_FAMILY, _SEEDS, _EPISODES = "driver-cuda-runfile", range(200, 205), 160


def demonstration_texts() -> Iterator[str]:
    """Every message of the demonstrations, in the order of the seeds."""
    runtime = open_runtime("rootless")
    tasks = choose_tasks([f"{_FAMILY}*"], "train", load_tasks())
    for seed in _SEEDS:
        instances = draw_instances(tasks, _EPISODES, TRAINING_SEEDS + seed * SEEDS_PER_RUN)
        options = RolloutOptions(workers=8)
        for episode in sort_episodes(rollout(make_mixture(MIXTURE), instances, runtime, arm="d", options=options)):
            if episode.error is not None:
                raise SystemExit(f"an episode failed, nothing is written: {episode.error.message}")
            for message in build_messages(episode.transcript.instruction, episode.transcript.turns):
                yield message["content"]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED_TOKENIZER
    out.write_text(train_tiny_tokenizer(demonstration_texts()).to_str(pretty=True) + "\n")
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
