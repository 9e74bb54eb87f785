"""The collector is paused within, and runs again afterwards, whatever happened."""

import gc

import pytest

from devnull.cli.runs.garbage import collector_paused


def test_pauses_the_collector_and_lets_it_run_again() -> None:
    with pytest.raises(KeyError), collector_paused():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_leaves_a_paused_collector_paused() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
