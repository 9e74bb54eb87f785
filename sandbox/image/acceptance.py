"""The last step of every build, on every road: what was made is read and tried in boxes of it, or not handed over.

The manifest is read here, from a fresh box, because a root file system changes until it is finished: hooks lay things
down and take them away, engines add files, times are set. What counts is what an agent's box begins as.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from devnull.sandbox.errors import ImageBuildFailed, InputError
from devnull.sandbox.image.manifest import NO_MANIFEST, Manifest
from devnull.sandbox.runtime import Runtime, Session
from devnull.sandbox.task import BUILDS, Task
from devnull.sandbox.task_check import run_commands
from devnull.sandbox.tasks import CORPUS, load_tasks

_LARGEST = 15 << 20
_LIST_BUILDS = f"tar -xOf {BUILDS} manifest.json >/tmp/builds"
_LIST_TOOLS = r"""find FOLDERS -type f ! -name '*.pyc' -print0 | xargs -0 sha256sum -z >/tmp/files &&
find FOLDERS -type l -printf '%p\t%l\0' >/tmp/links"""
"""Of what Python compiles nothing is recorded: it may be compiled anew, and is refused as a change of the tools."""


def accept_image(open_boxes: Callable[[Manifest], Runtime], log: Callable[[str], None]) -> Manifest:
    """The manifest of what was just built, once sound installations work in boxes of it.

    `open_boxes` gives a runtime over it. Raises `ImageBuildFailed` with the family and the evidence if an installation
    of the corpus does not end installed (of one's own families a line of `log` tells), and an `InfrastructureError`.
    """
    manifest = read_manifest(open_boxes(NO_MANIFEST))
    runtime = open_boxes(manifest)
    samples = list(_one_of_each_family())
    log(f"trying a sound installation of each of {len(samples)} families in it")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda task: _play_sound(task, runtime), samples))
    own = {task.family for task in samples} - {task.family for task in load_tasks(CORPUS).values()}
    wrong = []
    for task, problem in zip(samples, found, strict=True):
        if problem and task.family in own:
            log(f"family {task.family}: {problem} (`devnull tasks check {task.name}` says more)")
        elif problem:
            wrong.append(f"family {task.family}: {problem}")
    if wrong:
        raise ImageBuildFailed(
            "the boxes that were made judge sound installations wrongly, and are not kept:\n" + "\n".join(wrong)
        )
    return manifest


def read_manifest(runtime: Runtime) -> Manifest:
    """The manifest of what the runtime's boxes begin as. Raises `ImageBuildFailed`, or an `InfrastructureError`."""
    session = runtime.start()
    try:
        builds = json.loads(_output(session, _LIST_BUILDS, "/tmp/builds"))
        files = _output(session, _LIST_TOOLS.replace("FOLDERS", " ".join(builds["folders"])), "/tmp/files")
        links = session.read_file("/tmp/links", _LARGEST) or b""
    finally:
        session.close()
    tools = {path: digest for digest, path in _pairs(files, "  ")}
    tools |= {path: f"-> {target}" for path, target in _pairs(links, "\t")}
    if "/usr/bin/find" not in tools:
        raise ImageBuildFailed("the image holds no /usr/bin/find; build it again: devnull image build --again")
    replaced = {
        build: {path: digest for path, digest in laid.items() if path in tools}
        for build, laid in builds["laid"].items()
    }
    return Manifest(builds["shipped"], replaced, tools, tuple(builds["folders"]))


def _output(session: Session, script: str, path: str) -> bytes:
    """What a script leaves in a file of the box."""
    done = session.verify(f"set -o pipefail; {script}")
    data = session.read_file(path, _LARGEST)
    if done.exit_code != 0 or data is None:
        raise ImageBuildFailed(f"the image's files cannot be read: {done.shown.strip()[-300:]}")
    return data


def _pairs(listing: bytes, between: str) -> Iterator[tuple[str, str]]:
    for entry in os.fsdecode(listing).split("\0")[:-1]:
        first, _, second = entry.partition(between)
        yield first, second


def _one_of_each_family() -> Iterator[Task]:
    """The task with the most stages, the first of them, whose fault may spare it."""
    spared = [task for task in load_tasks().values() if task.fault.p < 1]
    for _, tasks in groupby(sorted(spared, key=lambda task: task.family), lambda task: task.family):
        yield max(tasks, key=lambda task: len(task.stages))


def _play_sound(task: Task, runtime: Runtime) -> str | None:
    """What is wrong with the reference solution on the sound build; `None`: all of it is installed."""
    try:
        _, outcome = run_commands(task, runtime, faulty=False, commands=[stage.command for stage in task.stages])
    except InputError as error:
        return str(error)
    for name, ending in outcome.stages.items():
        if ending.state != "installed":
            return f"{task.name}: {name} is {ending.state}: {ending.evidence[:300]}"
    return None
