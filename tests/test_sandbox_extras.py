"""What only some commands need: its lack is named, with the extra that brings it."""

import pytest

from devnull.sandbox.errors import InputError, did_you_mean
from devnull.sandbox.extras import require


def test_a_package_that_is_there_passes() -> None:
    require("pydantic", "none", "this test")


def test_one_that_is_not_is_named_with_its_extra() -> None:
    with pytest.raises(
        InputError, match=r"^--to nothing wants the package no-such-package; pip install 'devnull\[nothing\]'$"
    ):
        require("no_such_package", "nothing", "--to nothing")


def test_the_nearest_name_is_suggested_or_nothing() -> None:
    assert did_you_mean("honset", ["hiding", "honest"]) == "; did you mean 'honest'?"
    assert did_you_mean("xyz", ["hiding", "honest"]) == ""
