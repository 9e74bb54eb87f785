"""devnull's tasks in Inspect AI: `inspect eval devnull/install --model M`, found by the entry point `inspect_ai`.

The setup puts each sample in a box of its own and hands the solver a tool `bash` that types there. Any model with tool
calls plays; what a command kept off it is an `InfoEvent` beside its `ToolEvent`. The scorer verifies the box.
"""

import asyncio
from functools import cache

from inspect_ai import Task as InspectTask
from inspect_ai import task
from inspect_ai.dataset import Sample
from inspect_ai.log import transcript
from inspect_ai.model import ChatMessageAssistant
from inspect_ai.scorer import Metric, SampleScore, Scorer, Target, Value, accuracy, metric, scorer
from inspect_ai.scorer import Score as InspectScore
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver
from inspect_ai.tool import Tool, tool

from devnull.agents.live_episode import LiveEpisode
from devnull.cli.runs.rollouts import EVALUATION_SEEDS, choose_tasks, draw_instances
from devnull.eval.formats.inspect_samples import EPISODE_KEY, inspect_scores, kept_off
from devnull.eval.scoring.metrics import compute_metrics
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.screen_text import screen_text
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import load_tasks
from devnull.sandbox.transcript import Turn

_SCORE_KEY = "devnull_score"
_live: dict[str, LiveEpisode] = {}
"""Samples whose box is open, by the sample's uuid."""
_open_runtime = cache(open_runtime)


@task
def install(
    family: str = "", split: str = "test", both_builds: bool = False, instances: int = 8, runtime: str = "auto"
) -> InspectTask:
    """Installation tasks, one sample an instance.

    Args:
        family: A family, a task or a pattern (`driver-*`); empty: every task of the split.
        split: `train`, `test` or `all`.
        both_builds: Each instance under the sound and the faulty build, with the same phrasing.
        instances: How many samples.
        runtime: What makes the boxes, as `devnull rollout --runtime`.

    Raises `InputError` for a name that no task of the split has.
    """
    chosen = choose_tasks([family] if family else [], split, load_tasks())
    drawn = draw_instances(chosen, instances, EVALUATION_SEEDS, both_builds=both_builds)
    samples = [
        Sample(
            id="/".join(map(str, each.key)),
            input=each.instruction,
            target="every stage installed",
            metadata={"task": each.task.name, "seed": each.seed, "forced_build": each.forced_build},
        )
        for each in drawn
    ]
    return InspectTask(
        dataset=samples,
        setup=_enter_box(runtime),
        solver=generate(),
        scorer=verified(runtime),
        cleanup=_leave_box,
        message_limit=30,
    )


@solver
def _enter_box(runtime: str) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        found = load_tasks()[state.metadata["task"]]
        build, seed = state.metadata["forced_build"], state.metadata["seed"]
        instance = Instance(task=found, seed=seed, sample=state.epoch - 1, forced_build=build)
        live = _live[state.uuid] = LiveEpisode(instance, 0, 0, max_turns=0)
        boxes: Runtime = await asyncio.to_thread(_open_runtime, runtime)
        await asyncio.to_thread(live.start, boxes, Limits())
        state.tools = [*state.tools, bash(state.uuid)]
        return state

    return solve


async def _leave_box(state: TaskState) -> None:
    live = _live.pop(state.uuid, None)
    if live is not None:
        await asyncio.to_thread(live.close)


@tool
def bash(sample: str) -> Tool:
    """The terminal of a sample's box.

    Args:
        sample: uuid of the sample, whose box is open.
    """

    async def execute(command: str) -> str:
        """Type a command at the terminal, and read what the terminal shows.

        Args:
            command: The command line.
        """
        live = _live[sample]
        result = await asyncio.to_thread(live.run_command, command)
        live.turns.append(Turn(text=f"```bash\n{command}\n```", valid=True, result=result))
        hidden = kept_off(result)
        if hidden is not None:
            transcript().info(hidden, source="devnull")
        return screen_text(result.shown)

    return execute


@metric
def devnull_metrics() -> Metric:
    """Every metric of `docs/metrics.md` that is defined for these samples, by its name."""

    def compute(scores: list[SampleScore]) -> Value:
        ours = [Score.model_validate((each.score.metadata or {})[_SCORE_KEY]) for each in scores]
        return {name: each.value for name, each in compute_metrics(ours).items() if each.value is not None}

    return compute


@scorer(metrics=[accuracy(), devnull_metrics()])
def verified(runtime: str) -> Scorer:
    """Verifies the box once the agent is gone: correct where every stage works; the reasons are the explanation, the
    episode and our score its metadata."""

    async def judge(state: TaskState, target: Target) -> InspectScore:
        live = _live[state.uuid]
        last = state.messages[-1]
        if isinstance(last, ChatMessageAssistant) and not last.tool_calls:
            live.report = last.text
        await asyncio.to_thread(live.finish)
        name = str(state.model)
        episode = live.to_episode(name, name, _open_runtime(runtime).name, None)
        ours = score(episode, live.instance.task, Evaluator())
        reasons = inspect_scores(ours) or {}
        return InspectScore(
            value="C" if ours.success else "I",
            answer=live.report,
            explanation="\n".join(f"{key} = {each.value}: {each.explanation}" for key, each in reasons.items()),
            metadata={_SCORE_KEY: ours.model_dump(mode="json"), EPISODE_KEY: episode.model_dump_json()},
        )

    return judge
