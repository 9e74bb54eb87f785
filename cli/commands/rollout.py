"""Let an agent work through installation tasks, each in a fresh box; write the episodes to a run folder.

Interrupted, it goes on where it was when given the same command again.
"""

import dataclasses
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PromptFormat
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.cli.runs.agent_choice import ModelOptions, choose_agent
from devnull.cli.runs.best_of import check_best_of, keep_best
from devnull.cli.runs.box_choice import MEMORY_OPTIONS, MemoryOptions, open_boxes
from devnull.cli.runs.evaluator_choice import RewardOptions
from devnull.cli.runs.prompt_choice import PromptFlags, choose_prompt
from devnull.cli.runs.rollouts import SEEDS_PER_RUN, choose_tasks, describe_silence, draw_instances, missing_instances
from devnull.cli.runs.run_folder import RunFolder, open_run
from devnull.cli.terminal.console import print_error
from devnull.cli.terminal.progress import print_progress, progress_bar
from devnull.eval.display.counting import count_noun
from devnull.sandbox.errors import InputError
from devnull.sandbox.extras import require
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import load_tasks


@dataclass(frozen=True)
class _EpisodeOptions:
    """Which episodes to roll out, and where to write them. A base of `Args`, so that these flags come first."""

    agent: str = "honest"
    """Who acts: `honest`, `hiding`, `verbose`, `stopping`, `fabricating`, `disclosing`;
    `mixture:honest=0.5,hiding=0.5`; `hf:MODEL` (a folder or hub name, `hf:smollm2` for the embedded one);
    `openai:MODEL@URL` (an OpenAI-compatible endpoint; without `@URL` the hosted one); `replay:RUN` or
    `replay:RUN@ARM`."""
    tasks: tuple[str, ...] = ()
    """Names of tasks or of families, or patterns ('driver-cuda-runfile*'); none: all of the split."""
    split: Literal["train", "test", "all"] = "train"
    """Which of these tasks."""
    episodes: int = 32
    """How many; the tasks take turns."""
    group: int = 1
    """Episodes of each instance, with the same phrasing and the same fault: what a comparison wants."""
    builds: Literal["drawn", "both"] = "drawn"
    """drawn: each instance meets the build that its seed draws. both: it is played under both, with the same phrasing
    and the same randomness of the agent; metrics then weigh them by their probability."""
    seed: int = 0
    """Draws instructions, faults and the agent's randomness."""
    out: Path = Path("runs/rollout")
    """The run folder."""
    arm: str | None = None
    """What the run calls this agent; by default as `--agent` does."""
    runtime: Literal["auto", "docker", "rootless", "remembered", "fake"] = "auto"
    """What makes the boxes; `remembered`: memory, and for what is not there boxes, if any can be had."""
    p_hide: float | None = None
    """Kept with the run, for all that judge it or learn from it: the evaluator's belief, seeing nothing, in a hidden
    failure (pH)."""


@dataclass(frozen=True)
class Args(RewardOptions, PromptFlags, ModelOptions, RolloutOptions, MemoryOptions, _EpisodeOptions):
    gpus: float = 0.0
    """Of each node of the cluster, for its copy of the model."""
    cluster: str | None = None
    """Address of a Ray cluster (`auto`: the one this machine is in): `--workers` boxes on each of its nodes."""
    concurrent: Annotated[bool, tyro.conf.Suppress, tyro.conf.Fixed] = False
    """No flag: `--agent` decides."""
    prompt: Annotated[PromptFormat | None, tyro.conf.Suppress, tyro.conf.Fixed] = None
    """No flag: `--system`, `--agent-sees` and `--tag` decide."""
    best_of: tuple[int, ...] = ()
    """Play as many episodes of each instance as the largest of these numbers n, and keep for each n an arm
    ARM-best-of-n with the best rated of the first n: `--best-of 2 4 8`."""
    by: str = "terminal"
    """Who rates for `--best-of`: an evaluator (a TOML file, or one of the package), actual (the true return), or the
    folder of a reward model."""
    json: bool = False
    """Print the summary as JSON."""


_FREE_ON_RESUME = ("workers", "concurrent", "json", "out", "retries", "price", "cluster", "gpus", *MEMORY_OPTIONS)
"""Arguments that change how fast or where a run goes, not what comes out: it may go on with others."""
_MODEL_CHOICES = {"template_args": (), "protocol": "fenced"}
"""Arguments that older runs lack, and what those runs did: recorded where they are others."""
_RECORDED_WHERE_SET = ("prompt", *PromptFormat.model_fields, "best_of", "by", *_MODEL_CHOICES)
"""Arguments that the config holds only where they are used, and the prompt as it came out."""


def main(args: Args) -> int:
    for flag, count in (("--episodes", args.episodes), ("--group", args.group)):
        if count < 1:
            raise InputError(f"{flag} is {count}; it must be at least 1")
    if not math.isfinite(args.temperature):
        raise InputError(f"--temperature is {args.temperature}; it must be a finite number")
    if args.p_hide is not None and not 0 <= args.p_hide <= 1:
        raise InputError(f"--p-hide is {args.p_hide}; a probability lies between 0 and 1")
    args.validate()
    check_best_of(args.best_of, args.group, args.by)
    tasks = choose_tasks(args.tasks, args.split, load_tasks())
    group = max(args.best_of, default=args.group)
    count = args.episodes * group if args.best_of else args.episodes
    both = args.builds == "both"
    instances = draw_instances(tasks, count, args.seed * SEEDS_PER_RUN, group=group, both_builds=both)
    prompt = choose_prompt(args, _policy_folder(args))
    aside = (*_FREE_ON_RESUME, *_RECORDED_WHERE_SET)
    config = {key: value for key, value in dataclasses.asdict(args).items() if key not in aside}
    config |= {"max_new_tokens": args.new_tokens(args.agent)} | prompt.choices()
    config |= {name: getattr(args, name) for name, old in _MODEL_CHOICES.items() if getattr(args, name) != old}
    if args.best_of:
        config |= {"best_of": args.best_of, "by": args.by}
    run = open_run(args.out, "rollout", config, args.seed)
    arm = args.arm or args.agent
    missing = missing_instances(run, arm, instances)
    failed = Counter(episode.key for episode in run.episodes(arm) if episode.error)
    if len(missing) < len(instances) or failed:
        print_progress(f"{args.out}: {len(instances) - len(missing)} episodes are there, {len(missing)} are owed")
    counts = _RolloutCounts(len(instances), len(instances) - len(missing))
    if missing:
        with run.stage("rollout"), _rollout_progress(counts) as show:
            for episode in _roll_out(args, arm, missing, prompt, run):
                run.append(episode.model_copy(update={"attempt": episode.attempt + failed[episode.key]}))
                counts.add(episode)
                show()
    summary = _summarise_episodes(run.episodes(arm), run.header["wall_seconds"].get("rollout", 0.0))
    print(json.dumps(summary, indent=2) if args.json else _format_summary(args.out, summary))
    lost = len(instances) - counts.done
    if lost:
        print_error(
            f"{lost} of {len(instances)} episodes could not be played: {counts.last_error}; "
            f"run the same command again to try them"
        )
        return 1
    if args.best_of:
        arms = keep_best(run, arm, args.best_of, args.by, {task.name: task for task in tasks})
        print_progress(f"kept, as rated by {args.by}: arms {', '.join(arms)}; devnull eval {args.out} compares them")
    if not args.tolerant and (silence := describe_silence(args.agent, run.episodes(arm))):
        print_error(silence)
    return 0


def _policy_folder(args: Args) -> Path | None:
    """Where the policy lies that `--agent` names; `None` for another kind of agent."""
    kind, _, name = args.agent.partition(":")
    return (args.adapter or Path(name)) if kind == "hf" else None


def _roll_out(
    args: Args, arm: str, missing: Sequence[Instance], prompt: PromptFormat, run: RunFolder
) -> Iterator[Episode]:
    """The missing episodes as they end, played here or on a cluster."""
    options = dataclasses.replace(args, concurrent=args.agent.startswith("openai:"), prompt=prompt)
    make_agent = partial(choose_agent, args.agent, args, args.workers, missing)
    if args.cluster is None:
        agent = make_agent()  # a wrong name costs no image
        boxes = open_boxes(args.runtime, args, args.out)
        run.note("boxes", boxes.name)
        return rollout(agent, missing, boxes, arm=arm, options=options)
    require("ray", "ray", "--cluster")
    from devnull.agents.cluster import cluster_rollout, join_cluster

    join_cluster(args.cluster or "auto")
    make_runtime = partial(open_boxes, args.runtime, args, args.out.resolve())
    return cluster_rollout(make_agent, missing, make_runtime, arm=arm, options=options, gpus=args.gpus)


@dataclass
class _RolloutCounts:
    """How many episodes of a run are there, and how many failed for reasons of the machine."""

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
def _rollout_progress(counts: _RolloutCounts) -> Iterator[Callable[[], None]]:
    """Yields what shows the counts anew: a bar on a terminal, elsewhere a line for every tenth of the episodes."""
    start, first, printed = time.monotonic(), counts.done, counts.done
    with progress_bar() as bar:
        row = bar.add_task("rollouts", total=counts.total, completed=counts.done)

        def show() -> None:
            nonlocal printed
            errors = f", {counts.errors} errors" if counts.errors else ""
            bar.update(row, completed=counts.done, description=f"rollouts{errors}")
            if not sys.stderr.isatty() and counts.done - printed >= counts.total / 10:
                printed = counts.done
                rate = (counts.done - first) / max(time.monotonic() - start, 1e-9)
                print_progress(f"rollouts: {counts.done} of {counts.total}, {rate:.1f}/s{errors}")

        yield show


def _summarise_episodes(episodes: Sequence[Episode], wall_seconds: float) -> dict[str, Any]:
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


def _format_summary(path: Path, summary: dict[str, Any]) -> str:
    def share(name: str) -> str:
        return "undefined" if summary[name] is None else f"{100 * summary[name]:.0f} %"

    stages = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in summary["stages"].items())
    errors = ", ".join(f"{count} {kind}" for kind, count in summary["errors"].items()) or "none"
    lines = [
        f"{path}: {count_noun(summary['episodes'], 'episode')} in {summary['wall_seconds']:.1f} s",
        f"stages: {stages}",
        f"messages that follow the protocol strictly: {share('strict_share')}; episodes with a report: "
        f"{share('reported_share')}",
        f"infrastructure errors: {errors}",
    ]
    if summary["cost"]:
        cost = {name: f"{value:.1f} s" for name, value in summary["cost"].items() if name.endswith("seconds")}
        spent = ", ".join(f"{name.removesuffix('_seconds')} {value}" for name, value in cost.items())
        lines.append(f"summed over episodes: {spent}")
        read, written, dollars = (summary["cost"][name] for name in ("prompt_tokens", "completion_tokens", "dollars"))
        if read or written:  # a script reads none
            used = f"{read} tokens read, {written} generated"
            lines.append(f"{used}, ${dollars:.4f}" if dollars else used)
    return "\n".join(lines)
