"""What can go wrong outside the agent. Neither kind is ever scored as an agent's failure."""

import difflib
from collections.abc import Iterable

from devnull.sandbox.command import CommandResult


class InputError(ValueError):
    """The user asked for something that cannot be: unknown name, bad value, malformed file.

    The message names the thing, the value and the fix; the command line prints it and exits 2.
    """


class InfrastructureError(RuntimeError):
    """The world broke, not the agent: no daemon, no image, a dead box, a full disk.

    The message names the fix; an episode that meets one records it in `Episode.error` and is
    retried as a new episode, never scored. The command line prints it and exits 1.
    """


class RuntimeUnavailable(InfrastructureError):
    """No box can be started at all: daemon down, user namespaces forbidden."""


class ImageMissing(InfrastructureError):
    """The task image or root file system has not been built."""


class ImageBuildFailed(InfrastructureError):
    """The recipe of the image did not run through; the message ends with the builder's last lines."""


class BoxDied(InfrastructureError):
    """A box ended, or stopped answering, in the middle of a session."""

    by_agent: str | None = None
    """What shows that the box's own processes ended it: then it is the agent's doing, and the verifier's to judge.
    `None`: nothing does; whether it was the agent or the world is not determined."""
    unfinished: CommandResult | None = None
    """The record, as far as it came, of the agent's command in which it happened."""


class WorldDiffers(InfrastructureError):
    """A box did not give again what a remembered world told of it (`runtimes/remembered.py`)."""


class HostDiskFull(InfrastructureError):
    """The host has no room left for a box or a result."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: `; did you mean 'honest'?`, or nothing where none is near."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
