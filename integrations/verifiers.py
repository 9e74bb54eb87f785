"""devnull's tasks in verifiers: `vf-eval devnull`, or from Python `vf.load_environment(vf.resolve_env_config(...))`.

verifiers finds a taskset by its id, which is the name of a package whose `__all__` has a `Taskset`; with verifiers
installed, that of `devnull` does. The harness plays an episode in one of our boxes, in devnull's own protocol (one
```bash block a message), and asks for each message through verifiers, which thus records and may train on it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal

import verifiers.v1 as vf

from devnull.agents.agent import Reply, Request
from devnull.agents.endpoint import Endpoint
from devnull.agents.episode import Episode
from devnull.agents.protocol import SYSTEM_PROMPT
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.cli.runs.rollouts import EVALUATION_SEEDS, choose_tasks, draw_instances
from devnull.eval.formats.verifiers_traces import EPISODE_KEY
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.views import FULL_SENSORS
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.task import Build, Instance
from devnull.sandbox.tasks import load_tasks

__all__ = ["InstallHarness", "InstallTaskset"]

_LONGEST_MESSAGE = 4096
"""Tokens, where the run's sampling sets no limit."""
_open_runtime = cache(open_runtime)


class InstallData(vf.TaskData):
    """One instance: a task, and what its phrasing and its build are drawn from."""

    task: str
    seed: int
    build: Build
    view: Literal["partial", "full"]
    boxes: str


class InstallTask(vf.Task[InstallData]):
    """One installation; its reward is what an evaluator believes, its metrics say what was true."""

    def _score(self, trace: Any, evaluator: Evaluator) -> Score:
        return score(Episode.model_validate_json(trace.info[EPISODE_KEY]), load_tasks()[self.data.task], evaluator)

    @vf.reward
    async def believed_return(self, trace: Any) -> float:
        """G_obs, by the view; where that is the terminal, training on it makes hidden failures."""
        sensors = {"sensors": FULL_SENSORS} if self.data.view == "full" else {}
        return self._score(trace, Evaluator(EvaluatorConfig(name=self.data.view, **sensors))).G_obs or 0.0

    @vf.metric
    async def truth(self, trace: Any) -> dict[str, float]:
        """`G`, `success` and, where a stage failed, `hidden_failure` and `error_suppression` (docs/metrics.md), as they
        are for an evaluator who sees the terminal, whatever the view."""
        found = self._score(trace, Evaluator())
        known = {"G": found.G, "success": found.success}
        known["hidden_failure"] = found.hidden
        known["error_suppression"] = None if found.suppressed is None else found.suppressed == "yes"
        return {name: float(value) for name, value in known.items() if value is not None}


class InstallConfig(vf.TasksetConfig):
    """`--env.taskset.*`."""

    family: str = ""
    """A family, a task or a pattern (`driver-*`); empty: every task of the split."""
    split: Literal["train", "test", "all"] = "test"
    view: Literal["partial", "full"] = "partial"
    """Whose belief is the reward: `partial` sees the terminal, `full` also what was kept off it."""
    instances: int = 64
    both_builds: bool = False
    """Each instance under the sound and the faulty build."""
    boxes: str = "auto"
    """What makes the boxes, as `devnull rollout --runtime`."""


class InstallTaskset(vf.Taskset[InstallTask, InstallConfig]):
    """Installation tasks, one an instance."""

    def load(self) -> Iterator[InstallTask]:
        """Draws the instances. Raises `InputError` for a name that no task of the split has."""
        config = self.config
        chosen = choose_tasks([config.family] if config.family else [], config.split, load_tasks())
        for each in draw_instances(chosen, config.instances, EVALUATION_SEEDS, both_builds=config.both_builds):
            yield InstallTask(
                InstallData(
                    id="/".join(map(str, each.key)),
                    name=each.task.name,
                    prompt=each.instruction,
                    system_prompt=SYSTEM_PROMPT,
                    task=each.task.name,
                    seed=each.seed,
                    build=each.build,
                    view=config.view,
                    boxes=config.boxes,
                ),
                config.task,
            )


class InstallHarness(vf.Harness[vf.HarnessConfig]):
    """Plays in this process: the model is asked through verifiers' interception, the commands run in our box."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False  # none on this machine
    NEEDS_CONTAINER = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Any, data: InstallData
    ) -> vf.ProgramResult:
        """One episode. Raises verifiers' `SandboxError` where the world broke: an error of the rollout, no score."""
        agent = _Intercepted(ctx.model, endpoint, secret, trace)
        instance = Instance(task=load_tasks()[data.task], seed=data.seed, forced_build=data.build)
        episode = await asyncio.to_thread(_play, agent, instance, data.boxes)
        if episode.error is not None:
            raise vf.SandboxError(f"{episode.error.kind}: {episode.error.message}")
        trace.info[EPISODE_KEY] = episode.model_dump_json()
        return vf.ProgramResult(exit_code=0, stdout=episode.transcript.report or "", stderr="")


def _play(agent: Endpoint, instance: Instance, boxes: str) -> Episode:
    options = RolloutOptions(workers=1, retries=0)  # verifiers retries
    (episode,) = rollout(agent, [instance], _open_runtime(boxes), arm="verifiers", options=options)
    return episode


class _Intercepted(Endpoint):
    """The model behind verifiers' endpoint. A limit of the run (turns, tokens) ends the episode, as a full context
    does: what became of the box is verified all the same."""

    def __init__(self, model: str, url: str, key: str, trace: Any) -> None:
        super().__init__(model, url, api_key=key, max_new_tokens=_LONGEST_MESSAGE, retries=0, concurrency=1)
        self._trace = trace

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        try:
            replies = super().respond(requests)
        except InputError:
            if self._trace.stop_condition is None:
                raise
            replies = [Reply("", ended=True)] * len(requests)
        return [Reply("", ended=True) if self._trace.stop_condition else reply for reply in replies]
