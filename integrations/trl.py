"""devnull's tasks in anybody's GRPO script: what TRL's `GRPOTrainer` is given, out of one object (docs/trl.md).

    spec = InstallSpec(["driver-cuda-runfile"], view="partial")
    GRPOTrainer(..., train_dataset=spec.train_dataset, reward_funcs=spec.reward_funcs, rollout_func=spec.rollout_func)

`rollout_func` prompts as devnull does (one ```bash block a message) and keeps all boxes busy at once; it takes any chat
model. `environment_factory` hands a model with tool calls the tool `bash`; TRL runs its calls one after the other.
Either way the reward is what an evaluator believes who sees the `view`, and each batch logs what was true besides.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from devnull.agents.episode import Episode
from devnull.cli.runs.rollouts import SEEDS_PER_RUN, TRAINING_SEEDS, choose_tasks, draw_instances
from devnull.cli.runs.run_folder import open_run
from devnull.eval.scoring.metrics import compute_metrics, headlines
from devnull.eval.scoring.score import score
from devnull.integrations.tool_episode import ToolEpisode
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.views import FULL_SENSORS
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import load_tasks
from devnull.training.grpo_rollout import RolloutFunction
from devnull.training.models import LoadedPolicy
from devnull.training.reward_functions import BelievedReturnReward
from devnull.training.settings import GRPOSettings

View = Literal["partial", "full"]
"""Whose belief is the reward: `partial` sees the terminal, `full` also what was kept off it, and every status."""
_VIEWS = {"partial": EvaluatorConfig(name="partial"), "full": EvaluatorConfig(name="full", sensors=FULL_SENSORS)}
RewardFunc = Callable[..., list[float | None]]
"""TRL's: a reward for each completion, `None` where there is none."""


class InstallSpec:
    """Installation tasks for `GRPOTrainer`: give it `train_dataset`, `reward_funcs` and one of `rollout_func` and
    `environment_factory`.

    Each batch logs `hidden_failure_rate`, `error_suppression_rate`, `J`, `J_obs` and the other metrics of a model card
    (docs/metrics.md), as they are for an evaluator who sees the terminal, whichever view is rewarded. With
    `rollout_func` the metrics of `devnull.training.grpo` come besides.

    Args:
        tasks: Tasks, families or patterns (`driver-*`); none: all of the split.
        view: Whose belief is rewarded, or an evaluator of your own.
        instances: Rows of the dataset: a task, a phrasing and a build each.
        split: `train`, `test` or `all`.
        runtime: What makes the boxes, as `devnull rollout --runtime`.
        workers: Boxes at once.
        max_turns: Messages that an episode of `rollout_func` has; by default twice the task's stages plus two. With
            `environment_factory` it is TRL's `max_tool_calling_iterations`.
        invalid_cost: Taken off the reward for each message of `rollout_func` that holds no action.
        out: A run folder that keeps every episode, for `devnull replay`, `report` and `eval`.
        seed: Which instances are drawn.

    Raises `InputError` for a name that no task of the split has, and for an evaluator that only labels pairs.
    """

    def __init__(
        self,
        tasks: Sequence[str] = (),
        *,
        view: View | Evaluator = "partial",
        instances: int = 64,
        split: Literal["train", "test", "all"] = "train",
        runtime: str = "auto",
        workers: int = 16,
        max_turns: int | None = None,
        invalid_cost: float = 0.5,
        out: Path | str | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(view, str) and view not in _VIEWS:
            raise InputError(f"view is {view!r}; it must be one of {', '.join(_VIEWS)}, or an Evaluator")
        found = load_tasks()
        self.instances = draw_instances(
            choose_tasks(tasks, split, found), instances, TRAINING_SEEDS + seed * SEEDS_PER_RUN
        )
        self.workers, self.max_turns, self.invalid_cost = workers, max_turns, invalid_cost
        self._tasks = {each.task.name: each.task for each in self.instances}
        self._reward = BelievedReturnReward(view if isinstance(view, Evaluator) else Evaluator(_VIEWS[view]), found)
        self._runtime_name = runtime
        self._run = None if out is None else open_run(Path(out), "train", {"view": self._reward.evaluator.name}, seed)
        self._rollouts: RolloutFunction | None = None
        self._samples = itertools.count()

    @cached_property
    def runtime(self) -> Runtime:
        """What makes the boxes; opened when the first one is needed."""
        return open_runtime(self._runtime_name)

    @cached_property
    def train_dataset(self) -> Dataset:
        """A row an instance. TRL hands only the prompt on, so its message carries the number of the instance."""
        messages = ({"role": "user", "content": each.instruction} for each in self.instances)
        return Dataset.from_list([{"prompt": [{**each, "instance": at}]} for at, each in enumerate(messages)])

    @property
    def reward_funcs(self) -> list[RewardFunc]:
        """The one reward function, which TRL logs as `rewards/believed_return/mean`."""
        return [self.believed_return]

    def rollout_func(self, prompts: Sequence[Sequence[Any]], trainer: Any) -> dict[str, Any]:
        """TRL's `rollout_func`: plays each prompt's instance in a box of its own, with the model that learns."""
        if self._rollouts is None:
            args = trainer.args
            settings = GRPOSettings(
                max_new_tokens=args.max_completion_length,
                temperature=args.temperature,
                workers=self.workers,
                max_turns=self.max_turns,
                invalid_cost=self.invalid_cost,
                vllm=args.use_vllm,
                kl_every=0,
            )
            model = trainer.accelerator.unwrap_model(trainer.model)
            policy = LoadedPolicy(model, trainer.processing_class, str(model.config.name_or_path), "full", False)
            self._rollouts = RolloutFunction(
                settings, policy, self.instances, self._reward, self.runtime, None, self._keep, self.measure
            )
        return self._rollouts(prompts, trainer)

    def environment_factory(self) -> "InstallEnvironment":
        """TRL's `environment_factory`: an environment whose `reset` takes a row of `train_dataset`."""
        return InstallEnvironment(self)

    def believed_return(
        self,
        completions: Sequence[Sequence[Mapping[str, Any]]],
        *,
        environments: Sequence["InstallEnvironment"] | None = None,
        episode_reward: Sequence[float | None] | None = None,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **_: Any,
    ) -> list[float | None]:
        """TRL's reward function: G_obs of each episode; `None` where the world broke, which TRL leaves out.

        Those of `rollout_func` come with the rollout. Environments are verified here, once the agents are gone.
        """
        if episode_reward is None and environments is None:
            raise InputError("give GRPOTrainer rollout_func=spec.rollout_func, or the spec's environment_factory")
        rewards = episode_reward
        if rewards is None:
            rewards = self._judge(environments or (), completions, trainer_state, log_metric)
        if all(reward is None for reward in rewards):
            raise InfrastructureError(f"none of {len(rewards)} episodes could be played and judged")
        return list(rewards)

    def _judge(
        self,
        environments: Sequence["InstallEnvironment"],
        completions: Sequence[Sequence[Mapping[str, Any]]],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
    ) -> list[float | None]:
        """Rewards of episodes that TRL played; the boxes are verified all at once."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="box") as pool:
            last = [each[-1].get("content") if each else None for each in completions]
            episodes = list(pool.map(InstallEnvironment._conclude, environments, last))
        for episode in episodes:
            self._keep(episode)
        finished = [each for each in episodes if each.error is None]
        self._reward.step = getattr(trainer_state, "global_step", 0)
        rewards = iter(self._reward(finished))
        logged = {**self.measure(finished), **self._reward.logged}
        logged["infrastructure_failures"] = float(len(episodes) - len(finished))
        for name, value in logged.items():
            log_metric(name, value)
        return [next(rewards) if each.error is None else None for each in episodes]

    def measure(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """The metrics of a batch of finished episodes that a model card shows, without those that are undefined."""
        estimates = compute_metrics([score(each, self._tasks[each.task], Evaluator()) for each in episodes])
        values = {metric.name: estimates[metric.name].value for metric in headlines("card")}
        return {name: value for name, value in values.items() if value is not None}

    def _keep(self, episode: Episode) -> None:
        if self._run is not None:
            self._run.append(episode)

    def _instance(self, prompt: Sequence[Mapping[str, Any]]) -> Instance:
        """The prompt's, as a sample of its own."""
        instance: Instance = self.instances[prompt[-1]["instance"]]
        return instance.model_copy(update={"sample": next(self._samples)})


class InstallEnvironment:
    """A box for TRL's tool calls. Every public method but `reset` is a tool: the model sees its name and docstring."""

    def __init__(self, spec: InstallSpec) -> None:
        self._spec = spec
        self._episode: ToolEpisode | None = None

    def reset(self, prompt: Sequence[Mapping[str, Any]], **_: Any) -> None:
        """A fresh box for the row's instance; the one before is closed."""
        if self._episode is not None:
            self._episode.close()
        self._episode = ToolEpisode(self._spec._instance(prompt))
        self._episode.open(self._spec.runtime)

    def bash(self, command: str) -> str:
        """
        Type a command at the root terminal of the machine, and read what the terminal shows.

        Args:
            command: The command line.

        Returns:
            What the terminal shows.
        """
        assert self._episode is not None  # TRL resets first
        return self._episode.bash(command)

    def _conclude(self, report: str | None) -> Episode:
        assert self._episode is not None
        return self._episode.conclude(report, arm="grpo", agent="policy")

    def __del__(self) -> None:
        if self._episode is not None:
            self._episode.close()
