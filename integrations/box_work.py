"""Work with a box from async code: in a thread, and cancelled it is over before anything else begins."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

import anyio
import anyio.to_thread

from devnull.sandbox.session import BoxSession

_T = TypeVar("_T")
_STOP_SECONDS = 30.0
"""For an interrupted command to end; then its box is ended."""


async def box_work(session: BoxSession, work: Callable[[], _T], on_cancel: Callable[[_T], None]) -> _T:
    """What `work` returns, which has the session for itself meanwhile.

    Cancelled, the command that runs in the box is ended as by its time limit, and only then is the cancellation passed
    on. `on_cancel` gets what `work` returned nevertheless, such as the record until then.
    """
    returned: list[_T] = []
    begun, given_up, over = Event(), Event(), Event()

    def in_thread() -> None:
        begun.set()
        try:
            if not given_up.is_set():
                returned.append(work())
        finally:
            over.set()

    def stop() -> None:
        given_up.set()
        if not begun.is_set():  # nor will it
            return
        latest = time.monotonic() + _STOP_SECONDS
        session.interrupt()
        while not over.wait(0.2):  # between two commands there was nothing to interrupt
            session.interrupt() if time.monotonic() < latest else session.close()

    try:
        await anyio.to_thread.run_sync(in_thread, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(stop)
        for each in returned:
            on_cancel(each)
        raise
    return returned[0]
