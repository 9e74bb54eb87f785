"""Our errors as Inspect AI prints them."""

from collections.abc import Iterator
from contextlib import contextmanager

from inspect_ai._util.error import PrerequisiteError

from devnull.sandbox.errors import InfrastructureError, InputError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input and boxes that cannot be had become Inspect's `PrerequisiteError`: one line, and no traceback."""
    try:
        yield
    except (InputError, InfrastructureError) as error:
        raise PrerequisiteError(str(error)) from error
