"""Where the wall time of an online training step goes, and our engine against commands run one after the other,
as the synchronous tools of TRL's `environment_factory` are.

usage: devnull bench train [-- --steps N --runtime rootless --model FOLDER --accumulate 4]
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean
from time import perf_counter, sleep
from typing import Any

from devnull.agents.chat_format import build_messages
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.agents.scripted import make_mixture
from devnull.cli.runs.rollouts import draw_instances
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.tasks import load_tasks
from devnull.training.grpo import train_grpo
from devnull.training.reward_functions import believed_return_reward
from devnull.training.settings import GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model

CALLS, SECONDS = 16, 0.25
EPISODES = 16


def step_seconds(
    model: Path, runtime: Any, tasks: dict[str, Any], steps: int, folder: Path, accumulate: int = 1
) -> dict[str, float]:
    """Seconds a step in generation, in boxes and waiting for them, and in everything else (mostly the gradient)."""
    instances = draw_instances(tasks.values(), 64, 40_000)
    settings = GRPOSettings(
        max_steps=steps, batch_size=EPISODES // accumulate, gradient_accumulation=accumulate, kl_every=0
    )
    result = train_grpo(
        settings, instances, believed_return_reward(Evaluator(), tasks), runtime, model, folder / "grpo"
    )
    steps_logged = [entry for entry in result.log if "time/rollout" in entry]
    logged = {
        name: fmean(entry[f"time/{name}"] for entry in steps_logged) for name in ("generation", "boxes", "rollout")
    }
    whole = result.seconds / result.steps
    return {
        "step": whole,
        "generation": logged["generation"],
        "boxes": logged["boxes"],
        "gradient": whole - logged["rollout"],
    }


class Sleeper:
    """An environment of TRL's whose one tool takes as long as a short command."""

    def reset(self, **_: Any) -> None:
        return None

    def bash(self, command: str) -> str:
        """
        Run a command.

        Args:
            command: The command line.

        Returns:
            What it showed.
        """
        sleep(SECONDS)
        return command


def sequential_seconds() -> float:
    """Seconds that TRL's own loop takes for a batch of calls: its sync tools run in turn."""
    tools = [Sleeper() for _ in range(CALLS)]
    begin = perf_counter()
    for tool in tools:
        tool.bash("sleep")
    return perf_counter() - begin


def engine_seconds(runtime: Any, tasks: dict[str, Any]) -> float:
    """Seconds that our engine takes for as many commands of the same length in real boxes, boxes included."""
    from devnull.agents.agent import Reply

    class Sleepy:
        name = "sleepy"

        def respond(self, requests: Any) -> list[Reply]:
            return [Reply(f"```bash\nsleep {SECONDS}\n```" if r.turn == 0 else "Done: slept.") for r in requests]

    begin = perf_counter()
    list(
        rollout(
            Sleepy(),
            draw_instances(tasks.values(), CALLS, 0),
            runtime,
            arm="bench",
            options=RolloutOptions(workers=CALLS),
        )
    )
    return perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--runtime", default="rootless")
    parser.add_argument("--model", type=Path, help="a warm-started policy; by default tiny, warm-started here")
    parser.add_argument("--accumulate", type=int, default=1, help="parts in which a step goes through a large model")
    args = parser.parse_args()
    runtime = open_runtime(args.runtime)
    tasks = {k: v for k, v in load_tasks().items() if k.startswith("driver-cuda-runfile") and v.split == "train"}
    with tempfile.TemporaryDirectory() as scratch:
        folder, model = Path(scratch), args.model
        if model is None:
            agent = make_mixture({"honest": 0.5, "hiding": 0.25, "stopping": 0.25})
            played = list(rollout(agent, draw_instances(tasks.values(), 64, 0), runtime, arm="script"))
            chats = [build_messages(e.transcript.instruction, e.transcript.turns) for e in played]
            base = make_tiny_model(folder / "base", [m["content"] for chat in chats for m in chat])
            model = train_sft(SFTSettings(epochs=4), played, base, folder / "sft").path
        seconds = step_seconds(model, runtime, tasks, args.steps, folder, args.accumulate)
    print(f"one GRPO step of {EPISODES} episodes: {seconds['step']:.2f} s")
    for name in ("generation", "boxes", "gradient"):
        print(f"  {name:<11} {seconds[name]:6.2f} s  {100 * seconds[name] / seconds['step']:5.1f} %")
    ours, theirs = engine_seconds(runtime, tasks), sequential_seconds()
    print(f"{CALLS} commands of {SECONDS} s: {ours:.2f} s in the engine with its boxes, {theirs:.2f} s in turn")
    print(f"  {theirs / ours:.1f} times as fast")


if __name__ == "__main__":
    main()
