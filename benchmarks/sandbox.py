"""Boxes a second, side by side: ours over both runtimes, docker-py's `exec_run`, Inspect's docker sandbox where it and
Compose are installed, and what nobody can beat.

An episode is a fresh box, four trivial commands, and its end. The contestants take turns, round by round, in
one process, so that a busy machine slows all of them; trust the ratios. `--install` also times real pip, apt and
make under the trace and without it.
"""

import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import docker
import tyro
from rich.console import Console
from rich.table import Table

from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.runtimes.docker import DockerRuntime, container_settings
from devnull.sandbox.runtimes.rootless import RootlessRuntime
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import find_task, load_tasks

COMMANDS = ("true", "cd /tmp", "echo out", "echo err >&2")


@dataclass(frozen=True)
class Args:
    rounds: int = 5
    """Turns that each contestant takes."""
    workers: int = 8
    """Boxes at once, in the second figure of ours."""
    install: bool = False
    """Time pip, apt and make under the trace and without it, too."""
    json: bool = False
    """Print JSON."""


@dataclass
class Episode:
    """Milliseconds of one episode's parts."""

    start: float
    command: float
    total: float


@dataclass(frozen=True)
class Contestant:
    name: str
    episode: Callable[[], Episode]
    batch: int
    """Episodes in one turn."""


@dataclass(frozen=True)
class Row:
    name: str
    start_ms: float
    command_ms: float
    episode_ms: float
    episodes_per_second: float
    with_workers: float
    """Episodes a second with several boxes at once."""


def ours(runtime: Runtime) -> Callable[[], Episode]:
    def episode() -> Episode:
        begun = time.perf_counter()
        session = runtime.start(Limits())
        started = time.perf_counter()
        for command in COMMANDS:
            session.run(command)
        ran = time.perf_counter()
        session.close()
        return timed(begun, started, ran)

    return episode


def exec_run(client: docker.DockerClient, image: str) -> Callable[[], Episode]:
    """The usual way: a container that sleeps, and one `docker exec` a command."""

    def episode() -> Episode:
        begun = time.perf_counter()
        container = client.containers.run(
            image, ["sleep", "1000"], entrypoint=[], detach=True, network_mode="none", init=True
        )
        started = time.perf_counter()
        for command in COMMANDS:
            container.exec_run(["bash", "-c", command], demux=True)
        ran = time.perf_counter()
        container.remove(force=True)
        return timed(begun, started, ran)

    return episode


def bare_container(client: docker.DockerClient, image: str) -> Callable[[], Episode]:
    """What Docker itself takes for our container: created, started, removed, nothing run in it."""

    def episode() -> Episode:
        begun = time.perf_counter()
        container = client.containers.create(
            image, entrypoint=["/bin/sleep", "1000"], command=[], hostname="box", **container_settings(Limits())
        )
        container.start()
        started = time.perf_counter()
        container.remove(force=True)
        return timed(begun, started, started)

    return episode


COMPOSE = """services:
  default:
    image: {image}
    x-local: true
    init: true
    entrypoint: ["sleep", "1000"]
    network_mode: none
"""


def inspect_sandbox(image: str, folder: Path) -> Callable[[], Episode]:
    """Inspect's docker sandbox, without its check of the engine's version. `ImportError` if it cannot be had."""
    from inspect_ai.util._sandbox.docker.cleanup import project_cleanup_startup
    from inspect_ai.util._sandbox.docker.docker import DockerSandboxEnvironment as Sandbox

    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        raise ImportError("it needs Docker Compose")
    config = folder / "compose.yaml"
    config.write_text(COMPOSE.format(image=image))

    async def play() -> Episode:
        project_cleanup_startup()
        begun = time.perf_counter()
        boxes = await Sandbox.sample_init("bench", str(config), {})
        started = time.perf_counter()
        for command in COMMANDS:
            await boxes["default"].exec(["bash", "-c", command])
        ran = time.perf_counter()
        await Sandbox.sample_cleanup("bench", str(config), boxes, False)
        return timed(begun, started, ran)

    return lambda: asyncio.run(play())


def floor() -> Episode:
    """No box at all: one bash a command."""
    begun = time.perf_counter()
    for command in COMMANDS:
        subprocess.run(["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return timed(begun, begun, time.perf_counter())


def timed(begun: float, started: float, ran: float) -> Episode:
    total = (time.perf_counter() - begun) * 1000
    return Episode((started - begun) * 1000, (ran - started) * 1000 / len(COMMANDS), total)


def contest(contestants: list[Contestant], args: Args) -> list[Row]:
    """Every contestant's turns, in rounds; medians over all its episodes."""
    episodes: dict[str, list[Episode]] = {c.name: [] for c in contestants}
    rates: dict[str, list[float]] = {c.name: [] for c in contestants}
    for contestant in contestants:
        contestant.episode()  # the first one warms caches
    for _ in range(args.rounds):
        for c in contestants:
            episodes[c.name] += [c.episode() for _ in range(c.batch)]
            with ThreadPoolExecutor(args.workers) as pool:
                begun = time.perf_counter()
                list(pool.map(lambda _, c=c: c.episode(), range(2 * c.batch)))
                rates[c.name].append(2 * c.batch / (time.perf_counter() - begun))
    rows = []
    for name, of in episodes.items():
        median = statistics.median(episode.total for episode in of)
        rows.append(
            Row(
                name,
                statistics.median(episode.start for episode in of),
                statistics.median(episode.command for episode in of),
                median,
                1000 / median,
                statistics.median(rates[name]),
            )
        )
    return rows


INSTALLS = {
    "pip": ("pip-requires-python", "/opt/venv/bin/pip install jadeite"),
    "apt": ("apt-unmet-dependency", "apt-get install -y kestrel"),
    "make": (
        None,
        "mkdir /m && cd /m && for i in $(seq 41); do echo \"int f$i(int x) { return x + $i; }\" >f$i.c; done && "
        "printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n%%.o: %%.c\\n\\tcc -O1 -c $< -o $@\\n' >Makefile && make",
    ),
}  # fmt: skip


def tracing(client: docker.DockerClient, image: str, runtime: Runtime, rounds: int) -> dict[str, float]:
    """Seconds of each install under the trace, over the same in a container without it: medians of ratios."""
    ratios = {}
    for name, (task, command) in INSTALLS.items():
        setup = sound(task).setup if task else "true"
        found = []
        for _ in range(rounds):
            container = client.containers.run(
                image, ["-c", "exec sleep 1000"], entrypoint=["/bin/bash"], detach=True, network_mode="none", init=True
            )
            timed = f"s=$(date +%s%N); {{ {command}; }} >/dev/null 2>&1; e=$(date +%s%N); echo $((e - s))"
            script = f"({setup}); cd; {timed}"
            environment = {"DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8", "HOME": "/root"}
            said = container.exec_run(["bash", "-c", script], environment=environment, tty=True)
            container.remove(force=True)
            session = runtime.start(Limits())
            session.run(f"({setup}); cd")
            result = session.run(f"{{ {command}; }} >/dev/null 2>&1")
            session.close()
            if result.exit_code != 0:
                raise InfrastructureError(f"{name}: {command!r} ended with {result.exit_code}: {result.stderr_text!r}")
            found.append(result.seconds / (int(cast(bytes, said.output)) / 1e9))
        ratios[name] = statistics.median(found)
    return ratios


def sound(task: str) -> Instance:
    """An episode of the task whose package is not the faulty build."""
    found = find_task(task, load_tasks())
    return next(instance for seed in range(100) if not (instance := Instance(task=found, seed=seed)).faulty)


def memory_of_a_box(runtime: Runtime, n: int = 10) -> dict[str, float]:
    """Kilobytes that a live box of ours holds in its supervisor and launcher: proportional share, bash left out."""
    sessions = [runtime.start(Limits()) for _ in range(n)]
    sizes = {"supervisor": 0, "bash": 0}
    try:
        for session in sessions:
            launcher = session._box._process.pid  # type: ignore[attr-defined]
            for pid in family(launcher):
                who = "bash" if Path(f"/proc/{pid}/comm").read_text().strip() == "bash" else "supervisor"
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                sizes[who] += int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))
    finally:
        for session in sessions:
            session.close()
    return {who: size / n for who, size in sizes.items()}


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def show(rows: list[Row], args: Args, more: dict[str, Any]) -> None:
    table = Table("episode of 4 trivial commands", "start ms", "per command ms", "episode ms", "episodes/s")
    table.add_column(f"with {args.workers} workers")
    peers = [peer for peer in rows if "exec_run" in peer.name or "Inspect" in peer.name]
    for peer in peers:
        table.add_column(f"× {peer.name}")
    for row in rows:
        figures = (row.start_ms, row.command_ms, row.episode_ms, row.episodes_per_second, row.with_workers)
        ratios = (row.episodes_per_second / peer.episodes_per_second for peer in peers)
        table.add_row(row.name, *(f"{x:.2f}" for x in figures), *(f"{x:.1f}" for x in ratios))
    console = Console()
    console.print(table)
    for name, value in more.items():
        console.print(f"{name}: {value}")


def main(args: Args) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return bench(args, Path(folder))


def bench(args: Args, folder: Path) -> int:
    from devnull.sandbox.image.docker_image import ensure_image
    from devnull.sandbox.image.rootfs import ensure_rootfs

    say = Console(stderr=True).print
    rootless = RootlessRuntime(ensure_rootfs(say))
    contestants = [Contestant("floor: 4 × fork+exec bash", floor, 10), Contestant("rootless", ours(rootless), 10)]
    more: dict[str, Any] = {"load before": os.getloadavg()[0], "processors": os.cpu_count()}
    try:
        image = ensure_image(say)
    except InfrastructureError as error:
        say(f"{error}; measuring without docker")
    else:
        client = docker.from_env(max_pool_size=64)
        container = DockerRuntime(image)
        contestants += [
            Contestant("docker", ours(container), 2),
            Contestant("docker: create, start, remove", bare_container(client, image), 2),
            Contestant("docker-py exec_run", exec_run(client, image), 2),
        ]
        try:
            inspect = inspect_sandbox(image, folder)
        except ImportError as error:
            say(f"measuring without Inspect's docker sandbox: {error}")
        else:
            contestants.append(Contestant("Inspect's docker sandbox", inspect, 1))
        if args.install:
            more["traced ÷ untraced"] = {
                name: round(ratio, 2) for name, ratio in tracing(client, image, container, args.rounds).items()
            }
    if os.getuid() == 0:
        more["KiB of a live rootless box"] = {who: round(size) for who, size in memory_of_a_box(rootless).items()}
    rows = contest(contestants, args)
    more["load after"] = os.getloadavg()[0]
    if args.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], **more}, indent=2))
    else:
        show(rows, args, more)
    return 0


if __name__ == "__main__":
    status = main(tyro.cli(Args, description=__doc__))
