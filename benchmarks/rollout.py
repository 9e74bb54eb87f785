"""Rollouts a second: our engine, a loop of one episode after the other, and TRL's own `environment_factory`.

The same boxes, the same commands, the same verification; the messages are written beforehand, so that only
what happens between them is measured. All three run in one process, one after the other; the ratios count.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from devnull.agents.agent import Reply, Request
from devnull.agents.live_episode import LiveEpisode
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import find_task, load_tasks


@dataclass(frozen=True)
class Args:
    """What is played, and where."""

    episodes: int = 32
    """In each of the three."""
    commands: int = 2
    """Per episode."""
    command_seconds: float = 0.25
    """How long each command takes, asleep."""
    workers: int = 16
    """Boxes at once, in the engine."""
    runtime: Literal["auto", "docker", "rootless"] = "rootless"
    """What makes the boxes of all three."""
    task: str = "driver-cuda-runfile"
    """Laid out before and verified after; its stages are not installed."""
    json: bool = False
    """Print JSON."""


def message(args: Args, turn: int) -> str:
    """What the agent sends at that turn."""
    return f"```bash\nsleep {args.command_seconds}\n```" if turn < args.commands else "Done: finished."


@dataclass(frozen=True)
class FixedAgent:
    """An agent whose messages are known beforehand."""

    args: Args
    name: str = "fixed"

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply a request, in order."""
        return [Reply(message(self.args, request.turn)) for request in requests]


def time_engine(args: Args, instances: Sequence[Instance], runtime: Runtime, workers: int) -> float:
    """Seconds that our engine takes."""
    start = time.perf_counter()
    options = RolloutOptions(workers=workers, max_turns=args.commands + 1)
    played = rollout(FixedAgent(args), instances, runtime, arm="bench", options=options)
    episodes = list(played)
    assert len(episodes) == args.episodes and all(episode.outcome for episode in episodes)
    return time.perf_counter() - start


def time_environment_factory(args: Args, instances: Sequence[Instance], runtime: Runtime) -> float:
    """Seconds of one batch through TRL's tool loop; its generation is replaced by the messages, the rest is TRL's."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore")  # TRL's and its libraries' own
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from devnull.training.models import load_policy
    from devnull.training.tiny import make_tiny_model

    left = iter(instances)
    spent = 0.0

    class Environment:
        def reset(self, **row: Any) -> None:
            self._live = LiveEpisode(next(left), 0, 0, args.commands + 1)
            self._live.start(runtime, Limits())

        def bash(self, command: str) -> str:
            """
            Run one command at the terminal.

            Args:
                command: The command line.

            Returns:
                What the terminal showed.
            """
            return self._live.run_command(command).shown

    def reward(environments: list[Environment], **_: Any) -> list[float]:
        for environment in environments:
            environment._live.finish()
        return [0.0] * len(environments)

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        turn = 0

        def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
            ids = tokenizer(message(args, self.turn) + "<|im_end|>", add_special_tokens=False)["input_ids"]
            self.turn += 1
            return [list(ids) for _ in prompt_ids], None

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            self.start = time.perf_counter()
            return super()._generate_and_score_completions(inputs)

        def _generate(self, prompts: Any) -> Any:
            nonlocal spent
            generated = super()._generate(prompts)
            spent += time.perf_counter() - self.start
            return generated

        def _calculate_rewards(self, *given: Any, **named: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            rewards = super()._calculate_rewards(*given, **named)
            spent += time.perf_counter() - start
            return rewards

    with tempfile.TemporaryDirectory() as folder:
        policy = load_policy(make_tiny_model(Path(folder) / "tiny", [message(args, 0), message(args, args.commands)]))
        tokenizer = policy.tokenizer
        tokenizer.chat_template, tokenizer.response_template = TOOL_TEMPLATE, RESPONSE_TEMPLATE
        config = GRPOConfig(
            output_dir=folder,
            max_steps=1,
            per_device_train_batch_size=args.episodes,
            num_generations=args.episodes,
            max_completion_length=1000,
            max_tool_calling_iterations=args.commands + 1,
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1000,
        )
        data = Dataset.from_list([{"prompt": [{"role": "user", "content": "Go."}]}] * args.episodes)
        trainer = Trainer(
            model=policy.model,
            args=config,
            train_dataset=data,
            processing_class=tokenizer,
            reward_funcs=reward,
            environment_factory=Environment,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        assert trainer.turn == args.commands + 1, f"{trainer.turn} turns were generated"
        assert next(left, None) is None, "not every instance was played"
    return spent


TOOL_TEMPLATE = """{%- for m in messages -%}
<|im_start|>{{ 'user' if m['role'] == 'tool' else m['role'] }}
{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] or '' }}
{%- for call in (m['tool_calls'] or []) %}{% set asked = call['function'] %}{{ '```' + asked['name'] + '\n' }}
{%- for key, value in asked['arguments'].items() %}{{ value if key == 'command' else key ~ value }}{% endfor %}
{{- '\n```' }}{% endfor %}{{ '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
"""ChatML in which a tool call is a ```bash block, as our agents write it."""
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"```(?P<name>bash)\n",
            "close_pattern": r"\n?```\s*",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": {"command": "{content}"}}},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
"""Makes a ```bash block what TRL calls a tool call."""


def main(args: Args) -> int:
    """Prints the table of `devnull bench rollout`."""
    runtime = open_runtime(args.runtime, lambda line: print(line, file=sys.stderr))
    task = find_task(args.task, load_tasks())
    instances = [Instance(task=task, seed=seed) for seed in range(args.episodes)]
    time_engine(Args(episodes=2, commands=1, command_seconds=0), instances[:2], runtime, 2)  # warms the page cache
    ways: dict[str, Callable[[], float]] = {
        f"engine, {args.workers} workers": lambda: time_engine(args, instances, runtime, args.workers),
        "one after the other": lambda: time_engine(args, instances, runtime, 1),
        "TRL environment_factory": lambda: time_environment_factory(args, instances, runtime),
    }
    seconds = {name: way() for name, way in ways.items()}
    ours = next(iter(seconds.values()))
    if args.json:
        print(json.dumps({"arguments": vars(args), "seconds": seconds}, indent=2))
        return 0
    print(
        f"{args.episodes} episodes of {args.commands} commands, {args.command_seconds} s each; {runtime.name} boxes\n"
    )
    print("| way | seconds | rollouts/s | engine is faster by |\n| --- | ---: | ---: | ---: |")
    for name, spent in seconds.items():
        print(f"| {name} | {spent:.1f} | {args.episodes / spent:.1f} | {spent / ours:.1f} |")
    return 0


if __name__ == "__main__":
    status = main(tyro.cli(Args, description=__doc__))
