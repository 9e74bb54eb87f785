"""Fixtures of all tests: real runtimes, and the rule that CI may not skip them."""

import os
import shutil
import site
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.runtime import Runtime

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / ".cache" / "matplotlib"))

# The same examples each time, however busy the machine: what fails here fails for everybody.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("repeatable")

NO_SKIP = os.environ.get("DEVNULL_NO_SKIP") == "1"
"""Set in CI: a test that needs a box or a browser fails where it would have been skipped."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, then those with many tests.

    `make test` deals out whole files in this order, and no worker is left alone with a long one at the end.
    """
    count = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -count[item.path], str(item.path)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needs_set_up = any(item.get_closest_marker(name) for name in ("docker", "rootless", "browser"))
    needs_more = item.get_closest_marker("cgroup")  # of the machine, which no set-up brings
    if NO_SKIP and report.skipped and needs_set_up and not needs_more and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where DEVNULL_NO_SKIP=1 forbids it: {report.longrepr}"
    return report


def runtime_or_skip(name: str) -> Runtime:
    from devnull.sandbox.runtimes.by_name import open_runtime

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


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left behind in the checkout and nothing left there gets in."""
    source, out = tmp_path_factory.mktemp("source") / "devnull", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    rooms = ("sandbox", "agents", "theory", "rewards", "training", "eval", "cli", "integrations")
    for room in (*rooms, "src", "examples", "benchmarks"):
        shutil.copytree(ROOT / room, source / room, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    (source / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "devnull", source / "scripts")
    for name in ("pyproject.toml", "README.md", "LICENSE", "Dockerfile"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, source]
    subprocess.run(command, check=True)
    (built,) = out.glob("devnull-*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `devnull` of an environment that holds the wheel, and the tests' environment's other packages.

    A plain path in a `.pth` file brings the packages of that folder, but not what its own `.pth` files add: the
    editable install of the checkout stays out.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin" / "devnull"
