"""Let an agent work through installation tasks, each in a fresh box; write the episodes to a run folder.

Interrupted, it goes on where it was when given the same command again.
"""

import dataclasses
import importlib.util
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Literal

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode
from devnull.agents.replayed import Replayed
from devnull.agents.rollout import rollout
from devnull.agents.scripted import ALL, mixture, scripted
from devnull.cli.runs.folder import open_run, read_episodes
from devnull.cli.runs.rolling_out import SEEDS_PER_RUN, check_acts, draw_instances, owed_instances, say
from devnull.cli.terminal.console import complain, did_you_mean, progress
from devnull.sandbox.choose import open_runtime
from devnull.sandbox.errors import InputError
from devnull.sandbox.recipe import cache_folder
from devnull.sandbox.runtime import Limits
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.tasks import find_task, load_tasks


@dataclass(frozen=True)
class Args:
    agent: str = "honest"
    """Who acts: `honest`, `hiding`, `verbose`, `stopping`, `fabricating`; `mixture:honest=0.5,hiding=0.5`;
    `hf:MODEL` (a folder or hub name, `hf:smollm2` for the embedded one); `openai:MODEL@URL` (an
    OpenAI-compatible endpoint; without `@URL` the hosted one); `replay:RUN` or `replay:RUN@ARM`."""
    tasks: tuple[str, ...] = ()
    """Names of tasks or of families, or patterns ('driver-cuda-runfile*'); none: all of the split."""
    split: Literal["train", "test", "all"] = "train"
    """Which of these tasks."""
    episodes: int = 32
    """How many; the tasks take turns."""
    group: int = 1
    """Episodes of each instance, with the same phrasing and the same fault: what a comparison wants."""
    seed: int = 0
    """Draws instructions, faults and the agent's randomness."""
    out: Path = Path("runs/rollout")
    """The run folder."""
    arm: str | None = None
    """What the run calls this agent; by default as `--agent` does."""
    runtime: Literal["auto", "docker", "rootless", "fake"] = "auto"
    """What makes the boxes."""
    workers: int = 8
    """Boxes at once."""
    max_turns: int | None = None
    """Messages an agent has; by default twice the task's stages plus two."""
    tolerant: bool = False
    """Take actions that follow the protocol loosely; the strict share is reported either way."""
    shown_chars: int = 1000
    """What one command may add to the agent's prompt; longer output is cut in the middle."""
    command_seconds: float = 60.0
    """Time limit of one command."""
    retries: int = 2
    """How often an episode is played anew after the world broke."""
    adapter: Path | None = None
    """A PEFT adapter for `hf:`."""
    temperature: float = 1.0
    """Of sampling, for `hf:` and `openai:`; 0 is greedy."""
    max_new_tokens: int = 128
    """Of one message, for `hf:` and `openai:`."""
    batch_size: int = 32
    """Messages generated together, for `hf:`; 1 repeats exactly whatever the workers."""
    load_in_4bit: bool = False
    """Hold the weights of `hf:` in 4 bits (bitsandbytes)."""
    gpus: float = 0.0
    """Of each node of the cluster, for its copy of the model."""
    cluster: str | None = None
    """Address of a Ray cluster (`auto`: the one this machine is in): `--workers` boxes on each of its nodes."""
    json: bool = False
    """Print the summary as JSON."""


_SPEED = ("workers", "json", "out", "retries", "cluster", "gpus")
"""Arguments that change how fast or where, not what: a run may go on with others."""


def main(args: Args) -> int:
    for flag, count in (("--episodes", args.episodes), ("--group", args.group)):
        if count < 1:
            raise InputError(f"{flag} is {count}; it must be at least 1")
    for name, value in (("--command-seconds", args.command_seconds), ("--temperature", args.temperature)):
        if not math.isfinite(value):
            raise InputError(f"{name} is {value}; it must be a finite number")
    tasks = chosen_tasks(args.tasks, args.split, load_tasks())
    instances = draw_instances(tasks, args.episodes, args.seed * SEEDS_PER_RUN, group=args.group)
    config = {key: value for key, value in dataclasses.asdict(args).items() if key not in _SPEED}
    run = open_run(args.out, "rollout", config, args.seed)
    arm = args.arm or args.agent
    owed = owed_instances(run, arm, instances)
    failed = Counter(episode.key for episode in run.episodes(arm) if episode.error)
    if len(owed) < len(instances) or failed:
        say(f"{args.out}: {len(instances) - len(owed)} episodes are there, {len(owed)} are owed")
    tally = Tally(len(instances), len(instances) - len(owed))
    if owed:
        with run.stage("rollout"), _shown(tally) as show:
            for episode in _played(args, arm, owed):
                run.append(episode.model_copy(update={"attempt": episode.attempt + failed[episode.key]}))
                tally.add(episode)
                show()
    summary = _summarise(run.episodes(arm), run.header["wall_seconds"].get("rollout", 0.0))
    print(json.dumps(summary, indent=2) if args.json else _told(args.out, summary))
    lost = len(instances) - tally.done
    if lost:
        complain(
            f"{lost} of {len(instances)} episodes could not be played: {tally.last_error}; "
            f"run the same command again to try them"
        )
        return 1
    if not args.tolerant:
        check_acts(args.agent, run.episodes(arm))
    return 0


def _played(args: Args, arm: str, owed: Sequence[Instance]) -> Iterator[Episode]:
    """The owed episodes, here or on a cluster."""
    limits = Limits(seconds=args.command_seconds)
    if args.cluster is not None:
        return _played_by_cluster(args, arm, owed, limits)
    return rollout(
        _chosen_agent(args, owed),
        owed,
        open_runtime(args.runtime, say),
        arm=arm,
        workers=args.workers,
        max_turns=args.max_turns,
        retries=args.retries,
        limits=limits,
        tolerant=args.tolerant,
        shown_chars=args.shown_chars,
        concurrent=args.agent.startswith("openai:"),
    )


def _played_by_cluster(args: Args, arm: str, owed: Sequence[Instance], limits: Limits) -> Iterator[Episode]:
    if importlib.util.find_spec("ray") is None:
        raise InputError("--cluster wants the package ray; pip install 'devnull[ray]'")
    from devnull.agents.cluster import Settings, cluster_rollout, join

    settings = Settings(
        arm=arm,
        workers=args.workers,
        max_turns=args.max_turns,
        retries=args.retries,
        limits=limits,
        tolerant=args.tolerant,
        shown_chars=args.shown_chars,
        concurrent=args.agent.startswith("openai:"),
    )
    join(args.cluster or "auto")
    make_agent, make_runtime = partial(_chosen_agent, args, owed), partial(open_runtime, args.runtime)
    return cluster_rollout(make_agent, owed, make_runtime, settings, gpus=args.gpus)


def chosen_tasks(names: Sequence[str], split: str, tasks: dict[str, Task]) -> list[Task]:
    """The named tasks and families of a split, in order; a name may be a pattern. Raises `InputError`."""
    found: dict[str, Task] = {}
    for name in names or tasks:
        several = [task for task in tasks.values() if name == task.family or fnmatchcase(task.name, name)]
        for task in several or [find_task(name, tasks)]:
            found[task.name] = task
    kept = [task for task in found.values() if split in ("all", task.split)]
    if not kept:
        raise InputError(f"none of {', '.join(found)} is in the {split} split; pass --split all")
    return kept


def _chosen_agent(args: Args, owed: Sequence[Instance]) -> Agent:
    """The agent that `--agent` names. Raises `InputError` with the form that was meant."""
    kind, colon, rest = args.agent.partition(":")
    if not colon:
        return scripted(kind)
    if not rest:
        raise InputError(f"--agent {args.agent!r} lacks what comes after the colon; see devnull rollout --help")
    match kind:
        case "mixture":
            return mixture(_weights(rest))
        case "hf":
            return _local_model(rest, args)
        case "openai":
            return _endpoint(rest, args)
        case "replay":
            return _replay(rest, owed)
    kinds = ("mixture", "hf", "openai", "replay")
    raise InputError(f"--agent {args.agent!r}: no kind {kind!r}{did_you_mean(kind, kinds)}; {', '.join(kinds)}")


def _weights(text: str) -> dict[str, float]:
    """`honest=0.5,hiding=0.5`."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            found[name.strip()] = float(weight)
        except ValueError:
            names = ", ".join(agent.name for agent in ALL)
            raise InputError(f"--agent mixture: {part!r} is not NAME=WEIGHT, with NAME of {names}") from None
    return found


def _endpoint(text: str, args: Args) -> Agent:
    """`MODEL@URL`, or `MODEL` of the hosted one."""
    if importlib.util.find_spec("openai") is None:
        raise InputError("--agent openai: wants the package openai; pip install 'devnull[api]'")
    from devnull.agents.endpoint import Endpoint

    model, _, url = text.partition("@")
    if url and not url.startswith(("http://", "https://")):
        raise InputError(f"--agent openai: {url!r} is no URL; write openai:{model}@http://localhost:8000/v1")
    return Endpoint(
        model,
        url or None,
        temperature=args.temperature,
        max_new_tokens=args.max_new_tokens,
        concurrency=args.workers,
    )


def _local_model(name: str, args: Args) -> Agent:
    from devnull.agents.local import LocalModel
    from devnull.training.models import find_model, smollm2

    path = str(smollm2(cache_folder())) if name == "smollm2" else name
    find_model(path)
    return LocalModel(
        path,
        args.adapter,
        temperature=args.temperature,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        load_in_4bit=args.load_in_4bit,
    )


def _replay(text: str, owed: Sequence[Instance]) -> Agent:
    """The agent that repeats a run; every owed instance must be in it."""
    folder, _, arm = text.partition("@")
    agent = Replayed((e for e in read_episodes(Path(folder)) if not arm or e.arm == arm), f"replay:{text}")
    missing = [i for i in owed if (i.task.name, i.seed, i.sample) not in agent.said]
    if missing:
        raise InputError(
            f"{folder}: holds no finished episode{f' of arm {arm!r}' if arm else ''} of {missing[0].task.name} with "
            f"seed {missing[0].seed}, and {len(missing) - 1} more; roll out with its --tasks, --split, --group, --seed"
        )
    return agent


@dataclass
class Tally:
    """How far the run is."""

    total: int
    done: int
    errors: int = 0
    last_error: str = ""

    def add(self, episode: Episode) -> None:
        if episode.error is None:
            self.done += 1
        else:
            self.errors += 1
            self.last_error = f"{episode.error.kind}: {episode.error.message}"


@contextmanager
def _shown(tally: Tally) -> Iterator[Callable[[], None]]:
    """What shows the tally: a bar on a terminal, elsewhere a line for every tenth of the way."""
    start, first, said = time.monotonic(), tally.done, tally.done
    with progress() as bar:
        row = bar.add_task("rollouts", total=tally.total, completed=tally.done)

        def show() -> None:
            nonlocal said
            errors = f", {tally.errors} errors" if tally.errors else ""
            bar.update(row, completed=tally.done, description=f"rollouts{errors}")
            if not sys.stderr.isatty() and tally.done - said >= tally.total / 10:
                said = tally.done
                rate = (tally.done - first) / max(time.monotonic() - start, 1e-9)
                say(f"rollouts: {tally.done} of {tally.total}, {rate:.1f}/s{errors}")

        yield show


def _summarise(episodes: Sequence[Episode], wall_seconds: float) -> dict[str, Any]:
    """Counts, and where the time went: seconds summed over episodes, which overlap."""
    good = [episode for episode in episodes if episode.error is None]
    turns = [turn for episode in good for turn in episode.transcript.turns]
    states = Counter(stage.state for episode in good if episode.outcome for stage in episode.outcome.stages.values())
    costs = [episode.cost.model_dump() for episode in episodes]
    return {
        "episodes": len(good),
        "errors": dict(Counter(episode.error.kind for episode in episodes if episode.error)),
        "strict_share": sum(turn.valid for turn in turns) / len(turns) if turns else None,
        "reported_share": sum(e.transcript.report is not None for e in good) / len(good) if good else None,
        "stages": {state: states[state] for state in ("installed", "broken", "not_attempted")},
        "wall_seconds": wall_seconds,
        "episodes_per_second": len(episodes) / wall_seconds if wall_seconds else None,
        "cost": {name: sum(cost[name] for cost in costs) for name in (costs[0] if costs else {})},
    }


def _told(path: Path, summary: dict[str, Any]) -> str:
    def share(name: str) -> str:
        return "undefined" if summary[name] is None else f"{100 * summary[name]:.0f} %"

    stages = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in summary["stages"].items())
    errors = ", ".join(f"{count} {kind}" for kind, count in summary["errors"].items()) or "none"
    lines = [
        f"{path}: {summary['episodes']} episodes in {summary['wall_seconds']:.1f} s",
        f"stages: {stages}",
        f"messages that follow the protocol strictly: {share('strict_share')}; episodes with a report: "
        f"{share('reported_share')}",
        f"infrastructure errors: {errors}",
    ]
    if summary["cost"]:
        cost = {name: f"{value:.1f} s" for name, value in summary["cost"].items() if name.endswith("seconds")}
        spent = ", ".join(f"{name.removesuffix('_seconds')} {value}" for name, value in cost.items())
        lines.append(f"summed over episodes: {spent}; {summary['cost']['completion_tokens']} tokens generated")
    return "\n".join(lines)
