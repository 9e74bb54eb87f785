"""Measures the fault of every task in a rootless box and writes the tables of docs/corpus.md.

The tables stand between two marks in the page; everything around them is written by hand.
"""

import os
import re
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from devnull.sandbox.runtime import Runtime  # noqa: E402
from devnull.sandbox.runtimes.by_name import open_runtime  # noqa: E402
from devnull.sandbox.screen_text import screen_text  # noqa: E402
from devnull.sandbox.task import Task  # noqa: E402
from devnull.sandbox.task_check import run_commands  # noqa: E402
from devnull.sandbox.tasks import family_files, load_tasks  # noqa: E402

PAGE = ROOT / "docs" / "corpus.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
WIDTH = 110


def measured(task: Task, runtime: Runtime) -> tuple[int | None, str]:
    """Exit status of the stage's command when the fault strikes, and the line that gives it away."""
    stage = task.stage(task.fault.stage)
    commands = [each.command for each in task.stages[: task.stages.index(stage) + 1]]
    results, outcome = run_commands(task, runtime, faulty=True, commands=commands)
    evidence = outcome.stages[stage.name].evidence
    text = {"stderr": results[-1].stderr_text, "stdout": results[-1].shown, "none": evidence}[task.fault.evidence]
    text = screen_text(text)
    lines = [line.strip() for line in text.splitlines() if re.search(stage.failure, line, re.MULTILINE)]
    return results[-1].exit_code, (lines or [evidence.strip().splitlines()[-1] if evidence.strip() else "?"])[0]


def cell(text: str) -> str:
    text = text.replace("|", "\\|").replace("`", "'")
    return f"`{text[:WIDTH] + ('…' if len(text) > WIDTH else '')}`"


def tables(tasks: dict[str, Task], rows: dict[str, tuple[int | None, str]]) -> str:
    """One row a template: a fault is told once in a family, however many variants share it."""
    summaries = {path.stem: tomllib.loads(path.read_text())["summary"] for path in family_files()}
    templates: dict[tuple[str, str], list[Task]] = {}
    for task in tasks.values():
        templates.setdefault((task.family, task.fault.summary), []).append(task)
    silent = [each[0] for each in templates.values() if rows[each[0].name][0] == 0]
    held_out = sum(task.split == "test" for task in tasks.values())
    parts = [
        f"{len(templates)} templates in {len(summaries)} families, {len(tasks)} tasks with their variants, of which "
        f"{held_out} are held out. {len(silent)} faults end with exit status 0, "
        f"{sum(task.fault.evidence == 'none' for task in silent)} of them without a word.\n",
        "| family | templates | tasks | held out | exit statuses | exit 0, yet broken | what |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for family, summary in summaries.items():
        faults = [each for (of, _), each in templates.items() if of == family]
        names = [task.name for each in faults for task in each]
        held = sum(tasks[name].split == "test" for name in names)
        statuses = ", ".join(str(status) for status in sorted({rows[name][0] or 0 for name in names}))
        zero = sum(rows[each[0].name][0] == 0 for each in faults)
        parts.append(f"| {family} | {len(faults)} | {len(names)} | {held} | {statuses} | {zero} | {summary} |")
    for family in summaries:
        parts.append(f"\n### {family}\n\n| task | split | stages | exit | where | what it says | the fault |")
        parts.append("| --- | --- | --- | --- | --- | --- | --- |")
        parts += [row(each, *rows[each[0].name]) for (of, _), each in templates.items() if of == family]
    return "\n".join(parts)


def row(variants: list[Task], status: int | None, line: str) -> str:
    task, held = variants[0], sum(task.split == "test" for task in variants)
    where = {"stderr": "stderr", "stdout": "stdout", "none": "only when used"}[task.fault.evidence]
    if task.fault.evidence == "stderr" and not task.fault.hideable:
        where += ", stays shown"
    name, split = task.name.removeprefix(f"{task.family}-"), task.split
    if len(variants) > 1:
        name, split = f"{name} and {len(variants) - 1} variants", f"{len(variants) - held} train, {held} test"
    return f"| {' | '.join(map(str, (name, split, len(task.stages), status, where, cell(line), task.fault.summary)))} |"


def main() -> int:
    tasks = {name: task for name, task in load_tasks().items() if task.fault.p > 0}
    runtime = open_runtime("rootless", lambda line: print(line, file=sys.stderr))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda task: measured(task, runtime), tasks.values())
        rows = dict(zip(tasks, found, strict=True))
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(tasks, rows)}\n\n{END}{after}")
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(rows)} faults measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
