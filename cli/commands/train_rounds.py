"""Training in rounds: DPO on comparisons of the policy's own episodes, GRPO with a reward model that is fitted anew."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devnull.agents.episode import Episode
from devnull.cli.commands.train_options import DpoArgs, GrpoArgs
from devnull.cli.commands.train_source import TrainingSource
from devnull.cli.runs.json_lines import read_lines
from devnull.cli.runs.policy_episodes import open_policy_run
from devnull.cli.runs.prompt_choice import PromptFlags, choose_prompt
from devnull.cli.runs.reward_refit import FittedReward, compare_once
from devnull.cli.runs.rollouts import roll_out_missing
from devnull.cli.runs.run_folder import read_episodes, sort_episodes
from devnull.cli.runs.training_inputs import describe_evaluator, read_feedback, training_instances, training_tasks
from devnull.cli.terminal.progress import print_progress
from devnull.rewards.feedback.comparisons import Preference, make_preferences
from devnull.sandbox.builds import stratify_builds
from devnull.sandbox.errors import InputError

if TYPE_CHECKING:
    from devnull.training.train_result import TrainResult

TrainGrpo = Callable[[GrpoArgs, TrainingSource, int], "TrainResult"]
"""GRPO by these options, from the run, where so many seeds of its instances were used up by earlier rounds."""


def train_dpo_in_rounds(args: DpoArgs, source: TrainingSource) -> "TrainResult":
    """Each round compares episodes of the policy that the round before trained; its episodes lie in OUT/rollouts."""
    from devnull.training.iterated_dpo import iterate_dpo
    from devnull.training.trl_run import CHANGEABLE_ON_RESUME, free_memory

    if args.sample_every:
        raise InputError("--rounds above 1: each round's episodes are there to be measured; leave --sample-every out")
    start, out = source.base_model(args), args.folder
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--rounds above 1 plays and trains in one process; start it without accelerate launch")
    from devnull.agents.local import LocalModel

    chosen = training_tasks(args.run, source.episodes, source.tasks)
    prompt = choose_prompt(PromptFlags(), start, source.episodes)
    config: dict[str, Any] = {name: getattr(args, name) for name in ("model", "episodes", "group", "pairs")}
    config["stratify_builds"] = args.stratify_builds
    changeable = (*CHANGEABLE_ON_RESUME, "seed")
    config |= {name: value for name, value in asdict(args.settings).items() if name not in changeable}
    run = open_policy_run(out / "rollouts", args.run, args.settings.seed, args, **config)
    runtime = source.open_boxes()

    def play(policy: Path, number: int) -> list[Episode]:
        first = number * args.episodes
        instances = training_instances(chosen, args.episodes, args.settings.seed, first, group=args.group)
        if args.stratify_builds:
            instances = stratify_builds(instances, f"{args.settings.seed}/round {number}")
        free_memory()
        agent, arm = LocalModel(policy), f"round-{number}"
        roll_out_missing(run, arm, agent, instances, runtime, workers=args.boxes, prompt=prompt)
        return run.episodes(f"round-{number}")

    def label(episodes: Sequence[Episode], number: int) -> Iterator[Preference]:
        seed = args.settings.seed + number
        pairs = make_preferences(episodes, source.evaluator, source.tasks, seed, args.pairs)
        return read_lines(run.write_preferences(f"round-{number}", pairs), Preference)

    facts = {"data": f"{args.rounds} rounds of its own episodes"} | describe_evaluator(source.evaluator)
    facts |= prompt.choices()
    rounds = iterate_dpo(
        args.settings, args.rounds, play, label, Path(start), out, card_facts=facts, on_step=source.on_step
    )
    for number, each in enumerate(rounds, 1):
        print_progress(f"round {number}: the policy that acted was {each.drift:.2f} nats from the first")
    return rounds[-1].result


_ROUND_OPTIONS = ("instances", "pairs", "feedback", "system", "agent_sees", "tag", "ending")
"""What else decides what comes out of rounds."""


def train_grpo_in_rounds(args: GrpoArgs, source: TrainingSource, train_grpo: TrainGrpo) -> "TrainResult":
    """Before each further round the reward model is fitted anew, with the settings and of the kind that it had.

    Args:
        train_grpo: What one round does.
    """
    from devnull.training.reward_model import train_reward
    from devnull.training.reward_refresh import train_with_refresh
    from devnull.training.train_result import EPISODES_FOLDER
    from devnull.training.trl_run import CHANGEABLE_ON_RESUME

    if args.reward in ("believed", "actual"):
        raise InputError(f"--rounds fits a reward model anew, and --reward is {args.reward}; pass a model's folder")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--rounds above 1 plays and trains in one process; start it without accelerate launch")
    run_pairs = read_feedback(args.run, "preferences", args.feedback, Preference)
    fitted = FittedReward.read(Path(args.reward))
    out = args.folder
    changeable = (*CHANGEABLE_ON_RESUME, "seed")
    settings = {name: value for name, value in asdict(args.settings).items() if name not in changeable}
    config = {name: getattr(args, name) for name in ("model", "reward", "annotations", "evaluator", *_ROUND_OPTIONS)}
    run = open_policy_run(out, args.run, args.settings.seed, args, **config, **settings)

    def train_round(policy: Path, reward: Path, number: int, folder: Path) -> "TrainResult":
        each = replace(args, model=str(policy), reward=str(reward), out=folder)
        return train_grpo(each, source, (number - 1) * args.instances)

    def refit(number: int, folder: Path) -> "TrainResult":
        pairs, played = list(run_pairs), list(source.episodes)
        for each in range(1, number + 1):
            own = sort_episodes(read_episodes(out / f"round-{each}" / EPISODES_FOLDER))
            seed, file = args.settings.seed + each, run.preferences_path(f"round-{each}")
            pairs += compare_once(file, own, source.evaluator, source.tasks, seed, args.pairs)
            played += own
        compared = fitted.prepare(pairs, played, source.evaluator, source.tasks)
        facts = {"data": f"feedback on its policy's {number} last rounds"} | describe_evaluator(source.evaluator)
        return train_reward(fitted.settings, compared, fitted.base, folder, card_facts=facts, on_step=source.on_step)

    start = Path(source.base_model(args))
    return train_with_refresh(args.rounds, train_round, refit, start, Path(args.reward), out)[-1]
