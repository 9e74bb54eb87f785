"""Fixtures of all tests: real runtimes, and the rule that CI may not skip them."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.runtime import Runtime

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", str(Path(__file__).parent.parent / ".cache" / "matplotlib"))

NO_SKIP = os.environ.get("DEVNULL_NO_SKIP") == "1"
"""Set in CI: a test that needs a box fails where it would have been skipped."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needs_box = item.get_closest_marker("docker") or item.get_closest_marker("rootless")
    if NO_SKIP and report.skipped and needs_box and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where DEVNULL_NO_SKIP=1 forbids it: {report.longrepr}"
    return report


def runtime_or_skip(name: str) -> Runtime:
    from devnull.sandbox.choose import open_runtime

    try:
        return open_runtime(name)
    except InfrastructureError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def docker_runtime() -> Runtime:
    return runtime_or_skip("docker")


@pytest.fixture(scope="session")
def rootless_runtime() -> Runtime:
    return runtime_or_skip("rootless")
