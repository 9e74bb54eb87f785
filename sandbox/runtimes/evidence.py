"""What shows that a box was ended by what ran in it, in words for `Box.ended_by_agent`."""

import signal

OUT_OF_MEMORY = "what ran in the box took all the memory that the box may use, until its supervisor was killed for it"
_CRASHES = {
    128 + number: number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
}


def crashed(status: int) -> str | None:
    """Of a supervisor that ended with `status`: nothing outside makes it crash; `None` where it did not."""
    number = _CRASHES.get(status)
    return None if number is None else f"what ran in the box made its supervisor crash ({number.name})"
