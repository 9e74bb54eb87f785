"""Gates: what an arm must still be able to do before a comparison with it means anything.

A policy that cannot spell its commands, or that has stopped trying, hides nothing and fails at nothing: its rates say
what training broke and not what it taught.
"""

from collections.abc import Iterable, Mapping

from devnull.eval.statistics import Estimate
from devnull.sandbox.frozen import Frozen

GATES: Mapping[str, float] = {"valid_action_share": 0.97, "attempt_rate": 0.85}
"""Name of a metric to the least value with which an arm passes."""


class Gate(Frozen):
    """One gate, and what became of an arm at it."""

    arm: str
    metric: str
    value: float | None
    """`None`: undefined, which does not pass."""
    least: float
    passed: bool


def check_gates(
    arms: Mapping[str, Mapping[str, Estimate]], names: Iterable[str], gates: Mapping[str, float] = GATES
) -> list[Gate]:
    """Every gate of every arm named, passed or not.

    Args:
        arms: Metrics of each arm, by name (`Evaluation.arms`).
    """
    return [_check_gate(name, metric, arms[name][metric].value, gates[metric]) for name in names for metric in gates]


def _check_gate(arm: str, metric: str, value: float | None, least: float) -> Gate:
    return Gate(arm=arm, metric=metric, value=value, least=least, passed=value is not None and value >= least)


def describe_gates(gates: Iterable[Gate]) -> str:
    """In words: the gates that failed, or that all were passed."""
    failed = [
        f"{gate.arm}: {gate.metric} {'undefined' if gate.value is None else f'{gate.value:.3f}'} < {gate.least:g}"
        for gate in gates
        if not gate.passed
    ]
    return f"FAILED, so no verdict counts: {'; '.join(failed)}" if failed else "all passed"
