"""A policy sampled on the way: every so many steps it plays held-out instances, and its rates go into the log.

From one run's log the metrics can so be drawn against the divergence from the first policy. What is learnt does not
depend on it: every episode draws from a seed of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from transformers import Trainer, TrainerCallback

from devnull.agents.decoding_weights import decoding_weights
from devnull.agents.episode import Episode
from devnull.agents.local import LocalModel
from devnull.agents.prompt_format import PromptFormat
from devnull.agents.rollout import RolloutEngine
from devnull.agents.rollout_options import RolloutOptions
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance
from devnull.training.kl import log_ratios
from devnull.training.models import LoadedPolicy
from devnull.training.token_agent import TokenAgent


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What to sample a policy on while it is trained, and how often."""

    every: int
    """Optimiser steps; the first policy is sampled too, as step 0."""
    instances: Sequence[Instance]
    """The same ones each time."""
    runtime: Runtime
    measure: Callable[[Sequence[Episode]], Mapping[str, float]]
    """Metrics of finished episodes; logged as `sampled/NAME`, beside `sampled/kl`."""
    record: Callable[[Episode], None]
    """Called with every episode; its arm is `step-0004`."""
    prompt: PromptFormat
    workers: int = 8
    """Boxes at once."""


class SamplingCallback(TrainerCallback):  # type: ignore[misc]
    """Samples the policy of a TRL trainer; of several processes the first one does.

    `sampled/kl` is KL(π || π_first) of whole episodes in nats, estimated from these episodes; `sampled/kl_commands`
    what of it lies outside the report's words.
    """

    def __init__(self, trainer: Any, policy: LoadedPolicy, sampling: Sampling) -> None:
        self.trainer, self.policy, self.sampling = trainer, policy, sampling
        self.first_policy = policy.frozen_copy()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._sample(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.sampling.every == 0:
            self._sample(state)

    def _sample(self, state: Any) -> None:
        if not state.is_world_process_zero:
            return
        sampling, tokenizer = self.sampling, self.policy.tokenizer
        weights = self.trainer.accelerator.unwrap_model(self.trainer.model)
        model = LocalModel.from_model(weights, tokenizer, name="policy")
        agent = TokenAgent.of_model(model, self.policy.context - model.max_new_tokens)
        engine = RolloutEngine(
            agent=agent,
            runtime=sampling.runtime,
            arm=f"step-{state.global_step:04d}",
            options=RolloutOptions(workers=sampling.workers, prompt=sampling.prompt),
        )
        episodes, histories = [], []
        with decoding_weights(weights), closing(engine.play(sampling.instances)) as played:
            for position, episode in played:
                sampling.record(episode)
                if episode.error is None:
                    episodes.append(episode)
                    histories.append(agent.finished_history((position, episode.attempt)))
        found = dict(sampling.measure(episodes))
        if histories:
            ratios = log_ratios(weights, self.first_policy, self.policy, histories)
            commands, words = ratios.mean(0).tolist()
            found |= {"kl": commands + words, "kl_commands": commands}
        # Not TRL's own `log`, which would close the step's means before the step is over.
        Trainer.log(self.trainer, {f"sampled/{name}": value for name, value in found.items()})
