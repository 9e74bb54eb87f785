"""How long exact answers take, and how they grow: `python -m benchmarks.theory` prints docs/theory.md's table."""

import time
from collections.abc import Callable

import numpy as np

from devnull.theory.errors import TooLarge
from devnull.theory.policies import PolicyClass
from devnull.theory.random_models import random_returns
from devnull.theory.solve import solve


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Shortest of several calls, in seconds."""
    return min(seconds(work) for _ in range(repeats))


def row(S: int, A: int, horizon: int, kind: PolicyClass = "stationary") -> str:
    """One line of a table: a random dense problem with two observations."""
    try:
        returns = random_returns(np.random.default_rng(0), S, A, 2, horizon)
        sizes = f"{len(returns.G)} | {len(returns.believed)}"
        enumerate_time = best_of(3, lambda: random_returns(np.random.default_rng(0), S, A, 2, horizon))
        solve_time = best_of(3, lambda: solve(returns, kind))
    except TooLarge as refusal:
        return f"| {S} | {A} | {horizon} | {kind} | | | | refused: {refusal} |"
    return f"| {S} | {A} | {horizon} | {kind} | {sizes} | {enumerate_time * 1e3:.0f} | {solve_time * 1e3:.0f} |"


def main() -> None:
    """Prints the sweep's time and the table."""

    def sweep() -> None:
        rng = np.random.default_rng(0)
        for _ in range(200):
            solve(random_returns(rng, S=5, A=3, O=3, horizon=3))

    print(f"200 models of S=5, A=3, O=3, horizon 3, built and solved: {best_of(3, sweep):.2f} s\n")
    print("| S | A | horizon | policies | N | M | build ms | solve ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for S in (3, 5, 7, 9):
        print(row(S, 3, 3), flush=True)
    for A in (2, 4, 6, 8):
        print(row(5, A, 3), flush=True)
    for horizon in (1, 2, 4, 5):
        print(row(5, 3, horizon), flush=True)
    for S, A, horizon in ((3, 3, 3), (4, 2, 3), (5, 3, 3)):
        print(row(S, A, horizon, "time"), flush=True)
    for S, A, horizon in ((5, 3, 3), (7, 3, 3), (5, 3, 4)):
        print(row(S, A, horizon, "history"), flush=True)
    print(row(20, 3, 6), flush=True)
    print(row(14, 3, 2), flush=True)


if __name__ == "__main__":
    main()
