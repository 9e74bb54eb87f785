"""How long a report takes to build, against only reading the run, and how large its page is.

    devnull bench report
    devnull bench report -- 500 5000

Writes runs of made-up episodes (`benchmarks.eval`), once as runs are, which do the same few things again and again, and
once with every output different, the worst case. The floor is to read and check the episodes and do nothing with them.
Seconds are of one processor, the imports left out; each case runs in a process of its own, which knows nothing yet.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.benchmarks.eval import make_episodes
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_report import write_report
from devnull.sandbox.tasks import load_tasks


def _make_run(count: int, *, distinct: bool) -> Iterator[Episode]:
    tasks = [task for task in load_tasks().values() if task.family in ("driver-cuda", "verbose-build")]
    for number, episode in enumerate(make_episodes(tasks, count)):
        yield _with_number(episode, number) if distinct else episode


def _with_number(episode: Episode, number: int) -> Episode:
    """The same, but each command shows a number that no other episode does."""
    turns = tuple(
        turn
        if turn.result is None
        else turn.model_copy(
            update={"result": turn.result.model_copy(update={"shown": f"build {number}\r\n{turn.result.shown}"})}
        )
        for turn in episode.transcript.turns
    )
    return episode.model_copy(update={"transcript": episode.transcript.model_copy(update={"turns": turns})})


def measure_report(run: Path) -> tuple[float, float, float]:
    """Processor seconds to read the run and to build its report, and MiB of the page and the files beside it."""
    begun = time.process_time()
    for _ in read_episodes(run):
        pass
    read = time.process_time() - begun
    begun = time.process_time()
    write_report([run], run / "report.html")
    built = time.process_time() - begun
    files = [run / "report.html", *(run / "report-files").glob("*")]
    return read, built, sum(file.stat().st_size for file in files) / 2**20


def _measure_apart(run: Path) -> tuple[float, float, float]:
    code = (
        "import sys, pathlib; from devnull.benchmarks.report import measure_report; "
        "print(*measure_report(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, run], check=True, stdout=subprocess.PIPE, text=True)
    read, built, size = map(float, done.stdout.split())
    return read, built, size


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [500, 5_000]
    print(
        f"{'episodes':>8}  {'outputs':<9}  {'run MB':>6}  {'read s':>6}  {'report s':>8}  {'ratio':>5}  {'page MiB':>8}"
    )
    for count in counts:
        for distinct in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                lines = Path(folder) / "episodes.jsonl"
                with lines.open("w") as file:
                    file.writelines(f"{each.model_dump_json()}\n" for each in _make_run(count, distinct=distinct))
                read, built, size = _measure_apart(Path(folder))
                print(
                    f"{count:8,}  {'different' if distinct else 'repeating':<9}  {lines.stat().st_size / 1e6:6.1f}  "
                    f"{read:6.2f}  {built:8.2f}  {built / read:5.1f}  {size:8.2f}"
                )


if __name__ == "__main__":
    main()
