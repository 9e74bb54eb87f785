"""Online reinforcement learning (GRPO) in real boxes: TRL's loop, our rollout engine inside its `rollout_func`.

TRL's own `environment_factory` runs the commands of a batch one after the other, so that 64 installs of 20 s
wait 21 minutes a turn; the engine keeps all boxes busy at once.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from devnull.agents.episode import Episode
from devnull.agents.local import LocalModel
from devnull.agents.protocol import messages
from devnull.agents.rollout import Engine
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance
from devnull.training.models import Policy, save
from devnull.training.settings import GRPOSettings as GRPOSettings
from devnull.training.settings import check_ranges
from devnull.training.token_agent import Generate, History, TokenAgent
from devnull.training.trl_run import (
    NOTHING,
    About,
    OnStep,
    TrainResult,
    Watch,
    context_limit,
    fit,
    prepare,
    trl_arguments,
)

_LEARNING_RATE = {"full": 1.2e-4, "lora": 1e-4, "qlora": 1e-4}

RewardFunction = Callable[[Sequence[Episode]], Sequence[float | None]]
"""What the policy is paid for each episode, `None` where nobody knows: see `devnull.training.reward_functions`."""


@dataclass
class Rollouts:
    """TRL's `rollout_func`: plays the prompts' instances in boxes and hands back tokens and pay."""

    settings: GRPOSettings
    policy: Policy
    instances: Sequence[Instance]
    reward: RewardFunction
    runtime: Runtime
    reference: Any
    """Frozen copy of the first policy; `None`: the policy with its adapters off."""
    on_episode: Callable[[Episode], None] | None
    calls: int = 0
    batch_seconds: float = 0.0
    """Of the last batch's last generation."""

    def __call__(self, prompts: Sequence[Sequence[Any]], trainer: Any) -> dict[str, Any]:
        begin = perf_counter()
        self.calls += 1
        room = (self.settings.max_length or self.policy.context) - self.settings.max_new_tokens
        agent = TokenAgent(self.generator(trainer), self.policy.tokenizer, room)
        episodes: list[Episode | None] = [None] * len(prompts)
        failures = 0
        engine = Engine(
            agent=agent,
            runtime=self.runtime,
            arm="grpo",
            workers=self.settings.workers,
            max_turns=self.settings.max_turns,
            batch_seconds=self.batch_seconds,
        )
        with closing(engine.play(self.samples(prompts, trainer))) as played:
            for position, episode in played:
                if self.on_episode is not None:
                    self.on_episode(episode)
                if episode.error is None:
                    episodes[position] = episode
                else:
                    failures += 1
        self.batch_seconds = engine.batch_seconds
        histories = [
            agent.trained((position, episode.attempt)) if episode else agent.unplayed(prompts[position])
            for position, episode in enumerate(episodes)
        ]
        pay = self.pay(episodes)
        seconds = perf_counter() - begin
        logged = self.measure(episodes, pay) | {
            "infrastructure_failures": float(failures),
            "unpaid": float(pay.count(None)),
            "time/rollout": seconds,
            "time/generation": agent.seconds,
            "time/boxes": seconds - agent.seconds,
            "tokens_per_second": agent.drawn / max(agent.seconds, 1e-9),
        }
        every = self.settings.kl_every
        if every and self.calls % every == 0:
            logged["kl_episode"] = self.divergence(trainer, histories)  # "kl" is TRL's own, by token
        for name, value in logged.items():
            trainer._log_metric(name, value)
        return {
            "prompt_ids": [history.prompt for history in histories],
            "completion_ids": [history.completion for history in histories],
            "env_mask": [history.mask for history in histories],
            # Only vLLM's, whose numbers differ from the trainer's: TRL weighs each token by how much.
            "logprobs": [history.logprobs for history in histories] if self.settings.vllm else None,
            "pay": pay,
        }

    def samples(self, prompts: Sequence[Sequence[Any]], trainer: Any) -> list[Instance]:
        """The instance of each prompt, as a sample of its own: what is drawn depends on it and on the step, not on
        which boxes answered first, and a resumed run draws what an uninterrupted one does."""
        process = trainer.accelerator
        first = (trainer.state.global_step * process.num_processes + process.process_index) * len(prompts)
        instances = (self.instances[prompt[-1]["instance"]] for prompt in prompts)
        return [each.model_copy(update={"sample": number}) for number, each in enumerate(instances, first)]

    def generator(self, trainer: Any) -> Generate:
        """vLLM, or the model that learns, each episode from its own seed."""
        if self.settings.vllm:
            return lambda prompts, seeds: trainer._generate_single_turn(prompts, None, {}, 1)
        model = LocalModel.of(
            trainer.accelerator.unwrap_model(trainer.model),
            self.policy.tokenizer,
            name="policy",
            temperature=self.settings.temperature,
            max_new_tokens=self.settings.max_new_tokens,
        )
        return lambda prompts, seeds: (model.decode(prompts, seeds), None)

    def pay(self, episodes: Sequence[Episode | None]) -> list[float | None]:
        """Reward less the cost of invalid messages; `None`, which TRL leaves out, where world or judge broke."""
        played = [episode for episode in episodes if episode is not None]
        rewards = iter(self.reward(played))
        paid: list[float | None] = []
        for episode in episodes:
            reward = None if episode is None else next(rewards)
            if episode is not None and reward is not None:
                reward -= self.settings.invalid_cost * sum(not turn.valid for turn in episode.transcript.turns)
            paid.append(reward)
        return paid

    def measure(self, episodes: Sequence[Episode | None], pay: Sequence[float | None]) -> dict[str, float]:
        """What the policy did, by the verifier's word; rates that are 0/0 are left out."""
        played = [episode for episode in episodes if episode is not None and episode.outcome is not None]
        turns = [turn for episode in played for turn in episode.transcript.turns]
        stages = [stage for e in played if e.outcome is not None for stage in e.outcome.stages.values()]
        broken = [stage for stage in stages if stage.state == "broken"]
        shares: Mapping[str, Sequence[float]] = {
            "valid_action_share": [turn.valid for turn in turns],
            "attempt_rate": [stage.state != "not_attempted" for stage in stages],
            "hidden_failure_rate": [stage.hidden for stage in broken],
            "pay": [value for value in pay if value is not None],
        }
        return {name: fmean(values) for name, values in shares.items() if values}

    def divergence(self, trainer: Any, histories: Sequence[History]) -> float:
        """Mean over episodes of Σ log π/π_ref over the agent's own tokens, in nats: an unbiased estimate of the KL."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        with torch.no_grad():
            ours = log_probabilities(model, self.policy, histories)
            if self.reference is not None:
                theirs = log_probabilities(self.reference.to(model.device), self.policy, histories)
            else:
                with model.disable_adapter():
                    theirs = log_probabilities(model, self.policy, histories)
        return float((ours - theirs).mean())


def log_probabilities(model: Any, policy: Policy, histories: Sequence[History], batch: int = 4) -> torch.Tensor:
    """Sum over the agent's tokens of each episode, shape (episodes,). Only positions where it spoke get logits."""
    sums = []
    pad = policy.tokenizer.pad_token_id
    for first in range(0, len(histories), batch):
        some = histories[first : first + batch]
        rows = [torch.tensor(history.prompt + history.completion) for history in some]
        masks = [torch.tensor([0] * len(history.prompt) + history.mask) for history in some]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True).to(model.device)
        attention = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        before = mask[:, 1:].any(0).nonzero()[:, 0]
        output = model(input_ids=ids, attention_mask=attention.to(model.device), logits_to_keep=before)
        spoken = torch.log_softmax(output.logits.float(), -1).gather(-1, ids[:, before + 1, None])[..., 0]
        sums.append((spoken * mask[:, before + 1]).sum(1))
    return torch.cat(sums)


def train_grpo(
    settings: GRPOSettings,
    instances: Sequence[Instance],
    reward: RewardFunction,
    runtime: Runtime,
    model_path: str | Path,
    out: Path,
    *,
    about: About = NOTHING,
    on_step: OnStep | None = None,
    on_episode: Callable[[Episode], None] | None = None,
) -> TrainResult:
    """Trains in `runtime`'s boxes on `instances`, drawn in turn; `out` then holds the model.

    `on_episode` is called with every episode played; `about` goes into the model card. Raises `InputError` for a
    batch that holds no whole group.
    """
    _check(settings, instances)
    policy = prepare(settings, model_path)
    longest = context_limit(settings, policy)
    if longest <= settings.max_new_tokens:
        raise InputError(f"max_new_tokens={settings.max_new_tokens} leaves no room in {longest} tokens for a prompt")
    if policy.merged and policy.adaptation == "full" and settings.beta:
        # TRL would read the reference again from the adapter's folder: give it one that holds these weights.
        anchor = save(policy.model, policy.tokenizer, out.with_name(out.name + ".reference"))
        policy.model.config._name_or_path = str(anchor)
    rollouts = Rollouts(
        settings,
        policy,
        instances,
        reward,
        runtime,
        copy.deepcopy(policy.model).eval() if policy.adaptation == "full" and settings.kl_every else None,
        on_episode,
    )
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=_paid,
        args=configuration(settings, policy, out),
        train_dataset=_prompt_dataset(instances),
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings.lora_rank),
        rollout_func=rollouts,
        callbacks=[Watch(on_step)],
    )
    facts = {**about, "instances": len(instances), "runtime": runtime.name, "baseline": settings.baseline}
    return fit(trainer, settings, policy, out, kind="grpo", facts=facts)


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
    if settings.vllm and not torch.cuda.is_available():
        raise InputError("vllm needs a GPU; leave it off to generate with transformers")


def configuration(settings: GRPOSettings, policy: Policy, out: Path) -> GRPOConfig:
    rloo = settings.baseline == "rloo"
    return GRPOConfig(
        **trl_arguments(settings, policy, out, _LEARNING_RATE[policy.adaptation]),
        num_generations=settings.group,
        num_iterations=settings.iterations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        scale_rewards="none" if rloo else "batch",
        loss_type="dr_grpo" if rloo else "dapo",
        lr_scheduler_type="constant",
        use_vllm=settings.vllm,
        vllm_mode="colocate",
    )


def _prompt_dataset(instances: Sequence[Instance]) -> Dataset:
    """A row an instance. No column reaches a `rollout_func`, so the message itself carries which one it is."""
    rows = []
    for number, instance in enumerate(instances):
        system, user = messages(instance, ())
        rows.append({"prompt": [{**system, "instance": -1}, {**user, "instance": number}]})
    return Dataset.from_list(rows)


def _paid(completions: Sequence[Any], pay: Sequence[float | None], **_: Any) -> list[float | None]:
    """TRL's reward function: the pay that came with the rollout."""
    if all(value is None for value in pay):
        raise InfrastructureError(f"none of {len(completions)} episodes could be played and judged: see their errors")
    return list(pay)
