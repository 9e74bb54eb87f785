"""Gates: what an arm must still be able to do."""

import pytest

from devnull.eval.comparing.gates import check_gates, describe_gates
from devnull.eval.statistics import Estimate


def arm(valid: float | None, attempts: float | None) -> dict[str, Estimate]:
    return {
        name: Estimate(value=value, low=None, high=None, n=100, undefined=value is None)
        for name, value in (("valid_action_share", valid), ("attempt_rate", attempts))
    }


@pytest.mark.parametrize(
    ("valid", "attempts", "failed"),
    [
        (0.97, 0.85, []),
        (0.9699, 1.0, ["valid_action_share"]),
        (1.0, 0.849, ["attempt_rate"]),
        (None, None, ["valid_action_share", "attempt_rate"]),
    ],
)
def test_an_arm_passes_with_the_least_value_and_not_below(
    valid: float | None, attempts: float | None, failed: list[str]
) -> None:
    gates = check_gates({"partial": arm(valid, attempts), "other": arm(0.0, 0.0)}, ["partial"])
    assert [gate.metric for gate in gates if not gate.passed] == failed
    assert {gate.arm for gate in gates} == {"partial"}
    words = describe_gates(gates)
    assert words == "all passed" if not failed else all(f"partial: {name}" in words for name in failed)
    assert ("no verdict counts" in words) == bool(failed)
