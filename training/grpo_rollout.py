"""The rollouts of online training: the prompts' instances played in boxes, tokens and rewards handed back to TRL.

TRL's own `environment_factory` runs the commands of a batch one after the other, so that 64 installs of 20 s
wait 21 minutes a turn; our rollout engine keeps all boxes busy at once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter
from typing import Any

import torch

from devnull.agents.decoding_weights import decoding_weights
from devnull.agents.episode import Episode
from devnull.agents.local import LocalModel
from devnull.agents.prompt_format import PLAIN_PROMPT, PromptFormat
from devnull.agents.rollout import RolloutEngine
from devnull.agents.rollout_options import RolloutOptions
from devnull.sandbox.builds import stratify_builds
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance
from devnull.training.equal_groups import EQUAL, StopWhenEqual, share_of_equal_groups
from devnull.training.kl import log_ratios
from devnull.training.kl_limit import KLLimit
from devnull.training.models import LoadedPolicy
from devnull.training.reward_functions import BelievedReturnReward, RewardFunction
from devnull.training.settings import GRPOSettings
from devnull.training.token_agent import TokenAgent, TokenHistory

MeasureEpisodes = Callable[[Sequence[Episode]], Mapping[str, float]]
"""Metrics of a batch of finished episodes, by name, without those that are undefined."""


@dataclass
class RolloutFunction:
    """TRL's `rollout_func`: plays the prompts' instances in boxes, hands back tokens and rewards, logs what it saw.

    The metrics that it logs are listed in `devnull.training.grpo`.
    """

    settings: GRPOSettings
    policy: LoadedPolicy
    instances: Sequence[Instance]
    """Those that the `instance` of a prompt's last message counts into."""
    reward: RewardFunction
    runtime: Runtime
    reference: Any
    """Frozen copy of the first policy, for `kl_episode`; `None`: the policy with its adapters off."""
    on_episode: Callable[[Episode], None] | None
    """Called with every episode, also with those that an infrastructure failure ended."""
    measure: MeasureEpisodes | None = None
    """What else to log of each batch."""
    prompt: PromptFormat = PLAIN_PROMPT
    """How the policy is prompted."""
    context: int | None = None
    """Where an episode ends, in tokens; `None`: `settings.max_length`, or the model's context."""
    calls: int = 0
    """Batches played so far."""
    limit: KLLimit | None = None
    """Set where there is a `kl_limit`."""
    equal: StopWhenEqual | None = None
    """Counts the batches that teach nothing."""
    batch_seconds: float = 0.0
    """Duration of the last batch's last generation, by which the engine forms its next batches."""

    def __call__(self, prompts: Sequence[Sequence[Any]], trainer: Any) -> dict[str, Any]:
        """One batch, a row a prompt: `prompt_ids`, `completion_ids`, `env_mask` (1 on the agent's own tokens),
        `logprobs` (vLLM's) and `episode_reward`, which TRL passes on to its reward function."""
        begin = perf_counter()
        self.calls += 1
        context = self.context or self.settings.max_length or self.policy.context
        agent = self._agent(trainer, context - self.settings.max_new_tokens)
        episodes: list[Episode | None] = [None] * len(prompts)
        failures = 0
        engine = RolloutEngine(
            agent=agent,
            runtime=self.runtime,
            arm="grpo",
            options=RolloutOptions(
                workers=self.settings.workers or default_workers(),
                max_turns=self.settings.max_turns,
                prompt=self.prompt,
            ),
            batch_seconds=self.batch_seconds,
        )
        weights = nullcontext() if self.settings.vllm else decoding_weights(_model_of(trainer))
        with weights, closing(engine.play(self._instances_of(prompts, trainer))) as played:
            for position, episode in played:
                if self.on_episode is not None:
                    self.on_episode(episode)
                if episode.error is None:
                    episodes[position] = episode
                else:
                    failures += 1
        self.batch_seconds = engine.batch_seconds
        histories = [
            agent.finished_history((position, episode.attempt)) if episode else agent.empty_history(prompts[position])
            for position, episode in enumerate(episodes)
        ]
        if isinstance(self.reward, BelievedReturnReward):
            self.reward.step = trainer.state.global_step
        rewards = self.compute_rewards(episodes)
        seconds = perf_counter() - begin
        finished = [episode for episode in episodes if episode is not None]
        logged = (dict(self.measure(finished)) if self.measure is not None else {}) | {
            "infrastructure_failures": float(failures),
            "unpaid": float(rewards.count(None)),
            "time/rollout": seconds,
            "time/generation": engine.generation_seconds,
            "time/boxes": seconds - engine.generation_seconds,
            "tokens_per_second": agent.tokens_generated / max(engine.generation_seconds, 1e-9),
        }
        if any(thoughts := [bool(turn.reasoning) for episode in finished for turn in episode.transcript.turns]):
            logged["share/reasoned"] = fmean(thoughts)
        if isinstance(self.reward, BelievedReturnReward):
            logged |= self.reward.logged
        if self.equal is not None:
            share = share_of_equal_groups(rewards, self.settings.group)
            logged[EQUAL] = self.equal.record(share, trainer.accelerator)
        if paid := [reward for reward in rewards if reward is not None and not math.isnan(reward)]:
            logged["pay"] = fmean(paid)
        every = self.settings.kl_every
        if self.limit is not None or (every and self.calls % every == 0):
            drift = self._estimate_kl(trainer, histories)
            logged |= drift
            if self.limit is not None:
                self.limit.record(drift, _model_of(trainer))
        for name, value in logged.items():
            trainer._log_metric(name, value)
        return {
            "prompt_ids": [history.prompt for history in histories],
            "completion_ids": [history.completion for history in histories],
            "env_mask": [history.with_report(self.settings.train_report).mask for history in histories],
            # Only vLLM's, whose numbers differ from the trainer's: see `settings.vllm_importance_sampling`.
            "logprobs": [history.logprobs for history in histories] if self.settings.vllm else None,
            "episode_reward": rewards,
        }

    def _instances_of(self, prompts: Sequence[Sequence[Any]], trainer: Any) -> list[Instance]:
        """The instance of each prompt, as a sample of its own: the tokens drawn depend on it and on the step, not on
        which boxes answered first, and a resumed run draws those of an uninterrupted one."""
        process = trainer.accelerator
        first = (trainer.state.global_step * process.num_processes + process.process_index) * len(prompts)
        instances = [self.instances[prompt[-1]["instance"]] for prompt in prompts]
        if self.settings.stratify_builds:
            instances = stratify_builds(instances, f"{self.settings.seed}/{first}")
        return [each.model_copy(update={"sample": number}) for number, each in enumerate(instances, first)]

    def _agent(self, trainer: Any, room: int) -> TokenAgent:
        """vLLM, or the model that learns, sampling each episode from its own seed."""
        if self.settings.vllm:
            return TokenAgent(
                lambda prompts, seeds: trainer._generate_single_turn(prompts, None, {}, 1), self.policy.tokenizer, room
            )
        model = LocalModel.from_model(
            _model_of(trainer),
            self.policy.tokenizer,
            name="policy",
            temperature=self.settings.temperature,
            max_new_tokens=self.settings.max_new_tokens,
        )
        return TokenAgent.of_model(model, room)

    def compute_rewards(self, episodes: Sequence[Episode | None]) -> list[float | None]:
        """The reward function's value less `invalid_cost` for each invalid message, for each episode.

        `None`, which TRL leaves out, for an episode that could not be played (`None`) or not be judged; NaN, which it
        leaves out as well, for one that a detector screened out.
        """
        played = [episode for episode in episodes if episode is not None]
        values = iter(self.reward(played))
        rewards: list[float | None] = []
        for episode in episodes:
            reward = None if episode is None else next(values)
            if episode is not None and reward is not None:
                reward -= self.settings.invalid_cost * sum(not turn.valid for turn in episode.transcript.turns)
            rewards.append(reward)
        return rewards

    def _estimate_kl(self, trainer: Any, histories: Sequence[TokenHistory]) -> dict[str, float]:
        """Means over all processes' episodes: estimates of KL(π || π_ref) of whole episodes in nats, and of what of it
        lies in the commands and in the report's words."""
        ratios = log_ratios(_model_of(trainer), self.reference, self.policy, histories)
        commands, words = trainer.accelerator.reduce(ratios.mean(0), "mean").tolist()
        return {"kl_episode": commands + words, "kl_commands": commands, "kl_report": words}  # "kl" is TRL's, by token


def _model_of(trainer: Any) -> Any:
    """The model that learns, without what several processes wrap it in."""
    return trainer.accelerator.unwrap_model(trainer.model)


def default_workers() -> int:
    """Boxes at once: as many as a GPU decodes for in the time of one, or as a CPU can keep up with."""
    return 64 if torch.cuda.is_available() else 16
