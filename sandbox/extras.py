"""Packages that only some commands need: each is an extra of the distribution, `pip install 'devnull[EXTRA]'`."""

import importlib.util

from devnull.sandbox.errors import InputError


def require(package: str, extra: str, why: str) -> None:
    """Raises `InputError`, naming the fix, unless `package` can be imported; imports nothing itself.

    Args:
        package: The module to look for, e.g. `inspect_ai`.
        extra: The extra that brings it, e.g. `inspect`.
        why: What wants it, the beginning of the message, e.g. `--to inspect`.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{why} wants the package {package.replace('_', '-')}; pip install 'devnull[{extra}]'")
