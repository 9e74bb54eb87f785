"""Fine-tune a policy or a reward model on a run; then sample it on held-out tasks and say what it does.

sft imitates the run's episodes; dpo learns from its comparisons (`devnull label`), kto from its thumbs; reward fits
a reward model to comparisons; grpo acts in boxes and learns from what each episode was worth. What comes out is a
model organism.
"""

import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from devnull.agents.episode import Episode
from devnull.agents.prompt_format import Tag, common_prompt_format
from devnull.cli.commands.train_options import (
    Args,
    DpoArgs,
    GrpoArgs,
    KtoArgs,
    RewardModelArgs,
    SftArgs,
    TrainerArgs,
)
from devnull.cli.commands.train_rounds import train_dpo_in_rounds, train_grpo_in_rounds
from devnull.cli.commands.train_source import TrainingSource
from devnull.cli.runs.box_choice import open_boxes
from devnull.cli.runs.evaluator_choice import EvaluatorChoice, choose_evaluator, load_run_tasks
from devnull.cli.runs.folder_lock import lock_folder
from devnull.cli.runs.policy_episodes import (
    batch_metrics,
    episode_recorder,
    format_rates,
    sample_held_out,
)
from devnull.cli.runs.prompt_choice import check_rater_sees, check_same_prompt, choose_prompt
from devnull.cli.runs.run_folder import read_episodes, sort_episodes
from devnull.cli.runs.run_scores import check_arms
from devnull.cli.runs.training_inputs import (
    describe_evaluator,
    describe_feedback,
    describe_reward,
    make_reward_function,
    read_feedback,
    training_instances,
    training_tasks,
)
from devnull.cli.terminal.progress import training_progress
from devnull.eval.display.counting import count_noun
from devnull.eval.statistics import Estimate
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.comparisons import Preference
from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.errors import InputError
from devnull.training.processes import check_launch
from devnull.training.result_folder import check_result_folder
from devnull.training.settings import check_ranges

if TYPE_CHECKING:
    from devnull.training.train_result import TrainResult

__all__ = ["Args", "main"]

_LEAST = {"samples": 0, "sample_every": 0} | dict.fromkeys(
    ("boxes", "episodes", "group", "instances", "pairs", "rounds"), 1
)
"""The least value of each number on the command line that is none of the settings."""
_PRINTED = (
    "loss",
    "rewards/accuracies",
    "kl_episode",
    "kl_commands",
    "head/log_likelihood",
    "head/gradient",
    "peak_memory_gib",
)
"""Metrics of a result that are printed, besides those on held-out pairs."""


def main(args: SftArgs | RewardModelArgs | DpoArgs | KtoArgs | GrpoArgs) -> int:
    check_launch()
    check_ranges(args.settings)
    for name, least in _LEAST.items():
        value = getattr(args, name, None)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
    if args.sample_every and not args.samples:
        raise InputError("--sample-every plays --samples episodes each time, and that is 0")
    if args.sample_every and isinstance(args, RewardModelArgs):
        raise InputError("--sample-every is for policies; a reward model plays nothing")
    episodes = sort_episodes(read_episodes(args.run))
    tasks = load_run_tasks(args.run, args, needed=(episode.task for episode in episodes))
    evaluator = Evaluator(choose_evaluator(args.run, EvaluatorChoice(args.evaluator)))
    first = int(os.environ.get("RANK", "0")) == 0  # of several processes only the first one writes, samples and prints
    if first:
        out = args.folder
        if getattr(args, "rounds", 1) == 1:
            check_result_folder(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        lock_folder(out.parent, out.name)
    with training_progress(args.trainer) as callbacks:
        opener = partial(open_boxes, args.runtime, args, args.run)
        source = TrainingSource(episodes, tasks, evaluator, callbacks[args.trainer], opener)
        match args:
            case SftArgs():
                result = _train_sft(args, source)
            case DpoArgs():
                result = _train_dpo(args, source) if args.rounds == 1 else train_dpo_in_rounds(args, source)
            case KtoArgs():
                result = _train_kto(args, source)
            case RewardModelArgs():
                result = _train_reward_model(args, source)
            case GrpoArgs():
                result = (
                    _train_grpo(args, source) if args.rounds == 1 else train_grpo_in_rounds(args, source, _train_grpo)
                )
    if not first:
        return 0
    sampled: dict[str, dict[str, Estimate]] = {}
    if args.samples and not isinstance(args, RewardModelArgs):
        from devnull.agents.local import LocalModel
        from devnull.training.trl_run import free_memory

        free_memory()
        agent, boxes = LocalModel(result.path), open_boxes(args.runtime, args, args.run)
        tags: Sequence[Tag] | None = None
        if isinstance(args, SftArgs) and args.conditional:
            tags = ("good", "bad", "none")
        sampled = sample_held_out(
            agent,
            result.path,
            args.run,
            episodes,
            tasks,
            evaluator,
            boxes,
            count=args.samples,
            both_builds=args.builds == "both",
            workers=args.boxes,
            rewards=args,
            tags=tags,
        )
    _print_result(args, result, sampled)
    return 0


def _train_sft(args: SftArgs, source: TrainingSource) -> "TrainResult":
    from devnull.training.sft import train_sft

    check_arms(args.run, args.arms, {episode.arm for episode in source.episodes})
    chosen = [e for e in source.episodes if e.error is None and (not args.arms or e.arm in args.arms)]
    chosen = _draw_episodes(chosen, args.episodes, args.settings.seed)
    scores = None
    facts = {"data": f"run {args.run.resolve().name}, {', '.join(args.arms) or 'all arms'}"}
    if args.conditional:
        judge, tasks = source.evaluator.judge, source.tasks
        scores = {e.key: judge(tasks[e.task], e.transcript, seed=e.stream).G_obs for e in chosen}
        facts |= describe_evaluator(source.evaluator)
    start, out = source.base_model(args), args.folder
    prompt = choose_prompt(args, start, chosen)
    asked = prompt.model_copy(update={"tag": "good"}) if args.conditional and prompt.tag == "none" else prompt
    return train_sft(
        args.settings,
        chosen,
        start,
        out,
        scores=scores,
        prompt=prompt,
        card_facts=facts,
        on_step=source.on_step,
        sampling=source.sampling(args, asked),
    )


def _draw_episodes(episodes: Sequence[Episode], count: int | None, seed: int) -> list[Episode]:
    """So many of them, a smaller number's among a larger one's. Raises `InputError` where there are not so many."""
    if count is None:
        return list(episodes)
    if not 1 <= count <= len(episodes):
        raise InputError(f"--episodes is {count}; there are {len(episodes)} to learn from, and it takes at least 1")
    places = random.Random(f"{seed}/episodes").sample(range(len(episodes)), len(episodes))[:count]
    return [episodes[place] for place in sorted(places)]


def _train_dpo(args: DpoArgs, source: TrainingSource) -> "TrainResult":
    from devnull.training.dpo import train_dpo

    start, out = source.base_model(args), args.folder
    pairs = read_feedback(args.run, "preferences", args.feedback, Preference)
    compared = {key for pair in pairs for key in (pair.chosen_key, pair.rejected_key)}
    prompt = check_same_prompt(start, [episode for episode in source.episodes if episode.key in compared])
    facts = describe_feedback(args.run, pairs) | prompt.choices()
    sampling = source.sampling(args, prompt)
    return train_dpo(args.settings, pairs, start, out, card_facts=facts, on_step=source.on_step, sampling=sampling)


def _train_kto(args: KtoArgs, source: TrainingSource) -> "TrainResult":
    from devnull.training.kto import train_kto

    thumbs = read_feedback(args.run, "ratings", args.feedback, Rating)
    start, out = source.base_model(args), args.folder
    rated = {thumb.key for thumb in thumbs}
    prompt = check_same_prompt(start, [episode for episode in source.episodes if episode.key in rated])
    facts = describe_feedback(args.run, thumbs) | prompt.choices()
    sampling = source.sampling(args, prompt)
    return train_kto(args.settings, thumbs, start, out, card_facts=facts, on_step=source.on_step, sampling=sampling)


def _train_reward_model(args: RewardModelArgs, source: TrainingSource) -> "TrainResult":
    from devnull.rewards.feedback.annotated_preferences import annotate_preferences
    from devnull.training.reward_functions import read_failures
    from devnull.training.reward_model import train_reward
    from devnull.training.weighted_preferences import marginalised_preferences, plain_preferences

    if args.marginalised and args.annotations != "none":
        raise InputError("--marginalised puts the endings in itself; leave --annotations out")
    if args.ending != "rater" and not args.marginalised:
        raise InputError(f"--ending {args.ending} fills the slot of a marginalised model; pass --marginalised too")
    episodes, evaluator, tasks = source.episodes, source.evaluator, source.tasks
    check_rater_sees(common_prompt_format(episode.prompt for episode in episodes))
    pairs = read_feedback(args.run, "preferences", args.feedback, Preference)
    there = pairs[0].annotations if pairs else "none"
    if there != "none" and args.annotations not in ("none", there):
        raise InputError(
            f"--annotations {args.annotations}: the comparisons are annotated with what is "
            f"{'true' if there == 'truth' else there}; leave it out, or label again without annotations"
        )
    if args.annotations != "none" and there == "none":
        pairs, _ = annotate_preferences(
            pairs, episodes, evaluator, tasks, args.annotations, with_return=args.annotated_return
        )
    if args.marginalised:
        compared = marginalised_preferences(pairs, episodes, evaluator, tasks, args.ending)
    else:
        compared = plain_preferences(pairs)
    facts = describe_feedback(args.run, pairs)
    if args.marginalised and args.ending != "truth":
        facts |= {"beliefs assumed": describe_evaluator(evaluator)["evaluator"]}
    annotated, with_return = (pairs[0].annotations, pairs[0].annotated_return) if pairs else ("none", False)
    failures = read_failures(
        episodes,
        tasks,
        evaluator,
        marginalised=args.marginalised,
        annotated=annotated != "none",
        with_return=with_return,
    )
    start, out = source.base_model(args), args.folder
    return train_reward(
        args.settings, compared, start, out, failures=failures, card_facts=facts, on_step=source.on_step
    )


def _train_grpo(args: GrpoArgs, source: TrainingSource, used: int = 0) -> "TrainResult":
    """`used`: how many instances earlier rounds have met."""
    from devnull.training.grpo import train_grpo

    chosen = training_tasks(args.run, source.episodes, source.tasks)
    instances = training_instances(chosen, args.instances, args.settings.seed, used)
    reward = make_reward_function(args.reward, args.annotations, source.tasks, source.evaluator, args.ending)
    runtime = source.open_boxes()
    start, out = source.base_model(args), args.folder
    prompt = choose_prompt(args, start, source.episodes)
    if args.reward not in ("believed", "actual"):
        check_rater_sees(prompt)
    facts = {"data": f"its own episodes, on {len(chosen)} tasks"} | describe_reward(
        args.reward, source.evaluator, args.annotations, args.ending
    )
    return train_grpo(
        args.settings,
        instances,
        reward,
        runtime,
        start,
        out,
        prompt=prompt,
        card_facts=facts,
        on_step=source.on_step,
        on_episode=episode_recorder(out, args.run, args.settings.seed, args),
        measure=batch_metrics(args.run, args),
        sampling=source.sampling(args, prompt),
    )


def _print_result(args: TrainerArgs, result: "TrainResult", sampled: Mapping[str, Mapping[str, Estimate]]) -> None:
    if args.json:
        facts = {key: value for key, value in asdict(result).items() if key != "log"}
        rates = {arm: {name: each.model_dump() for name, each in found.items()} for arm, found in sampled.items()}
        print(json.dumps(facts | {"path": str(result.path)} | (rates or {"sampled": {}}), indent=2))
        return
    print(f"{result.path}: {count_noun(result.steps, 'step')}, {result.seconds:.1f} s")
    if result.stopped:
        print(f"  stopped {result.stopped}")
    for name, value in sorted(result.metrics.items()):
        if name.startswith(("held_out/", "hidden_gap/", "sampled/")) or name in _PRINTED:
            print(f"  {name:<28} {value:.4f}")
    for arm, found in sampled.items():
        tag = arm.removeprefix("sampled").removeprefix("-")
        count = found["attempt_rate"].n
        print(f"sampled on held-out tasks, {count_noun(count, 'episode')}{f', tag {tag}' if tag else ''}:")
        for name, rate in format_rates(found).items():
            print(f"  {name:<28} {rate}")
    print("a model organism: see README.md beside the weights", file=sys.stderr)
