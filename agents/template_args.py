"""Arguments of chat templates as settings: `enable_thinking=false`."""

import json
from collections.abc import Sequence
from typing import Any

from devnull.sandbox.errors import InputError


def parse_template_args(words: Sequence[str]) -> dict[str, Any]:
    """From `NAME=VALUE` words to the arguments; a value that is no JSON is a string.

    Raises `InputError` for a word of another form, or a name that comes twice.

    Example:
        parse_template_args(["enable_thinking=false"])  # {"enable_thinking": False}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"template_args: {word!r} is not NAME=VALUE, as in enable_thinking=false")
        if name in found:
            raise InputError(f"template_args: {name} is there twice; give it one value")
        try:
            found[name] = json.loads({"True": "true", "False": "false"}.get(value, value))
        except ValueError:
            found[name] = value
    return found
