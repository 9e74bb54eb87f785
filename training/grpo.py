r"""Online reinforcement learning (GRPO) in real boxes: TRL's trainer with the rollouts of `training.grpo_rollout`.

How it differs from the textbook's (Shao et al. 2024):

- An episode is a whole conversation with a terminal, and has one reward, at its end. The loss covers the tokens that
  the agent generated; the terminal's are masked.
- A group is so many episodes of one instance (prompt and fault), each with a seed of its own.
- Advantages are reward less the group's mean, over the *batch's* standard deviation, not the group's; with
  `baseline="rloo"` they are not scaled, which is REINFORCE with a leave-one-out baseline up to a constant factor.
- Every token of the batch weighs the same (TRL's `dapo` loss; `dr_grpo` with `rloo`): no mean within each episode,
  which would make a token of a long one count less.
- No KL term in the loss unless `beta` is set; the divergence is measured all the same (`kl_episode`). Constant
  learning rate.
- The reward function's value less `invalid_cost` for each message without an action.
- An episode that an infrastructure failure ended, or that could not be judged, has no reward: it is left out of the
  group's mean and its advantage is 0.

What is logged, besides TRL's own metrics (https://huggingface.co/docs/trl/grpo_trainer#logged-metrics), per step over
its batch of episodes:

| metric | is |
| --- | --- |
| `reward`, `reward_std`, `pay`, `rewards/paid/mean` | mean and spread of the rewards, `invalid_cost` taken off |
| `unpaid` | episodes without a reward: never brought to an end, or not to be judged |
| `infrastructure_failures` | episodes that an infrastructure failure ended; most are played again |
| `kl_episode` | KL(π \|\| π_first) of whole episodes in nats, every `kl_every` batches; TRL's `kl` is by token |
| `kl_commands`, `kl_report` | its two parts: commands and the decision to end; the words of the final report |
| `share/equal_groups` | share of the groups whose rewards are all equal: 1 where there is nothing to learn |
| `time/rollout` | seconds for playing and judging the batch |
| `time/generation` | of which in the model |
| `time/boxes` | the rest, with nothing to generate: boxes, verifier and reward function |
| `tokens_per_second` | tokens generated / `time/generation` |

With vLLM, TRL logs how far its probabilities are from the trainer's (`sampling/sampling_logp_difference/mean`) and the
weights that make up for it (`sampling/importance_sampling_ratio/min`, `mean`, `max`): of tokens or of whole episodes,
as `vllm_importance_sampling` says, which is a row of the model card.

Besides, what `measure` says of the batch. The commands give the metrics of `devnull eval` that a model card shows
(`attempt_rate`, `hidden_failure_rate`, `valid_action_share` and so on), by eval's own code and the run's own evaluator,
whoever gives the reward: `devnull eval OUT/episodes` gives the same numbers for the same episodes.

The names `pay`, `paid` and `unpaid` are those of runs on disk.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from devnull.agents.chat_format import build_messages
from devnull.agents.chat_layout import chat_layout
from devnull.agents.episode import Episode
from devnull.agents.prompt_format import PLAIN_PROMPT, PromptFormat
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.extras import require
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance
from devnull.training.data import tokenize_prompt
from devnull.training.equal_groups import StopWhenEqual
from devnull.training.grpo_rollout import MeasureEpisodes, RolloutFunction
from devnull.training.kl_limit import KEPT_FILE, KLLimit
from devnull.training.memory import StepSize
from devnull.training.model_card import NO_FACTS, CardFacts
from devnull.training.models import LoadedPolicy, save_model
from devnull.training.reward_functions import RewardFunction
from devnull.training.sampling import Sampling
from devnull.training.settings import GRPOSettings, check_ranges
from devnull.training.train_result import TrainResult, partial_folder
from devnull.training.trl_run import (
    ProgressCallback,
    StepCallback,
    context_limit,
    load_for_training,
    run_trainer,
    trl_arguments,
)


def train_grpo(
    settings: GRPOSettings,
    instances: Sequence[Instance],
    reward: RewardFunction,
    runtime: Runtime,
    model_path: str | Path,
    out: Path,
    *,
    prompt: PromptFormat = PLAIN_PROMPT,
    card_facts: CardFacts = NO_FACTS,
    on_step: StepCallback | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    measure: MeasureEpisodes | None = None,
    sampling: Sampling | None = None,
) -> TrainResult:
    """Trains a policy on the episodes that it plays in `runtime`'s boxes; the folder `out` then holds the model.

    Args:
        instances: What to play, in TRL's shuffled order, `settings.group` episodes each.
        reward: The reward of each episode (`devnull.training.reward_functions`).
        model_path: The policy to start from.
        prompt: How the policy is prompted.
        card_facts: Further rows of the model card.
        on_step: Called after each optimiser step.
        on_episode: Called with every episode played, also with those that an infrastructure failure ended.
        measure: Metrics of each batch's finished episodes, to be logged beside the rewards.
        sampling: What to sample the policy on while it learns.

    Raises:
        InputError: No instance, a batch that is no multiple of the group, or another setting that cannot be.
        InfrastructureError: No episode of a batch could be played and judged.

    Example:
        >>> reward = believed_return_reward(Evaluator(), tasks)
        >>> train_grpo(GRPOSettings(), instances, reward, runtime, "checkpoints/sft", Path("checkpoints/grpo"))
    """
    _check(settings, instances)
    policy = load_for_training(settings, model_path)
    longest = _context(settings, policy, instances, prompt)
    if (policy.merged or settings.revision) and policy.adaptation == "full" and settings.beta:
        # TRL would read the reference again from the adapter's folder: give it one that holds these weights.
        anchor = save_model(policy.model, policy.tokenizer, partial_folder(out) / "reference")
        policy.model.config._name_or_path = str(anchor)
    limit = None if settings.kl_limit is None else KLLimit(settings.kl_limit)
    equal = StopWhenEqual(settings.max_equal_batches)
    rollouts = RolloutFunction(
        settings,
        policy,
        instances,
        reward,
        runtime,
        policy.frozen_copy() if settings.kl_every or settings.kl_limit is not None else None,
        on_episode,
        measure,
        prompt,
        limit=limit,
        equal=equal,
        context=longest,
    )
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=_episode_reward,
        args=grpo_config(settings, policy, out, longest),
        train_dataset=_prompt_dataset(instances, prompt),
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings),
        rollout_func=rollouts,
        callbacks=[ProgressCallback(on_step), equal, *([] if limit is None else [limit])],
    )
    facts = {**card_facts, "instances": len(instances), "runtime": runtime.name, "baseline": settings.baseline}
    if settings.vllm:
        facts["vllm importance sampling"] = settings.vllm_importance_sampling
    facts |= prompt.choices()
    prompt_ids = tokenize_prompt(policy.tokenizer, build_messages(instances[0], (), prompt=prompt))
    return run_trainer(
        trainer,
        settings,
        policy,
        out,
        kind="grpo",
        facts=facts,
        step=StepSize(settings.batch_size, len(prompt_ids) + settings.max_new_tokens, settings.max_new_tokens),
        measure=None if limit is None else limit.drift_of_kept,
        why_stopped=lambda: (limit.why_stopped() if limit is not None else "") or equal.why_stopped(),
        sampling=sampling,
        checkpoint_files=() if limit is None else (KEPT_FILE,),
    )


def _check(settings: GRPOSettings, instances: Sequence[Instance]) -> None:
    if not instances:
        raise InputError("no instance to train on; name at least one task")
    check_ranges(settings)
    if settings.batch_size % settings.group:
        raise InputError(f"batch_size {settings.batch_size} is not a multiple of group {settings.group}")
    if settings.checkpoint_steps % settings.iterations:
        raise InputError(
            f"checkpoint_steps {settings.checkpoint_steps} is not a multiple of iterations {settings.iterations}: "
            "a run would resume in the middle of a batch"
        )
    if settings.vllm:
        _check_vllm(settings)


def _check_vllm(settings: GRPOSettings) -> None:
    if settings.adaptation == "qlora":
        raise InputError("vllm takes no adapters on a base in 4 bits; leave vllm off, or train with adaptation lora")
    if not torch.cuda.is_available():
        raise InputError("vllm needs a GPU; leave it off to generate with transformers")
    require("vllm", "vllm", "the setting vllm")


def _context(settings: GRPOSettings, policy: LoadedPolicy, instances: Sequence[Instance], prompt: PromptFormat) -> int:
    """Where an episode ends, in tokens. Raises `InputError` where there is no room for a prompt and one message."""
    longest = context_limit(settings, policy)
    if settings.vllm and settings.vllm_max_model_length is not None:
        longest = min(longest, settings.vllm_max_model_length)
    for instance in instances:
        length = len(tokenize_prompt(policy.tokenizer, build_messages(instance, (), prompt=prompt)))
        if length + settings.max_new_tokens >= longest:
            raise InputError(
                f"an episode of {instance.task.name} cannot begin: its prompt of {length} tokens leaves no room in "
                f"{longest} for a message of max_new_tokens={settings.max_new_tokens}; lower it, or take a model with "
                f"a longer context"
            )
    return longest


def grpo_config(settings: GRPOSettings, policy: LoadedPolicy, out: Path, context: int) -> GRPOConfig:
    """Our settings in TRL's words; `context`: where an episode ends, in tokens."""
    rloo, correction = settings.baseline == "rloo", settings.vllm_importance_sampling
    return GRPOConfig(
        **trl_arguments(settings, policy, out),
        num_generations=settings.group,
        num_iterations=settings.iterations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        scale_rewards="none" if rloo else "batch",
        loss_type="dr_grpo" if rloo else "dapo",
        use_vllm=settings.vllm,
        vllm_mode="colocate",
        vllm_max_model_length=context,
        vllm_gpu_memory_utilization=settings.vllm_gpu_memory_utilization,
        vllm_importance_sampling_correction=correction != "none",
        **({} if correction == "none" else {"vllm_importance_sampling_mode": correction}),
        # What ends a turn is the template's to say: vLLM alone heeds what the model's folder names.
        generation_kwargs={"stop_token_ids": [chat_layout(policy.tokenizer).end_id]} if settings.vllm else None,
    )


def _prompt_dataset(instances: Sequence[Instance], prompt: PromptFormat) -> Dataset:
    """A row an instance. No column reaches a `rollout_func`, so the message itself carries which one it is."""
    rows = []
    for number, instance in enumerate(instances):
        system, user = build_messages(instance, (), prompt=prompt)
        rows.append({"prompt": [{**system, "instance": -1}, {**user, "instance": number}]})
    return Dataset.from_list(rows)


def _episode_reward(completions: Sequence[Any], episode_reward: Sequence[float | None], **_: Any) -> list[float | None]:
    """TRL's reward function: the rewards that came with the rollout."""
    if all(value is None for value in episode_reward):
        raise InfrastructureError(f"none of {len(completions)} episodes could be played and judged: see their errors")
    return list(episode_reward)


_episode_reward.__name__ = "paid"  # TRL logs it under this name: `rewards/paid/mean`, as in the runs on disk
