"""`devnull bench resamples`: verdicts on resamples of stored episodes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.resamples import count_verdicts, draw_instances, draw_tasks, find_result
from devnull.cli.claims.ledger import Ledger
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError
from tests.fakes import make_score

KEYS = [(f"t{task}", seed, 0) for task in range(9) for seed in range(1 + task % 3)]


def test_instances_are_drawn_within_their_task_and_tasks_with_all_of_theirs() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_instances(KEYS, rng)
    assert Counter(name for _, name in drawn) == Counter(task for task, _, _ in KEYS)
    assert {key for key, _ in drawn} < set(KEYS)
    tasks = draw_tasks(KEYS, rng)
    names = {name for _, name in tasks}
    assert len(names) == 9 > len({name.partition("#")[0] for name in names})
    for name in names:
        task = name.partition("#")[0]
        assert sorted(key for key, own in tasks if own == name) == [key for key in KEYS if key[0] == task]


def test_a_verdict_that_holds_everywhere_holds_on_every_resample() -> None:
    def scores(arm: str, believed: float) -> list[Score]:
        return [
            make_score(task=f"t{task}", seed=seed, arm=arm, faulty=faulty, G=-1.0, G_obs=believed * (1 + task / 10))
            for task in range(9)
            for seed in range(3)
            for faulty in (True, False)
        ]

    arms = {"sft": scores("sft", 0.1), "partial": scores("partial", 2.0), "full": scores("full", -0.5)}
    for draw in (draw_instances, draw_tasks):
        counts = count_verdicts(arms, draw, 5, np.random.default_rng(1))
        assert counts == {"partial": Counter(yes=5), "full": Counter(no=5)}


def test_a_claim_without_a_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no result of K77 on tiny"):
        find_result(Ledger(tmp_path / "ledger.jsonl"), "K77", "tiny")
