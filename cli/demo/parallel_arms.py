"""Trains arms at once, each in a process of its own: while one takes its gradient, the others' boxes are made."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from devnull.cli.terminal.console import silence_libraries
from devnull.sandbox.errors import InfrastructureError

if TYPE_CHECKING:
    from devnull.training.trl_run import StepCallback

TrainArm = Callable[[str, "StepCallback"], None]
"""Trains the arm of that name. Goes to another process, so a function of a module, or a `partial` of one."""
_PR_SET_PDEATHSIG = 1


def train_in_parallel(train: TrainArm, on_step: Mapping[str, "StepCallback"]) -> None:
    """Trains every arm of `on_step`, and calls its callback, in this process, for each step that its trainer logs.

    Raises what the first arm that failed raised, once the others are done. Ends every process before it returns or
    raises, whatever it raises.
    """
    context = multiprocessing.get_context("spawn")
    processes = {}
    receivers: dict[Connection, str] = {}
    failures: list[Exception] = []
    try:
        with _interrupts_held_back():
            for arm in on_step:
                receiver, sender = context.Pipe(duplex=False)
                receivers[receiver] = arm
                processes[arm] = context.Process(target=_train_in_process, args=(train, arm, sender))
                processes[arm].start()
                sender.close()
        while receivers:
            for ready in wait([*receivers]):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except EOFError:
                    arm = receivers.pop(ready)
                    processes[arm].join()
                    if processes[arm].exitcode:
                        status = processes[arm].exitcode
                        failures.append(InfrastructureError(f"the process that trained {arm} ended with {status}"))
                    continue
                if isinstance(message, Exception):
                    failures.append(message)
                else:
                    on_step[receivers[ready]](*message)
    finally:
        for process in processes.values():
            process.kill()
            process.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C reaches this process after the block, and a process started in it not before it wants to."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _train_in_process(train: TrainArm, arm: str, sender: Connection) -> None:
    """In the arm's process: it is killed when the process that started it ends, however that one ends.

    A terminal's Ctrl-C comes to it too, and is left to the process that started it. A handler that does nothing, for
    what is ignored would be ignored by the boxes' processes as well.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it ended while this process began
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    silence_libraries()
    try:
        train(arm, partial(_send_step, sender))
    except Exception as error:
        error.add_note(traceback.format_exc())
        sender.send(error)


def _send_step(sender: Connection, step: int, total: int, logged: Mapping[str, float]) -> None:
    sender.send((step, total, dict(logged)))
