"""Trains arms at once, each in a process of its own: while one takes its gradient, the others' boxes are made."""

import ctypes
import multiprocessing
import queue
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from devnull.cli.terminal.console import hush

if TYPE_CHECKING:
    from devnull.training.trl_run import OnStep

Train = Callable[[str, "OnStep"], None]
"""Trains the arm of that name. Goes to another process, so a function of a module, or a `partial` of one."""
_PR_SET_PDEATHSIG = 1
_steps: Any = None
"""In an arm's process: the queue of what its trainer reports."""


def train_side_by_side(train: Train, on_step: Mapping[str, "OnStep"]) -> None:
    """Trains every arm of `on_step`, which hears of its steps. Raises what the first arm that failed raised, once
    the others are done."""
    context = multiprocessing.get_context("spawn")
    reported = context.Queue()

    def hear() -> None:
        with suppress(queue.Empty):
            while True:
                arm, step = reported.get_nowait()
                on_step[arm](*step)

    with ProcessPoolExecutor(len(on_step), context, _begin, (reported,)) as pool:
        running: set[Future[None]] = {pool.submit(_train_one, train, arm) for arm in on_step}
        ended: set[Future[None]] = set()
        while running:
            done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            ended |= done
            hear()
    hear()  # what was still on its way when the processes ended
    for each in ended:
        each.result()


def _begin(reported: Any) -> None:
    """In the arm's process: it ends with the one that it works for, however that one ends."""
    global _steps
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _steps = reported
    hush()


def _train_one(train: Train, arm: str) -> None:
    train(arm, partial(_report, arm))


def _report(arm: str, step: int, total: int, logged: Mapping[str, float]) -> None:
    _steps.put((arm, (step, total, dict(logged))))
