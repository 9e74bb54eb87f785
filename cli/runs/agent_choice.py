"""The agent that `devnull rollout --agent` names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devnull.agents.agent import Agent
from devnull.agents.recorded import RecordedAgent
from devnull.agents.scripted import SCRIPTED_AGENTS, find_scripted_agent, make_mixture
from devnull.agents.template_args import parse_template_args
from devnull.cli.runs.local_models import resolve_model
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_scores import check_arms
from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.extras import require
from devnull.sandbox.task import Instance


@dataclass(frozen=True)
class ModelOptions:
    """How a language model that acts is loaded and sampled."""

    adapter: Path | None = None
    """A PEFT adapter for `hf:`."""
    temperature: float = 1.0
    """Of sampling, for `hf:` and `openai:`; 0 is greedy."""
    max_new_tokens: int | None = None
    """Of one message, its reasoning included. Unset: 128 for `hf:`, 4096 for `openai:`."""
    batch_size: int = 32
    """Messages generated together, for `hf:`; 1 repeats exactly whatever the workers."""
    load_in_4bit: bool = False
    """Hold the weights of `hf:` in 4 bits (bitsandbytes)."""
    template_args: tuple[str, ...] = ()
    """What the chat template of `hf:` is told: `enable_thinking=false`."""
    protocol: Literal["fenced", "tools"] = "fenced"
    """How a model behind `openai:` says what to run: in a ```bash block, or by calling the tool `bash`."""
    price: tuple[float, float] = (0.0, 0.0)
    """Of `openai:`, in dollars for a million tokens read and for a million generated; 0 0: as the server says, if it
    does."""

    def new_tokens(self, agent: str) -> int:
        """Longest message of the agent of that name, in tokens."""
        default = 4096 if agent.startswith("openai:") else 128
        return default if self.max_new_tokens is None else self.max_new_tokens


def choose_agent(name: str, options: ModelOptions, workers: int, instances: Sequence[Instance]) -> Agent:
    """The agent of that name: `honest`, `mixture:honest=0.5,hiding=0.5`, `hf:MODEL`, `openai:MODEL@URL`,
    `replay:RUN@ARM`.

    Args:
        options: For `hf:` and `openai:`.
        workers: How many boxes ask it at once.
        instances: What it is going to meet; an agent that replays a run must have met all of it.

    Raises `InputError` with the form that was meant.
    """
    kind, colon, rest = name.partition(":")
    if options.adapter is not None and kind != "hf":
        raise InputError(f"--adapter {options.adapter} is put on a model; pass --agent hf:MODEL, not {name}")
    if not colon:
        return find_scripted_agent(kind)
    if not rest:
        raise InputError(f"--agent {name!r} lacks what comes after the colon; see devnull rollout --help")
    match kind:
        case "mixture":
            return make_mixture(_parse_weights(rest))
        case "hf":
            return _load_local_model(rest, options, options.new_tokens(name))
        case "openai":
            return _connect_endpoint(rest, options, options.new_tokens(name), workers)
        case "replay":
            return _load_recorded_agent(rest, instances)
    kinds = ("mixture", "hf", "openai", "replay")
    raise InputError(f"--agent {name!r}: no kind {kind!r}; there are {', '.join(kinds)}{did_you_mean(kind, kinds)}")


def _parse_weights(text: str) -> dict[str, float]:
    """`honest=0.5,hiding=0.5`."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        if name.strip() in weights:
            raise InputError(f"--agent mixture: {name.strip()} is there twice; give it one weight")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            names = ", ".join(agent.name for agent in SCRIPTED_AGENTS)
            raise InputError(f"--agent mixture: {part!r} is not NAME=WEIGHT, with NAME of {names}") from None
    return weights


def _connect_endpoint(text: str, options: ModelOptions, new_tokens: int, workers: int) -> Agent:
    """`MODEL@URL`, or `MODEL` of the hosted one."""
    require("openai", "api", "--agent openai:")
    from devnull.agents.endpoint import Endpoint

    model, _, url = text.partition("@")
    if url and not url.startswith(("http://", "https://")):
        raise InputError(f"--agent openai: {url!r} is no URL; write openai:{model}@http://localhost:8000/v1")
    return Endpoint(
        model,
        url or None,
        temperature=options.temperature,
        max_new_tokens=new_tokens,
        protocol=options.protocol,
        price=options.price,
        concurrency=workers,
    )


def _load_local_model(name: str, options: ModelOptions, new_tokens: int) -> Agent:
    from devnull.agents.local import LocalModel
    from devnull.agents.model_loading import adapter_base

    if options.adapter is not None:
        adapter_base(options.adapter)  # before a model is fetched

    return LocalModel(
        resolve_model(name),
        options.adapter,
        temperature=options.temperature,
        max_new_tokens=new_tokens,
        batch_size=options.batch_size,
        load_in_4bit=options.load_in_4bit,
        template_args=parse_template_args(options.template_args),
    )


def _load_recorded_agent(text: str, instances: Sequence[Instance]) -> Agent:
    """`RUN` or `RUN@ARM`: repeats what was said there to each of the instances."""
    folder, _, arm = text.partition("@")
    episodes = list(read_episodes(Path(folder)))
    check_arms(folder, [arm] if arm else [], {episode.arm for episode in episodes})
    agent = RecordedAgent((e for e in episodes if not arm or e.arm == arm), f"replay:{text}")
    missing = [instance for instance in instances if not agent.holds(instance)]
    if missing:
        raise InputError(
            f"{folder}: holds no finished episode{f' of arm {arm!r}' if arm else ''} of {missing[0].task.name} with "
            f"seed {missing[0].seed}, and {len(missing) - 1} more; roll out with its --tasks, --split, --group, --seed"
        )
    return agent
