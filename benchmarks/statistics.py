"""How often intervals cover and verdicts err, by simulation; docs/metrics.md holds the tables that this prints.

Each cell draws many made-up runs and asks the functions that `devnull eval` asks. Takes some minutes on two cores;
`devnull bench statistics -- --quick` a tenth of it, with a tenth of the draws.
"""

import argparse
import multiprocessing
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from devnull.eval.clusters import Clusters
from devnull.eval.comparing.mean_differences import PairedSample, mean_differences
from devnull.eval.comparing.pairing import QUANTITIES
from devnull.eval.comparing.seeds import crossed_mean
from devnull.eval.comparing.verdicts import decide
from devnull.eval.intervals import t_quantile
from devnull.eval.statistics import estimate_ratio

Array = NDArray[np.float64]
Cell = Callable[[int], list[str]]
"""Draws so many made-up runs and returns the cells of one table's row, or a part of it."""

_DESIGNS = ((8, 6), (20, 4), (40, 4), (100, 4))
"""Tasks × episodes a task."""
_RATES = (0.02, 0.05, 0.1, 0.2, 0.5)
_LARGEST = 15.0
"""Of the gaps that the reward table allows; the ones that come are 1 to 7, evenly."""
_SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: 1 - rng.exponential(size=shape),
    "lognormal": lambda rng, shape: (np.exp(0.5) - rng.lognormal(size=shape)) / np.sqrt(np.e * (np.e - 1)),
}
"""Differences of mean 0 and variance 1 between tasks; the skewed ones have their long tail below."""


def _generator(*what: object) -> np.random.Generator:
    """The same draws for the same cell, whichever process it runs in."""
    return np.random.default_rng(zlib.crc32(repr(what).encode()))


def _outcomes(rng: np.random.Generator, tasks: int, each: int, rate: float, correlation: float) -> Array:
    """0/1 of `(tasks * each,)`, whose chance differs from task to task (beta-binomial)."""
    spread = (1 - correlation) / correlation
    chances = rng.beta(rate * spread, (1 - rate) * spread, (tasks, 1))
    return (rng.random((tasks, each)) < chances).astype(float).ravel()


def cover_rates(tasks: int, each: int, correlation: float, sized: bool, repeats: int) -> list[str]:
    """Coverage (and mean width) at each rate, of a share, or of the mean of gaps of 1 to 7 that come so often."""
    cluster = Clusters([(f"t{task:03d}", seed) for task in range(tasks) for seed in range(each)])
    ones, limits = [1.0] * (tasks * each), [(0.0, _LARGEST)] * (tasks * each)
    cells = []
    for rate in _RATES:
        rng = _generator("rates", tasks, each, correlation, sized, rate)
        truth, hits, width = rate * (4 if sized else 1), 0, 0.0
        for _ in range(repeats):
            values = _outcomes(rng, tasks, each, rate, correlation)
            if sized:
                got = estimate_ratio(list(values * rng.uniform(1, 7, len(values))), ones, cluster, limits=limits)
            else:
                got = estimate_ratio(list(values), ones, cluster, bounded=True)
            assert got.low is not None and got.high is not None
            hits += got.low <= truth <= got.high
            width += (got.high - got.low) / repeats
        cells.append(f"{100 * hits / repeats:.1f} ({width:.2f})")
    return cells


def _bounds(effects: Array) -> tuple[Array, Array]:
    """One-sided bounds from instance differences `(runs, tasks, episodes, columns)`."""
    each = effects.shape[2]
    means = effects.mean(axis=2)
    noise = np.zeros((2, len(effects), effects.shape[3]))
    if each > 1:
        away = (effects - means[:, :, None]) / each
        noise[0] = each / (each - 1) * (away**2).sum(axis=2).mean(axis=1)
        noise[1] = each**2 / ((each - 1) * max(1, each - 2)) * (away**3).sum(axis=2).mean(axis=1)
    sample = PairedSample(means, np.zeros(means.shape[1], int), noise, each, np.full(effects.shape[3], 20.0))
    return mean_differences(sample)[1:]


def _answers(effects: Array) -> tuple[float, float]:
    """How often deceptive inflation is yes, and no, where `effects` holds J_obs and E_plus in its two columns."""
    every = np.zeros((*effects.shape[:-1], len(QUANTITIES)))
    every[..., QUANTITIES.index("J_obs")], every[..., QUANTITIES.index("E_plus")] = effects[..., 0], effects[..., 1]
    yes, no = decide(*_bounds(every))["deceptive_inflation"]
    return float(yes.mean()), float(no.mean())


def verdict_errors(shape: str, tasks: int, repeats: int) -> list[str]:
    """False yes, where J_obs doesn't differ and Ē+ surely does (the worst case); false no, where neither differs, so
    that any rise however small makes it false, with the long tail above."""
    rng = _generator("verdicts", shape, tasks)
    runs = 4 * repeats
    if shape == "demo-like":
        quiet = _demo_like(rng, runs, tasks, 6, rise=0.0)
        certain = np.stack([quiet[..., 0], 1 + 0.01 * rng.normal(size=quiet.shape[:-1])], axis=-1)
        return [f"{_answers(certain)[0]:.3f} / {_answers(quiet)[1]:.3f}"]
    drawn = _SHAPES[shape](rng, (runs, tasks, 1, 2))
    certain = np.stack([drawn[..., 0], 5 + 0.1 * rng.normal(size=drawn.shape[:-1])], axis=-1)
    return [f"{_answers(certain)[0]:.3f} / {_answers(-drawn)[1]:.3f}"]


def _demo_like(rng: np.random.Generator, runs: int, tasks: int, each: int, rise: float) -> Array:
    """J_obs and Ē+ of a policy minus those of its warm start, on shared instances `(runs, tasks, each, 2)`.

    Half of the instances are faulty; there the warm start hides 0.3 of the failures it meets and the policy `rise`
    more, each give or take 0.15 from task to task. 0.95 of the episodes try. The returns are the demo's.
    """
    faulty = rng.random((runs, tasks, each)) < 0.5
    sides: list[Array] = []
    for hiding in (0.3 + rise, 0.3):
        rate = np.clip(hiding + 0.15 * rng.normal(size=(runs, tasks, 1)), 0, 1)
        tries, hides = rng.random(faulty.shape) < 0.95, rng.random(faulty.shape) < rate
        believed = np.where(tries, np.where(faulty, np.where(hides, -1.5, -5.0), 11.0), 1.0)
        sides.append(np.stack([believed, np.where(tries & faulty & hides, 7.5, 0.0)], axis=-1))
    return sides[0] - sides[1]


def verdict_power(rise: float, designs: Sequence[tuple[int, int]], repeats: int) -> list[str]:
    """How often a true rise of hiding is called deceptive inflation, design by design."""
    return [
        f"{_answers(_demo_like(_generator('power', rise, tasks, each), repeats, tasks, each, rise))[0]:.2f}"
        for tasks, each in designs
    ]


def cover_seeds(seeds: int, tasks: int, repeats: int) -> list[str]:
    """Coverage of the pooled difference, where seeds, tasks and the rest each have a third of the variance; and where
    seeds do not differ."""
    cells = []
    for between in (1.0, 0.0):
        rng = _generator("seeds", seeds, tasks, between)
        hits = 0
        for _ in range(repeats):
            values = (
                between * rng.normal(size=(seeds, 1)) + rng.normal(size=(1, tasks)) + rng.normal(size=(seeds, tasks))
            )
            mean, error, freedom = crossed_mean(values)
            hits += abs(mean) <= t_quantile(freedom) * error
        cells.append(f"{100 * hits / repeats:.1f}")
    return cells


_POWER_DESIGNS = ((8, 6), (8, 14), (12, 8), (16, 6), (16, 12), (24, 12))


def _tables() -> list[tuple[str, list[str], list[tuple[str, Cell]]]]:
    """Title, columns, and rows as (name, cell)."""
    rates = [f"{rate:g}" for rate in _RATES]
    tables: list[tuple[str, list[str], list[tuple[str, Cell]]]] = [
        (
            f"{title}: coverage of nominal 95 % (mean width), by rate",
            rates,
            [
                (f"{tasks} × {each}, ICC {correlation}", partial(cover_rates, tasks, each, correlation, sized))
                for tasks, each in _DESIGNS
                for correlation in (0.1, 0.3)
            ],
        )
        for title, sized in (("Shares", False), ("Means of what is rare and large", True))
    ]
    return [
        *tables,
        (
            "Verdicts: false yes / false no, by tasks",
            ["8", "12", "20", "40", "100"],
            [
                (shape, partial(_each_size, partial(verdict_errors, shape), (8, 12, 20, 40, 100)))
                for shape in (*_SHAPES, "demo-like")
            ],
        ),
        (
            "Verdicts: power at demo-like differences, by tasks × episodes",
            [f"{tasks} × {each}" for tasks, each in _POWER_DESIGNS],
            [
                (f"hiding 0.30 → {0.3 + rise:.2f}", partial(verdict_power, rise, _POWER_DESIGNS))
                for rise in (0.33, 0.44, 0.6)
            ],
        ),
        (
            "Pooled training seeds: coverage of nominal 95 %",
            ["seeds differ", "seeds alike"],
            [
                (f"{seeds} seeds × {tasks} tasks", partial(cover_seeds, seeds, tasks))
                for seeds in (2, 3, 5)
                for tasks in (8, 20)
            ],
        ),
    ]


def _each_size(cell: Callable[[int, int], list[str]], sizes: Sequence[int], repeats: int) -> list[str]:
    return [text for size in sizes for text in cell(size, repeats)]


def _print_table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, list[str]]]) -> None:
    columns = list(columns)
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for name, cells in rows:
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="devnull bench statistics", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    parser.add_argument("--repeats", type=int, default=3000, help="made-up runs a cell")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="processes")
    args = parser.parse_args()
    repeats = max(1, args.repeats // 10) if args.quick else args.repeats
    tables, begun = _tables(), time.monotonic()
    print(f"{repeats} made-up runs a cell")
    total, done = sum(len(rows) for _, _, rows in tables), 0
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("fork")) as pool:
        jobs = [[(name, pool.submit(cell, repeats)) for name, cell in rows] for _, _, rows in tables]
        for (title, columns, _), row_jobs in zip(tables, jobs, strict=True):
            rows = []
            for name, job in row_jobs:
                rows.append((name, job.result()))
                done += 1
                print(f"\r{done} of {total} rows, {time.monotonic() - begun:.0f} s", end="", file=sys.stderr)
            print("\r", end="", file=sys.stderr)
            _print_table(title, columns, rows)
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
