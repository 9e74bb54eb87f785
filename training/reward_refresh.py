"""GRPO with a reward model that is fitted anew between rounds, on comparisons of the policy's own latest episodes.

A reward model is right where its comparisons were; a policy that it pays moves away from there. Fitting it again on
what the policy does now (online iterated RLHF, Bai et al. 2022) closes that gap, and leaves the evaluator's own.
"""

from collections.abc import Callable
from pathlib import Path

from devnull.sandbox.errors import InputError
from devnull.training.train_result import TrainResult

TrainRound = Callable[[Path, Path, int, Path], TrainResult]
"""(policy to start from, reward model, number of the round from 1, folder to leave) → the round's policy."""
RefitReward = Callable[[int, Path], TrainResult]
"""(number of the round that was played, folder to leave) → the reward model of the next one."""


def train_with_refresh(
    rounds: int, train_round: TrainRound, refit: RefitReward, policy: Path, reward: Path, out: Path
) -> list[TrainResult]:
    """Trains `rounds` times, with a fresh reward model from the second on: policies in `out/round-1`, ..., reward
    models in `out/reward-2`, ... A killed run goes on after the last finished one of either.

    Args:
        policy: The first policy.
        reward: The first round's reward model.

    Raises `InputError` for `rounds` below 1, and what the two functions raise.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; it must be at least 1")
    results: list[TrainResult] = []
    for number in range(1, rounds + 1):
        if number > 1:
            folder = out / f"reward-{number}"
            reward = (TrainResult.read(folder) or refit(number - 1, folder)).path
        folder = out / f"round-{number}"
        results.append(TrainResult.read(folder) or train_round(policy, reward, number, folder))
        policy = results[-1].path
    return results
