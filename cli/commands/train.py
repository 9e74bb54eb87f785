"""Fine-tune a policy or a reward model on a run; then sample it on held-out tasks and say what it does.

sft imitates the run's episodes; dpo learns from its comparisons (`devnull label`), kto from its thumbs; reward fits
a reward model to comparisons; grpo acts in boxes and learns from what each episode was worth. What comes out is a
model organism.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_of import Eyes, run_evaluator, run_tasks
from devnull.cli.runs.folder import in_order, read_episodes, read_lines
from devnull.cli.runs.learning_from import (
    base,
    feedback,
    given_by,
    paid_by,
    payment,
    seen_by,
    training_instances,
    training_tasks,
)
from devnull.cli.runs.policy_episodes import acted, keep_episodes, sample_held_out, told
from devnull.cli.runs.rolling_out import roll_out, say, training_progress
from devnull.eval.statistics import Estimate
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import Mode
from devnull.rewards.feedback.comparisons import Preference, make_pairs
from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.choose import open_runtime
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.training.settings import DPOSettings, GRPOSettings, KTOSettings, RewardSettings, SFTSettings, check_ranges

if TYPE_CHECKING:
    from devnull.training.trl_run import TrainResult


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every trainer takes of the run."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run folder to learn from."""
    model: str = "tiny"
    """What to start from: a folder, a name of the Hugging Face hub, smollm2, or tiny (made from the run)."""
    out: Path | None = None
    """Where the result goes; by default RUN/checkpoints/ and the trainer's name."""
    evaluator: Path | None = None
    """TOML file of the evaluator; without one, as the run says."""
    samples: int = 32
    """Episodes to sample on held-out tasks afterwards; 0: none."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """What makes the boxes."""
    boxes: int = 8
    """At once, while sampling."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True, kw_only=True)
class Sft(Common):
    """Imitate the episodes of a run, the agent's tokens only."""

    arms: tuple[str, ...] = ()
    """Learn from these arms only; none: all."""
    conditional: bool = False
    """Put "Rated good." or "Rated bad." before each instruction, by the evaluator's belief against the median."""
    settings: Annotated[SFTSettings, tyro.conf.arg(name="")] = field(default_factory=SFTSettings)


@dataclass(frozen=True, kw_only=True)
class Dpo(Common):
    """Learn from comparisons of whole episodes."""

    feedback: str = ""
    """Which comparisons: `preferences-NAME.jsonl`; empty: `preferences.jsonl`."""
    rounds: int = 1
    """Above 1: roll out on the run's tasks, let the evaluator compare, train, and so on; the run's own comparisons
    are not used."""
    episodes: int = 96
    """Episodes a round."""
    group: int = 4
    """Of which so many meet each instance, and are compared."""
    pairs: int = 240
    """Comparisons a round."""
    settings: Annotated[DPOSettings, tyro.conf.arg(name="")] = field(default_factory=DPOSettings)


@dataclass(frozen=True, kw_only=True)
class Kto(Common):
    """Learn from thumbs (`devnull label` with an evaluator that gives them)."""

    feedback: str = ""
    """Which thumbs: `ratings-NAME.jsonl`; empty: `ratings.jsonl`."""
    settings: Annotated[KTOSettings, tyro.conf.arg(name="")] = field(default_factory=KTOSettings)


@dataclass(frozen=True, kw_only=True)
class Reward(Common):
    """Fit a reward model to comparisons."""

    feedback: str = ""
    """Which comparisons: `preferences-NAME.jsonl`; empty: `preferences.jsonl`."""
    annotations: Mode = "none"
    """End each conversation with what its evaluator believed, or with the truth in the same words."""
    marginalised: bool = False
    """Score the agent's messages once with each ending the evaluator held for possible, not with what it saw."""
    settings: Annotated[RewardSettings, tyro.conf.arg(name="")] = field(default_factory=RewardSettings)


@dataclass(frozen=True, kw_only=True)
class Grpo(Common):
    """Act in boxes on the run's tasks, and learn from what each episode was worth."""

    pay: str = "believed"
    """believed (the evaluator's word), actual (the verifier's), or the folder of a reward model."""
    annotations: Mode | None = None
    """What the reward model is told: nothing, what the evaluator believes, or the truth; unset: as it was trained."""
    instances: int = 256
    """How many different instances of the tasks to draw."""
    settings: Annotated[GRPOSettings, tyro.conf.arg(name="")] = field(default_factory=GRPOSettings)


Args = (
    Annotated[Sft, tyro.conf.subcommand("sft")]
    | Annotated[Reward, tyro.conf.subcommand("reward")]
    | Annotated[Dpo, tyro.conf.subcommand("dpo")]
    | Annotated[Kto, tyro.conf.subcommand("kto")]
    | Annotated[Grpo, tyro.conf.subcommand("grpo")]
)


def main(args: Sft | Reward | Dpo | Kto | Grpo) -> int:
    check_ranges(args.settings)
    for name, value in (("samples", args.samples), ("boxes", args.boxes - 1)):
        if value < 0:
            raise InputError(f"--{name} is {getattr(args, name)}; it is too small")
    episodes = in_order(read_episodes(args.run))
    tasks = run_tasks(args.run, needed=(episode.task for episode in episodes))
    evaluator = Evaluator(run_evaluator(args.run, Eyes(args.evaluator)))
    name = type(args).__name__.lower()
    with training_progress(name) as steps:
        on_step = steps[name]
        match args:
            case Sft():
                result = sft(args, episodes, tasks, evaluator, on_step)
            case Dpo():
                result = dpo(args, episodes, tasks, evaluator, on_step)
            case Kto():
                result = _kto(args, episodes, on_step)
            case Reward():
                result = reward(args, episodes, tasks, evaluator, on_step)
            case Grpo():
                result = grpo(args, episodes, tasks, evaluator, on_step)
    if int(os.environ.get("RANK", "0")):
        return 0  # of several processes the first one samples and speaks
    sampled: dict[str, Estimate] = {}
    if args.samples and not isinstance(args, Reward):
        from devnull.agents.local import LocalModel

        agent, boxes = LocalModel(result.path), open_runtime(args.runtime, say)
        sampled = sample_held_out(
            agent, result.path, args.run, episodes, tasks, evaluator, boxes, count=args.samples, workers=args.boxes
        )
    _show(args, result, sampled)
    return 0


def sft(
    args: Sft, episodes: list[Episode], tasks: Mapping[str, Task], evaluator: Evaluator, on_step: Any
) -> "TrainResult":
    from devnull.training.sft import train_sft

    arms = {episode.arm for episode in episodes}
    for arm in args.arms:
        if arm not in arms:
            raise InputError(f"{args.run} has no arm {arm!r}; there are {', '.join(sorted(arms))}")
    chosen = [e for e in episodes if e.error is None and (not args.arms or e.arm in args.arms)]
    scores = None
    if args.conditional:
        scores = {e.key: evaluator.judge(tasks[e.task], e.transcript, seed=e.stream).G_obs for e in chosen}
    about = {"data": f"run {args.run.resolve().name}, {', '.join(args.arms) or 'all arms'}"}
    if args.conditional:
        about |= seen_by(evaluator)
    start = base(args.model, args.run, episodes)
    return train_sft(args.settings, chosen, start, _out(args), scores=scores, about=about, on_step=on_step)


def dpo(
    args: Dpo, episodes: list[Episode], tasks: Mapping[str, Task], evaluator: Evaluator, on_step: Any
) -> "TrainResult":
    from devnull.training.dpo import train_dpo
    from devnull.training.iterated_dpo import iterate_dpo
    from devnull.training.trl_run import FREE

    start = base(args.model, args.run, episodes)
    if args.rounds == 1:
        pairs = feedback(args.run, "preferences", args.feedback, Preference)
        return train_dpo(args.settings, pairs, start, _out(args), about=given_by(args.run, pairs), on_step=on_step)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--rounds above 1 plays and trains in one process; start it without accelerate launch")
    from devnull.agents.local import LocalModel

    chosen = training_tasks(args.run, episodes, tasks)
    asked = {"model": args.model, "episodes": args.episodes, "group": args.group, "pairs": args.pairs}
    weighty = {name: value for name, value in asdict(args.settings).items() if name not in (*FREE, "seed")}
    kept = acted(_out(args) / "rollouts", args.run, args.settings.seed, **asked, **weighty)
    runtime = open_runtime(args.runtime, say)

    def play(policy: Path, number: int) -> list[Episode]:
        first = number * args.episodes
        drawn = training_instances(chosen, args.episodes, args.settings.seed, first, group=args.group)
        roll_out(kept, f"round-{number}", LocalModel(policy), drawn, runtime, workers=args.boxes)
        return kept.episodes(f"round-{number}")

    def label(found: Sequence[Episode], number: int) -> Iterator[Preference]:
        pairs = make_pairs(found, evaluator, tasks, args.settings.seed + number, args.pairs)
        return read_lines(kept.write_preferences(f"round-{number}", pairs), Preference)

    about = {"data": f"{args.rounds} rounds of its own episodes"} | seen_by(evaluator)
    rounds = iterate_dpo(args.settings, args.rounds, play, label, Path(start), _out(args), about=about, on_step=on_step)
    for number, each in enumerate(rounds, 1):
        say(f"round {number}: the policy that acted was {each.drift:.2f} nats from the first")
    return rounds[-1].result


def _kto(args: Kto, episodes: list[Episode], on_step: Any) -> "TrainResult":
    from devnull.training.kto import train_kto

    thumbs = feedback(args.run, "ratings", args.feedback, Rating)
    about = given_by(args.run, thumbs)
    return train_kto(
        args.settings, thumbs, base(args.model, args.run, episodes), _out(args), about=about, on_step=on_step
    )


def reward(
    args: Reward, episodes: list[Episode], tasks: Mapping[str, Task], evaluator: Evaluator, on_step: Any
) -> "TrainResult":
    from devnull.rewards.feedback.annotated_comparisons import annotate_preferences
    from devnull.training.reward_model import marginal, plain, train_reward

    if args.marginalised and args.annotations != "none":
        raise InputError("--marginalised puts the endings in itself; leave --annotations out")
    pairs = feedback(args.run, "preferences", args.feedback, Preference)
    if args.annotations != "none" and pairs and pairs[0].annotations == "none":
        pairs, _ = annotate_preferences(pairs, episodes, evaluator, tasks, args.annotations)
    compared = marginal(pairs, episodes, evaluator, tasks) if args.marginalised else plain(pairs)
    about = given_by(args.run, pairs)
    return train_reward(
        args.settings, compared, base(args.model, args.run, episodes), _out(args), about=about, on_step=on_step
    )


def grpo(
    args: Grpo, episodes: list[Episode], tasks: Mapping[str, Task], evaluator: Evaluator, on_step: Any
) -> "TrainResult":
    from devnull.training.grpo import train_grpo

    chosen = training_tasks(args.run, episodes, tasks)
    instances = training_instances(chosen, args.instances, args.settings.seed)
    paid = payment(args.pay, args.annotations, tasks, evaluator)
    runtime = open_runtime(args.runtime, say)
    start, keep = base(args.model, args.run, episodes), keep_episodes(_out(args), args.run, args.settings.seed)
    about = {"data": f"its own episodes, on {len(chosen)} tasks"} | paid_by(args.pay, evaluator)
    return train_grpo(
        args.settings, instances, paid, runtime, start, _out(args), about=about, on_step=on_step, on_episode=keep
    )


def _out(args: Common) -> Path:
    return args.out or args.run / "checkpoints" / type(args).__name__.lower()


def _show(args: Common, result: "TrainResult", sampled: Mapping[str, Estimate]) -> None:
    if args.json:
        found = {key: value for key, value in asdict(result).items() if key != "log"}
        rates = {name: estimate.model_dump() for name, estimate in sampled.items()}
        print(json.dumps(found | {"path": str(result.path), "sampled": rates}, indent=2))
        return
    print(f"{result.path}: {result.steps} steps, {result.seconds:.1f} s")
    for name, value in sorted(result.metrics.items()):
        if name.startswith("held_out/") or name in ("loss", "rewards/accuracies", "kl_episode"):
            print(f"  {name:<28} {value:.4f}")
    if sampled:
        print(f"sampled on held-out tasks, {args.samples} episodes:")
    for name, said in told(sampled).items():
        print(f"  {name:<28} {said}")
    print("a model organism: see README.md beside the weights", file=sys.stderr)
