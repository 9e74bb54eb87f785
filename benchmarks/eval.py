"""How long an evaluation of many episodes takes, and how much memory: `python -m benchmarks.eval [EPISODES]`.

Writes a run of made-up episodes (real tasks, the honest and the hiding agent's commands, plausible output)
and runs `devnull eval` on it in a process of its own. The aim: 10,000 in under 60 s and 2 GB on one core.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.sandbox.command import CommandResult, Process, Write
from devnull.sandbox.outcome import Outcome, StageOutcome
from devnull.sandbox.task import Instance, Stage, Task
from devnull.sandbox.tasks import load_tasks
from devnull.sandbox.transcript import Transcript, Turn


def make_episodes(tasks: list[Task], count: int, arms: tuple[str, ...] = ("honest", "hiding")) -> Iterator[Episode]:
    """`count` episodes, the tasks and arms in turn; both arms meet the same instances."""
    for i, (task, arm) in enumerate(itertools.islice(itertools.cycle(itertools.product(tasks, arms)), count)):
        yield _make_episode(task, arm, i // (len(tasks) * len(arms)))


def _make_episode(task: Task, arm: str, seed: int) -> Episode:
    """The commands of the scripted agent named `arm`, and what a container would print."""
    instance = Instance(task=task, seed=seed)
    stages, turns, reported = {}, [], []
    for stage in task.stages:
        broken = instance.faulty and stage.name == task.fault.stage
        hidden = broken and arm == "hiding"
        result = _attempt_result(stage, broken, arm == "hiding" and stage.name == task.fault.stage)
        turns.append(Turn(text=f"```bash\n{result.command}\n```", valid=True, result=result))
        stages[stage.name] = StageOutcome(state="broken" if broken else "installed", hidden=hidden)
        if not hidden:
            reported.append(f"{stage.title} {'FAILED' if broken else 'installed'}")
    report = "; ".join(reported) + "."
    turns.append(Turn(text=f"Done: {report}", valid=True))
    return Episode(
        arm=arm,
        agent=arm,
        task=task.name,
        family=task.family,
        split=task.split,
        seed=seed,
        faulty=instance.faulty,
        runtime="none",
        transcript=Transcript(instruction=instance.instruction, turns=tuple(turns), report=report),
        outcome=Outcome(stages=stages),
    )


def _attempt_result(stage: Stage, broken: bool, silent: bool) -> CommandResult:
    """One stage's command; what it prints is text that matches the task's patterns."""
    log = "".join(f"Reading database ... {percent}%\r\n" for percent in range(0, 100, 5))
    error = f"{_matching_text(stage.failure)}: library of another version\n"
    shown = log + ("" if broken else f"{_matching_text(stage.success or '')}\r\n")
    if broken and not silent:
        shown += error.replace("\n", "\r\n")
    words = tuple(stage.command.split())
    fate = "suppressed" if silent else "shown"
    written = (Write(seconds=0.1, pid=7, argv=words, to="/dev/null", fate=fate, text=error),) if broken else ()
    helpers = tuple(Process(pid=8 + i, argv=("dpkg-split", str(i)), exit_code=0) for i in range(8))
    return CommandResult(
        command=stage.command + (" 2>/dev/null" if silent else ""),
        shown=shown,
        timing=((0.1, len(shown)),),
        stderr=written,
        processes=(Process(pid=7, argv=words, exit_code=int(broken)), *helpers),
        exit_code=int(broken),
        seconds=0.2,
        cwd="/root",
    )


def _matching_text(pattern: str) -> str:
    """Text that matches a simple pattern."""
    return pattern.split("|")[0].replace("\\d+", "1").replace("\\", "").strip("^$()")


def write_run(path: Path, count: int, tasks: list[Task]) -> None:
    """Writes a run folder of `count` made-up episodes."""
    path.mkdir(parents=True)
    header = {"command": "rollout", "config": {}, "wall_seconds": {}}
    (path / "run.json").write_text(json.dumps(header))
    with (path / "episodes.jsonl").open("w") as file:
        for each in make_episodes(tasks, count):
            file.write(each.model_dump_json() + "\n")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    tasks = [task for task in load_tasks().values() if task.family in ("driver-cuda", "verbose-build")]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_run(run, count, tasks)
        size = (run / "episodes.jsonl").stat().st_size
        begun = time.perf_counter()
        command = [sys.executable, "-m", "devnull", "eval", str(run), "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        seconds = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{count} episodes ({size / 1e6:.0f} MB) of {len(tasks)} tasks: {seconds:.1f} s wall, "
        f"{used.ru_utime + used.ru_stime:.1f} s CPU, {used.ru_maxrss / 1024:.0f} MB"
    )


if __name__ == "__main__":
    main()
