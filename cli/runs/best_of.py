"""Best-of-n: of the first n episodes of each instance, the one that is rated best. Optimisation without training."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_choice import resolve_evaluator
from devnull.cli.runs.run_folder import RunFolder
from devnull.cli.runs.training_inputs import make_reward_function
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import make_evaluator_config
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task


def check_best_of(counts: Sequence[int], group: int, by: str) -> None:
    """Raises `InputError` for numbers of candidates that cannot be, and where `by` names nothing that rates."""
    for count in counts:
        if count < 2:
            raise InputError(f"--best-of is {count}; it must be at least 2, for it is the best of so many episodes")
    if counts and group > 1:
        raise InputError(f"--best-of and --group {group}: leave --group out; --best-of plays enough of each instance")
    if counts:
        _find_rater(by)


def keep_best(run: RunFolder, arm: str, counts: Iterable[int], by: str, tasks: dict[str, Task]) -> list[str]:
    """Adds for each n the arm `ARM-best-of-n` to the run: copies of the episodes kept. Returns these arms.

    Of equal ones the first is kept. The numbers are nested: the best of 2 is among the candidates of the best of 4.

    Args:
        counts: Each n.
        by: What rates: an evaluator's file or name, `actual` (the true return), or the folder of a reward model.
        tasks: By name.

    Raises `InputError` where `by` names nothing that rates.
    """
    reward, evaluator = _find_rater(by)
    rate = make_reward_function(reward, None, tasks, evaluator)
    whole = (episode for episode in run.episodes(arm) if episode.error is None)
    candidates = sorted(whole, key=lambda episode: (_instance(episode), episode.sample))  # builds apart
    values = [float("-inf") if value is None else value for value in rate(candidates)]
    arms = []
    for count in counts:
        arms.append(f"{arm}-best-of-{count}")
        known = {episode.key for episode in run.episodes(arms[-1])}
        for _, group in groupby(zip(candidates, values, strict=True), lambda pair: _instance(pair[0])):
            first = [pair for pair in group if pair[0].sample < count]
            if not first:
                continue  # the world failed in each
            kept = max(first, key=lambda pair: pair[1])[0].model_copy(update={"arm": arms[-1]})
            if kept.key not in known:
                run.append(kept)
    return arms


def _find_rater(by: str) -> tuple[str, Evaluator]:
    """The reward that `by` stands for, and the evaluator whose belief it is where it is believed."""
    if by == "actual" or Path(by).is_dir():
        return by, Evaluator(make_evaluator_config({}, "terminal"))
    return "believed", Evaluator(resolve_evaluator(Path(by)))


def _instance(episode: Episode) -> tuple[str, int, bool]:
    return (episode.task, episode.seed, episode.faulty)
