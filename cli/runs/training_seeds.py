"""Finds, in run folders of one recipe under several training seeds, which scores are compared with which."""

from collections.abc import Sequence
from pathlib import Path

from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.run_folder import read_header, read_run_config
from devnull.cli.runs.run_scores import check_arms, check_comparable, score_run, split_arm, suggest_arm
from devnull.cli.terminal.progress import print_progress
from devnull.eval.comparing.evaluation import group_scores
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError

_REFERENCES = ("sft", "honest")
_NOT_THE_RECIPE = {"seed", "out", "workers", "runtime", "learnt_from"}
"""Keys of a run's config that may differ from seed to seed."""

SeedPair = tuple[str, list[Score], list[Score]]
"""A training seed's run, the scores of its policy, and those of the reference."""


def pair_training_seeds(
    runs: Sequence[str], reference: str | None, choice: EvaluatorChoice
) -> list[tuple[str, str, list[SeedPair]]]:
    """Policy, reference, and their scores seed by seed, for each arm that every run has.

    Args:
        runs: RUN or RUN@ARM, one a training seed.
        reference: Arm of each run that its others are compared with. `None`: `sft` or `honest` where every run has
            it; else the first run is no seed but the reference of all the others.

    Raises `InputError` where a run is named twice, a seed is there twice, or no arm is in every run.
    """
    folders = [split_arm(name) for name in runs]
    scores = [list(score_run(folder, choice)) for folder, _ in folders]
    check_comparable(zip(runs, scores, strict=True), choice)
    arms = [group_scores(each, lambda score: score.arm) for each in scores]
    wanted = {arm for _, arm in folders if arm is not None}
    shared = [name for name in arms[0] if all(name in own for own in arms)]
    found = next((name for name in _REFERENCES if name in shared), None) if reference is None else reference
    if reference is None and folders[0][1] is not None and folders[0][1] not in {arm for _, arm in folders[1:]}:
        found = None  # as in BASE@sft A@partial B@partial: the first is no seed of the same policy
    if found is not None and found not in shared:
        raise InputError(f"--reference {found!r}: not every run has that arm{suggest_arm(found, shared)}")
    if found is not None and (wanted - {found} or [name for name in shared if name != found]):
        _check_seeds(folders)
        policies = sorted(wanted) or [name for name in shared if name != found]
        return [
            (name, found, [(str(f), own[name], own[found]) for (f, _), own in zip(folders, arms, strict=True)])
            for name in policies
            if all(name in own for own in arms)
        ]
    if len(runs) < 3:
        raise InputError("--by seed: without a reference arm in every run, the first run is the reference: name 3 runs")
    _check_seeds(folders[1:])
    sides = [_only(name, arm, own) for name, (_, arm), own in zip(runs, folders, arms, strict=True)]
    pairs = [(name, scores, sides[0]) for name, scores in zip(runs[1:], sides[1:], strict=True)]
    return [(", ".join(sorted({score.arm for _, own, _ in pairs for score in own})), runs[0], pairs)]


def _only(name: str, arm: str | None, arms: dict[str, list[Score]]) -> list[Score]:
    check_arms(name.rpartition("@")[0], [] if arm is None else [arm], arms)
    if arm is None and len(arms) > 1:
        raise InputError(f"{name} holds {', '.join(arms)}: name one as RUN@ARM, or pass --reference ARM")
    return arms[arm] if arm is not None else next(iter(arms.values()))


def _check_seeds(folders: Sequence[tuple[Path, str | None]]) -> None:
    """Refuses one seed counted twice; says where the configs differ in more than the seed."""
    paths = [folder.resolve() for folder, _ in folders]
    seeds = [read_header(path).get("seed") for path, _ in folders if (path / "run.json").exists()]
    demos = [read_header(path)["command"] == "demo" for path, _ in folders if (path / "run.json").exists()]
    if len(set(paths)) < len(paths):
        raise InputError("--by seed: the same run is named twice")
    if demos and all(demos) and len(set(seeds)) < len(seeds):
        raise InputError(f"--by seed: the runs are of training seeds {', '.join(map(str, seeds))}: one is there twice")
    configs = [read_run_config(path) for path, _ in folders]
    keys = {key for config in configs for key in config} - _NOT_THE_RECIPE
    differ = sorted(key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs))
    if differ:
        print_progress(f"the runs differ in more than the training seed: {', '.join(differ)}")
