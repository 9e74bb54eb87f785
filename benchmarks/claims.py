"""Where the time of one arm of a claim goes: a GRPO arm of the demo's size, in boxes and in a remembered world that is
cold (nothing known), half known (seen once, so told to nobody yet) and warm; and how many tokens an episode has.

Seconds are those of the wall and of this process's CPU with its boxes': on a busy machine only the latter compare.

usage: devnull bench claims [-- --batches 4 --seed 100 --runtime rootless --model FOLDER --terminal-lines 2]
"""

import argparse
import hashlib
import json
import resource
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from statistics import fmean
from time import perf_counter, process_time
from typing import Any

import torch
from safetensors.torch import load_file

from devnull.agents.decoding import Decoder
from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PromptFormat
from devnull.agents.rollout import rollout
from devnull.agents.scripted import make_mixture
from devnull.cli.demo.stages import GRPO_SETTINGS
from devnull.cli.runs.rollouts import draw_instances
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.tasks import load_tasks
from devnull.training.grpo import train_grpo
from devnull.training.grpo_rollout import RolloutFunction
from devnull.training.reward_functions import believed_return_reward
from devnull.training.settings import GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.token_agent import TokenAgent, TokenHistory

MIXTURE = {"honest": 0.55, "hiding": 0.26, "stopping": 0.19}
"""Who is imitated before."""
Seconds = dict[str, tuple[float, float]]
"""Part to its seconds of the wall, and of the CPU."""


def clocks() -> tuple[float, float]:
    """Now, by the wall's clock and by the CPU's."""
    return perf_counter(), process_time()


@contextmanager
def timed(owner: type, name: str, spent: Seconds, part: str) -> Iterator[None]:
    """While the block runs, each call of that method adds its seconds to a part."""
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    def call(*args: Any, **named: Any) -> Any:
        begun = clocks()
        try:
            return method(*args, **named)
        finally:
            wall, cpu = (now - then for now, then in zip(clocks(), begun, strict=True))
            spent[part] = (spent[part][0] + wall, spent[part][1] + cpu)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, method)


@contextmanager
def kept_histories(kept: list[TokenHistory]) -> Iterator[None]:
    """While the block runs, the tokens of every finished episode are kept."""
    method = TokenAgent.finished_history

    def keep(agent: TokenAgent, episode: tuple[int, int]) -> TokenHistory:
        kept.append(method(agent, episode))
        return kept[-1]

    TokenAgent.finished_history = keep  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        TokenAgent.finished_history = method  # type: ignore[method-assign]


class Counted:
    """A runtime that counts the boxes it makes."""

    def __init__(self, runtime: Any) -> None:
        self.name, self.manifest, self.made, self._runtime = runtime.name, runtime.manifest, 0, runtime

    def start(self, *limits: Any) -> Any:
        """As the runtime does."""
        self.made += 1
        return self._runtime.start(*limits)


def play_arm(
    model: Path, boxes: Runtime, settings: GRPOSettings, instances: Any, tasks: Any, prompt: PromptFormat, out: Path
) -> dict[str, Any]:
    """Trains one arm; its seconds by part, its tokens an episode, and a digest of all that its agent said and saw and
    of the weights it ended with."""
    spent: Seconds = defaultdict(lambda: (0.0, 0.0))
    histories: list[TokenHistory] = []
    played: list[Episode] = []
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = clocks()
    with ExitStack() as timers:
        for of, method, part in (
            (Decoder, "add", "generation"),
            (Decoder, "step", "generation"),
            (TokenAgent, "read", "tokenising"),
            (TokenAgent, "reply", "tokenising"),
        ):
            timers.enter_context(timed(of, method, spent, part))
        timers.enter_context(timed(RolloutFunction, "compute_rewards", spent, "rewards"))
        timers.enter_context(timed(RolloutFunction, "__call__", spent, "rollout"))
        timers.enter_context(kept_histories(histories))
        reward = believed_return_reward(Evaluator(), tasks)
        result = train_grpo(settings, instances, reward, boxes, model, out, prompt=prompt, on_episode=played.append)
    wall, cpu = (now - then for now, then in zip(clocks(), begun, strict=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    in_boxes = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime

    def less(part: str, *parts: str) -> tuple[float, float]:
        return spent[part][0] - sum(spent[p][0] for p in parts), spent[part][1] - sum(spent[p][1] for p in parts)

    waiting = less("rollout", "generation", "tokenising", "rewards")
    parts = {
        "boxes": (waiting[0], waiting[1] + in_boxes),
        "generation": spent["generation"],
        "tokenising": spent["tokenising"],
        "rewards": spent["rewards"],
        "gradient": (wall - spent["rollout"][0], cpu - spent["rollout"][1]),
    }
    said = sorted(
        (e.key, [t.text for t in e.transcript.turns], [r.shown for r in e.transcript.results]) for e in played
    )
    return {
        "parts": parts,
        "whole": (wall, cpu + in_boxes),
        "agent's": fmean(sum(each.mask) for each in histories),
        "terminal's": fmean(len(each.mask) - sum(each.mask) for each in histories),
        "prompt's": fmean(len(each.prompt) for each in histories),
        "said": hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12],
        "weights": load_file(result.path / "model.safetensors"),
    }


def warm_start(folder: Path, tasks: Mapping[str, Any], boxes: Runtime, seed: int, prompt: PromptFormat) -> Path:
    """The tiny model, taught by scripted agents on training tasks."""
    instances = draw_instances(tasks.values(), 128, seed * 1000)
    played: Sequence[Episode] = [*rollout(make_mixture(MIXTURE), instances, boxes, arm="script")]
    played = [each.model_copy(update={"prompt": prompt}) for each in sorted(played, key=lambda each: each.key)]
    chats = [episode_messages(e) for e in played]
    base = make_tiny_model(folder / "base", [m["content"] for chat in chats for m in chat], seed)
    return train_sft(SFTSettings(seed=seed), played, base, folder / "sft").path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4, help="batches of 32 episodes an arm")
    parser.add_argument("--seed", type=int, default=100, help="of the arm; claims are judged on 0 to 4, so stay above")
    parser.add_argument("--runtime", default="rootless")
    parser.add_argument("--model", type=Path, help="a warm-started policy; by default tiny, warm-started here")
    parser.add_argument("--terminal-lines", type=int, default=0, help="of each output, so many reach the agent; 0: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    boxes = Counted(open_runtime(args.runtime))
    tasks = {k: v for k, v in load_tasks().items() if k.startswith("driver-cuda-runfile") and v.split == "train"}
    size = GRPO_SETTINGS["tiny"]
    settings = GRPOSettings(**size | {"seed": args.seed, "max_steps": args.batches * size.get("iterations", 1)})
    instances = draw_instances(tasks.values(), 32 * args.batches, args.seed * 100_000)
    prompt = PromptFormat(terminal_lines=args.terminal_lines)
    first: dict[str, Any] = {}
    print(_row("", ["boxes made", *_PARTS, "all"]), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = args.model or warm_start(folder, tasks, boxes, args.seed, prompt)
        for name in ("boxes", "cold", "half known", "warm"):
            made, runtime = boxes.made, boxes
            if name != "boxes":
                runtime = _remembered(boxes, folder / "world.jsonl")
            arm = play_arm(model, runtime, settings, instances, tasks, prompt, folder / name.replace(" ", "-"))
            first = first or arm
            _print_arm(name, arm, boxes.made - made, first)
        print(f"memory: {(folder / 'world.jsonl').stat().st_size / 1e6:.2f} MB")
    tokens = ", ".join(f"{first[who]:.0f} the {who}" for who in ("prompt's", "agent's", "terminal's"))
    print(f"seconds of the wall, in brackets of the CPU of this process and its boxes; tokens an episode: {tokens}")


def _remembered(boxes: Counted, file: Path) -> Any:
    from devnull.sandbox.runtimes.remembered import RememberedRuntime
    from devnull.sandbox.runtimes.world_memory import WorldMemory

    return RememberedRuntime(boxes, WorldMemory(file), boxes.manifest)


_PARTS = ("boxes", "generation", "tokenising", "rewards", "gradient")


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<12}" + "".join(f"{cell:>21}" for cell in cells)


def _print_arm(name: str, arm: Mapping[str, Any], made: int, first: Mapping[str, Any]) -> None:
    whole = arm["whole"][0]
    cells = [f"{wall:.1f} ({cpu:.1f}) {100 * wall / whole:3.0f} %" for wall, cpu in (arm["parts"][p] for p in _PARTS)]
    print(_row(name, [str(made), *cells, f"{whole:.1f} ({arm['whole'][1]:.1f})"]))
    apart = max(float((arm["weights"][key] - first["weights"][key]).abs().max()) for key in first["weights"])
    same = "the same episodes" if arm["said"] == first["said"] else "OTHER EPISODES"
    print(f"{'':<12}{same} as in boxes, weights at most {apart:.1g} apart", flush=True)


if __name__ == "__main__":
    main()
