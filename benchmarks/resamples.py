"""How often one run of the demo's size says what a claim's seeds say: the verdict on each seed, on resamples of its
stored episodes (claim K1's arms hold 384, as the demo's do).

A resample draws the instances of each task anew, with both builds and the same ones for every arm; or the tasks.

usage: devnull bench resamples [-- --claim K1 --rung tiny --resamples 200 --ledger claims/ledger.jsonl]
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from devnull.cli.claims.judging import ScoredArchives
from devnull.cli.claims.ledger import DEFAULT_LEDGER, Ledger, LedgerLine
from devnull.eval.claims.claim_file import ClaimFile
from devnull.eval.claims.claim_reader import parse_claim
from devnull.eval.comparing.verdicts import compare_to_reference
from devnull.eval.scoring.score import Score
from devnull.sandbox.errors import InputError

REFERENCE = "sft"
Key = tuple[str, int, int]
"""Task, seed and sample: an instance, in both its builds."""
Draw = list[tuple[Key, str]]
"""Instances, and under which name their task counts."""


def draw_instances(keys: Sequence[Key], rng: np.random.Generator) -> Draw:
    """As many of each task as it has, with replacement."""
    by_task = _by_task(keys)
    return [(own[i], task) for task, own in by_task.items() for i in rng.integers(len(own), size=len(own))]


def draw_tasks(keys: Sequence[Key], rng: np.random.Generator) -> Draw:
    """As many tasks as there are, with replacement, each with all its instances; one drawn twice counts as two."""
    by_task = _by_task(keys)
    drawn = rng.choice(list(by_task), size=len(by_task))
    return [(key, f"{task}#{place}") for place, task in enumerate(drawn) for key in by_task[task]]


def _by_task(keys: Sequence[Key]) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(keys):
        found[key[0]].append(key)
    return found


def count_verdicts(
    arms: dict[str, list[Score]],
    draw: Callable[[Sequence[Key], np.random.Generator], Draw],
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Counter[str]]:
    """Arm to how often deceptive inflation relative to the reference came out how."""
    played: dict[str, dict[Key, list[Score]]] = {arm: defaultdict(list) for arm in arms}
    for arm, scores in arms.items():
        for score in scores:
            played[arm][score.task, score.seed, score.sample].append(score)
    common = set.intersection(*({*each} for each in played.values()))
    counts: dict[str, Counter[str]] = {arm: Counter() for arm in arms if arm != REFERENCE}
    for _ in range(resamples):
        drawn = draw(sorted(common), rng)
        groups = {
            arm: [
                score.model_copy(update={"task": task, "seed": number})
                for number, (key, task) in enumerate(drawn)
                for score in of_key[key]
            ]
            for arm, of_key in played.items()
        }
        for arm, count in counts.items():
            count[compare_to_reference(groups[arm], groups[REFERENCE]).deceptive_inflation] += 1
    return counts


def find_result(ledger: Ledger, name: str, rung: str) -> tuple[LedgerLine, ClaimFile]:
    """The last result of a claim on a rung that has a reference, and the claim as it was frozen."""
    for line in reversed(ledger.lines):
        frozen = ledger.frozen(*line.key)
        if line.kind == "result" and line.rung == rung and frozen and line.claim.partition("@")[0] == name:
            claim = parse_claim(Path(f"{name}.toml"), frozen.text).file
            if REFERENCE in claim.arms:
                return line, claim
    raise InputError(f"{ledger.path}: no result of {name} on {rung} with an arm {REFERENCE!r}")


def measure(ledger: Ledger, name: str, rung: str, resamples: int) -> Iterator[tuple[int, str, str, Counter[str]]]:
    """Seed, what was drawn anew, arm, and how often which verdict came out."""
    line, claim = find_result(ledger, name, rung)
    archives = ScoredArchives(ledger.path)
    for seed in line.seeds:
        arms = {arm: archives.scores(line.archives[f"seed-{seed}/{arm}"], claim) for arm in claim.arms}
        for what, draw in (("instances", draw_instances), ("tasks", draw_tasks)):
            for arm, count in count_verdicts(arms, draw, resamples, np.random.default_rng(seed)).items():
                yield seed, what, arm, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claim", default="K1")
    parser.add_argument("--rung", default="tiny")
    parser.add_argument("--resamples", type=int, default=200, help="of each seed and kind")
    parser.add_argument("--ledger", type=Path, default=DEFAULT_LEDGER)
    args = parser.parse_args()
    if args.resamples < 1:
        raise InputError(f"--resamples is {args.resamples}; it must be at least 1")
    head = f"{'seed':>4}  {'drawn anew':<10}  {'arm':<12}  {'yes':>5}  {'no':>5}  {'inconclusive':>12}"
    for seed, what, arm, count in measure(Ledger(args.ledger), args.claim, args.rung, args.resamples):
        if head:
            print(head)
            head = ""
        row = f"{count['yes']:5}  {count['no']:5}  {count['inconclusive']:12}"
        print(f"{seed:4}  {what:<10}  {arm:<12}  {row}", flush=True)


if __name__ == "__main__":
    main()
