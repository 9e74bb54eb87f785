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

from devnull.cli.terminal.console import silence_libraries

if TYPE_CHECKING:
    from devnull.training.trl_run import StepCallback

TrainArm = Callable[[str, "StepCallback"], None]
"""Trains the arm of that name. Goes to another process, so a function of a module, or a `partial` of one."""
_PR_SET_PDEATHSIG = 1
_steps: Any = None
"""In an arm's process: the queue of what its trainer logs."""


def train_in_parallel(train: TrainArm, on_step: Mapping[str, "StepCallback"]) -> None:
    """Trains every arm of `on_step`, and calls its callback, in this process, for each step that its trainer logs.

    Raises what the first arm that failed raised, once the others are done.
    """
    context = multiprocessing.get_context("spawn")
    steps = context.Queue()

    def forward_steps() -> None:
        with suppress(queue.Empty):
            while True:
                arm, step = steps.get_nowait()
                on_step[arm](*step)

    with ProcessPoolExecutor(len(on_step), context, _start_process, (steps,)) as pool:
        running: set[Future[None]] = {pool.submit(_train_in_process, train, arm) for arm in on_step}
        ended: set[Future[None]] = set()
        while running:
            done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            ended |= done
            forward_steps()
    forward_steps()  # what was still on its way when the processes ended
    for each in ended:
        each.result()


def _start_process(steps: Any) -> None:
    """In the arm's process: it is killed when the process that started it ends, however that one ends."""
    global _steps
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _steps = steps
    silence_libraries()


def _train_in_process(train: TrainArm, arm: str) -> None:
    train(arm, partial(_send_step, arm))


def _send_step(arm: str, step: int, total: int, logged: Mapping[str, float]) -> None:
    _steps.put((arm, (step, total, dict(logged))))
