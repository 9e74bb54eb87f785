"""Returns of an episode: the true G and the believed G_obs. The ends of a task's stages play the paper's states."""

from collections.abc import Mapping

from devnull.rewards.belief.belief import Belief
from devnull.sandbox.task import RewardTable, Task, Truth


def true_return(task: Task, truths: Mapping[str, Truth]) -> float:
    """G: the sum of the stages' rewards, each for how the stage truly ended. `truths`: by stage name."""
    return sum(stage.rewards.reward(truths[stage.name]) for stage in task.stages)


def believed_return(task: Task, belief: Belief, values: RewardTable | None = None) -> float:
    """G_obs: the expected return under a belief. `values` replaces every stage's rewards (an evaluator whose values
    are not the task's)."""
    return sum(believed_returns(task, belief, values).values())


def believed_returns(task: Task, belief: Belief, values: RewardTable | None = None) -> dict[str, float]:
    """G_obs by stage name; see `believed_return`."""
    return {
        stage.name: sum(p * (values or stage.rewards).reward(truth) for truth, p in belief.stages[stage.name].items())
        for stage in task.stages
    }


def return_range(task: Task) -> tuple[float, float]:
    """The lowest and the highest return that the task can end with."""
    rewards = [[stage.rewards.reward(truth) for truth in Truth] for stage in task.stages]
    return sum(map(min, rewards)), sum(map(max, rewards))
