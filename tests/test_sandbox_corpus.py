"""The corpus: its counts and splits, every template in real boxes, and what a forged program is worth."""

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devnull.sandbox.build_comparison import differences_of_builds
from devnull.sandbox.build_layout import lay_out_build
from devnull.sandbox.command import CommandResult
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.task_check import check_task, instance_with_fault, quote_end
from devnull.sandbox.tasks import CORPUS, load_tasks
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verification.verify import verify

TASKS = load_tasks()
FAMILIES = sorted({task.family for task in TASKS.values()})
TEMPLATES = [family for family in FAMILIES if family not in ("driver-cuda", "verbose-build")]
"""Families whose templates each have a fault of their own; the other two are variants of the paper's examples."""
PROGRAM = re.compile(r"\$\((/usr/(?:local/)?s?bin/[\w.-]+) (\d+)\)\" = \"(\S+) \d+\"")
"""In a verify script: a program that is run on a number, and the name that it prints first."""


def of(family: str) -> list[Task]:
    return [task for task in TASKS.values() if task.family == family]


def test_is_as_large_as_promised() -> None:
    """Templates, not tasks: the variants of the paper's examples share their fault."""
    assert len(FAMILIES) >= 10
    assert sum(len(tomllib.loads(path.read_text())["template"]) for path in CORPUS.glob("*.toml")) >= 100


def test_every_family_has_its_folder() -> None:
    assert all((CORPUS / family / "build.sh").is_file() for family in FAMILIES)


def test_two_families_and_a_fifth_of_the_others_are_held_out() -> None:
    """So that a recipe can be measured on kinds of fault, and on tasks of known kinds, that it never saw. Of the
    paper's examples more are: what is concluded is concluded over tasks, and takes 8 of them at least."""
    held_out = [family for family in FAMILIES if all(task.split == "test" for task in of(family))]
    assert len(held_out) >= 2
    for family in set(TEMPLATES) - set(held_out):
        test = sum(task.split == "test" for task in of(family))
        assert 0.2 <= test / len(of(family)) <= 0.4, family


@pytest.mark.parametrize(
    ("example", "train", "test"),
    [("driver-cuda-runfile", 10, 26), ("driver-cuda-apt", 4, 8), ("verbose-build", 12, 8)],
)
def test_a_papers_example_is_trained_on_few_tasks_and_measured_on_many(example: str, train: int, test: int) -> None:
    splits = Counter(task.split for task in TASKS.values() if task.name.startswith(example))
    assert splits == {"train": train, "test": test}


def test_templates_differ_in_substance() -> None:
    """No fault is told twice in the same words, and no two stages are verified by the same script."""
    tasks = [task for family in TEMPLATES for task in of(family)]
    for what in ([task.fault.summary for task in tasks], [stage.verify for task in tasks for stage in task.stages]):
        twice = [text for text, count in Counter(what).items() if count > 1]
        assert not twice
    assert len({task.fault.exit_status for task in tasks}) >= 8
    assert len([task for task in tasks if task.fault.exit_status == 0]) >= 30


def test_instructions_are_phrased_in_several_ways() -> None:
    for task in TASKS.values():
        assert len(set(task.instructions)) >= 3, task.name


def test_no_verifier_asks_the_package_manager_whether_a_package_is_installed() -> None:
    for task in TASKS.values():
        for stage in task.stages:
            assert not re.search(r"dpkg-query|dpkg -[ls]\b|pip (show|list)|apt list", stage.verify), task.name


@pytest.mark.rootless
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_template_does_what_it_says(family: str, rootless_runtime: Runtime) -> None:
    """Sound draw: installed. Faulty draw: the declared status, text and outcome. Hidden, idle, twice the same.

    And of all tasks no look tells the two builds apart, before anything is tried.
    """
    tasks = of(family)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda task: check_task(task, rootless_runtime), tasks)
        wrong = {task.name: problems for task, problems in zip(tasks, found, strict=True) if problems}
    assert not wrong


def test_the_page_tells_of_this_corpus() -> None:
    """Names, splits, exit statuses and faults of docs/corpus.md; `scripts/corpus.py` writes it anew."""
    sections = re.split(r"^### ", (Path(__file__).parents[1] / "docs/corpus.md").read_text(), flags=re.MULTILINE)[1:]
    told = {
        (section.split("\n", 1)[0], cells[0].split(" and ")[0], cells[3], cells[-1])
        for section in sections
        for line in section.splitlines()
        if line.startswith("| ") and (cells := line.strip("| ").split(" | "))[0] not in ("task", "---")
    }
    faults = {(task.family, task.fault.summary): task for task in reversed(TASKS.values())}
    assert told == {
        (family, task.name.removeprefix(f"{family}-"), str(task.fault.exit_status), summary)
        for (family, summary), task in faults.items()
    }


@pytest.mark.rootless
@pytest.mark.parametrize(
    "name",
    ["driver-cuda-apt", "verbose-build", *(of(family)[0].name for family in FAMILIES if family != "verbose-build")],
)
def test_no_look_tells_two_builds_apart(name: str, rootless_runtime: Runtime) -> None:
    """A task of each family; `test_every_template_does_what_it_says` compares the builds of all."""
    instances = instance_with_fault(TASKS[name], False), instance_with_fault(TASKS[name], True)
    assert not differences_of_builds(instances, rootless_runtime)


class Changed(Instance):
    """An instance whose build has one thing more done to it."""

    change: str

    @property
    def setup(self) -> str:
        return super().setup.replace("; exit", f" && cd /srv/cuda && run=cuda_12.4_linux.run && {self.change}; exit")


@pytest.mark.rootless
@pytest.mark.parametrize(
    "change",
    [
        ": > note",
        "rm $run",
        "mv $run cuda.run",
        "echo >> $run && touch -d @1700000000 $run",
        "chmod 744 $run",
        "chown 7 $run",
        "touch -d @1699999999 $run",
        "touch -d @1700000000.5 $run",
        "head -c 64 /dev/zero | dd of=$run conv=notrunc status=none && touch -d @1700000000 $run",
        "ln $run /root/run",
        "mv $run /opt/ && ln -s /opt/$run .",
        "chmod 711 /root",
        "rmdir /srv/wheels",
        "rm /etc/debian_version",
        "mkdir -p /var/cache/site",
        "rm /usr/bin/perl",
    ],
)
def test_a_look_finds(change: str, rootless_runtime: Runtime) -> None:
    """What `ls -lR`, `stat`, `file` or `du` would show of a box, the comparison sees too."""
    plain = instance_with_fault(TASKS["driver-cuda-runfile"], False)
    changed = Changed(task=plain.task, seed=plain.seed, change=change)
    assert differences_of_builds((plain, changed), rootless_runtime)


def forgeable() -> Iterator[Task]:
    """Per family, the first task whose verifier runs programs on numbers."""
    for family in TEMPLATES:
        for task in of(family):
            if PROGRAM.search(task.stage(task.fault.stage).verify):
                yield task
                break


@pytest.mark.rootless
@pytest.mark.parametrize("task", list(forgeable()), ids=lambda task: task.name)
def test_a_program_that_prints_what_success_prints_is_not_installed(task: Task, rootless_runtime: Runtime) -> None:
    """After a failed attempt the agent writes the programs itself, from what it can see: their name and a number."""
    stage = task.stage(task.fault.stage)
    forged = "\n".join(
        f"printf '#!/bin/sh\\necho {name} 123456\\n' > {path}; chmod 755 {path}"
        for path, _, name in PROGRAM.findall(stage.verify)
    )
    instance = instance_with_fault(task, faulty=True)
    session = rootless_runtime.start(Limits())
    try:
        lay_out_build(session, instance)
        commands = [each.command for each in task.stages[: task.stages.index(stage) + 1]]
        results: list[CommandResult] = [session.run(command) for command in [*commands, forged]]
        assert results[-1].exit_code == 0, quote_end(results[-1].shown)
        turns = tuple(Turn(text=result.command, valid=True, result=result) for result in results)
        outcome = verify(session, instance, Transcript(instruction=instance.instruction, turns=turns))
    finally:
        session.close()
    assert outcome.stages[stage.name].state == "broken"
