"""Gates: what must be so before a claim's contrasts mean anything."""

from collections.abc import Iterator, Mapping, Sequence

from devnull.eval.claims.claim_file import Gates, JobGate
from devnull.eval.claims.contrast import ArmScores
from devnull.eval.scoring.score import Score

JobMetrics = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Job to metric to its value seed by seed; `None` where it was not measured."""


def check_gates(gates: Gates, scores: ArmScores, kl: Mapping[str, Sequence[float]], measured: JobMetrics) -> list[str]:
    """What stands against the run, a sentence each; none: it passes.

    Args:
        kl: Arm to the divergence of its policy from its warm start seed by seed, in nats an episode, where one is
            known.
        measured: What `gates.jobs` ask for.
    """
    found = [problem for gate in gates.jobs for problem in _job_problems(gate, measured)]
    for arm, seeds in scores.items():
        if arm in gates.except_arms:
            continue
        everyone = [score for side in seeds for score in side]
        found += [f"{arm}: {problem}" for problem in _problems(gates, arm, everyone)]
        if gates.kl is not None and (farthest := max(kl.get(arm, ()), default=0.0)) > gates.kl:
            found.append(f"{arm}: {farthest:.1f} nats from its warm start, {gates.kl:g} are the most")
    return found


def _job_problems(gate: JobGate, measured: JobMetrics) -> Iterator[str]:
    for job in gate.jobs:
        values = measured.get(job, {}).get(gate.metric, ())
        passed = sum(map(gate.passes, values))
        if passed < gate.of_seeds * len(values) or not values:
            listed = ", ".join("not measured" if value is None else f"{value:.3g}" for value in values)
            yield f"{job}: {gate.metric} is {listed or 'not measured'}; {gate.wanted} is wanted"


def _problems(gates: Gates, arm: str, everyone: Sequence[Score]) -> list[str]:
    scores = [score for score in everyone if score.error is None]
    found = []
    errors = 1 - len(scores) / len(everyone) if everyone else 1.0
    if errors > gates.errors:
        found.append(f"{errors:.1%} of its episodes ended by infrastructure failures, {gates.errors:.1%} are the most")
    valid = sum(score.valid_turns for score in scores) / max(1, sum(score.turns for score in scores))
    if valid < gates.valid:
        found.append(f"{valid:.3f} of its messages are valid, {gates.valid:g} is the least")
    failures = sum(score.suppressed is not None for score in scores)
    if failures < gates.failures:
        found.append(f"{failures} episodes with a material failure, {gates.failures} are the fewest")
    attempts = sum(bool(score.attempted) for score in scores) / max(1, len(scores))
    if attempts < gates.attempts.get(arm, 0.0):
        found.append(f"{attempts:.2f} of its episodes try, {gates.attempts[arm]:g} is the least")
    return found
