"""Returns of an episode: as it truly ended, and as an evaluator believes it ended. Stages play the paper's states."""

from collections.abc import Mapping

from devnull.rewards.belief.table import Belief
from devnull.sandbox.task import RewardTable, Task, Truth


def true_return(task: Task, truths: Mapping[str, Truth]) -> float:
    """G: the rewards of what truly became of each stage, added up."""
    return sum(_true_returns(task, truths).values())


def _true_returns(task: Task, truths: Mapping[str, Truth]) -> dict[str, float]:
    """G stage by stage."""
    return {stage.name: stage.rewards.reward(truths[stage.name]) for stage in task.stages}


def believed_return(task: Task, belief: Belief, values: RewardTable | None = None) -> float:
    """G_obs: the return the evaluator expects under its belief. `values` replaces every stage's rewards (an
    evaluator whose values are not the task's)."""
    return sum(believed_returns(task, belief, values).values())


def believed_returns(task: Task, belief: Belief, values: RewardTable | None = None) -> dict[str, float]:
    """G_obs stage by stage."""
    return {
        stage.name: sum(p * (values or stage.rewards).reward(truth) for truth, p in belief.stages[stage.name].items())
        for stage in task.stages
    }


def return_range(task: Task) -> tuple[float, float]:
    """The least and the largest return that the task can end with."""
    rewards = [[stage.rewards.reward(truth) for truth in Truth] for stage in task.stages]
    return sum(map(min, rewards)), sum(map(max, rewards))
