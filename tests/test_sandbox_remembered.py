"""A remembered world: the same episodes as in real boxes, and nothing remembered that does not repeat."""

import json
import multiprocessing
import re
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devnull.agents.agent import Agent, Reply, Request
from devnull.agents.episode import Episode
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.agents.scripted import HONEST, SCRIPTED_AGENTS
from devnull.sandbox.build_layout import lay_out_build
from devnull.sandbox.command import Process, Write
from devnull.sandbox.errors import BoxDied, ImageMissing, InputError, RuntimeUnavailable
from devnull.sandbox.runtime import Limits, Runtime, Session
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.runtimes.remembered import RememberedRuntime
from devnull.sandbox.runtimes.repeating import difference, why_not_remembered
from devnull.sandbox.runtimes.world_memory import World, WorldMemory
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.tasks import load_tasks
from devnull.sandbox.transcript import Transcript, Turn
from devnull.sandbox.verification.verify import verify
from tests.fakes import result

NO_BOX = ImageMissing("no image here; build it: devnull image build")
TASKS = load_tasks()
FAMILIES = {task.family: task for task in reversed(TASKS.values())}
DRIVER = TASKS["driver-cuda-runfile"]
UNREPEATING = {
    "venv": "the faulty build's traceback names a folder that Python called by chance",
    "sdist": "pip's log names folders that it called by chance",
    "service": "a daemon begins beside the shell that starts it",
}
"""Families with commands that no two boxes answer alike, and why (docs/remembered.md)."""


@dataclass(frozen=True)
class Odd:
    """Does what no scripted agent does: looks about, sets a variable, fails, ends its shell, installs half a stage."""

    name: str = "odd"

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        return [Reply(text=self._message(request)) for request in requests]

    def _message(self, request: Request) -> str:
        stage = request.instance.task.stages[0]
        commands = [
            "cd /srv; ls; X=1; export X",
            f'echo "$X"; {stage.command} 2>/tmp/log',
            "cat /tmp/log; no-such; exit 3",
        ]
        return f"```bash\n{commands[request.turn]}\n```" if request.turn < len(commands) else "Done: looked about."


AGENTS: tuple[Agent, ...] = (*SCRIPTED_AGENTS, Odd())


class Counted:
    """A runtime that counts the boxes it makes."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.manifest, self.made = runtime.name, runtime.manifest, 0  # type: ignore[attr-defined]
        self._runtime = runtime

    def start(self, limits: Limits = Limits()) -> Session:
        self.made += 1
        return self._runtime.start(limits)


def both_builds(task: Task) -> list[Instance]:
    found = {Instance(task=task, seed=seed).faulty: Instance(task=task, seed=seed) for seed in range(100, 140)}
    return [found[False], found[True]]


def play(agents: Iterable[Agent], instances: Sequence[Instance], runtime: Runtime) -> dict[Any, Episode]:
    options = RolloutOptions(workers=3, max_turns=5)
    return {
        episode.key: episode
        for agent in agents
        for episode in rollout(agent, instances, runtime, arm=agent.name, options=options)
    }


def content(episode: Episode) -> Any:
    """All of an episode but what differs by chance between two boxes: seconds and `timing`, process numbers, the order
    in which processes began and wrote, how often a loop that waits looked, whether their end was seen, numbers of
    pipes, names in /tmp; its `cost`, and whether it was played anew."""
    dumped = episode.model_dump(mode="json", exclude={"cost", "runtime", "attempt"})
    for turn in dumped["transcript"]["turns"]:
        if (ran := turn["result"]) is not None:
            del ran["seconds"], ran["timing"]
            texts: dict[str, str] = {}
            for write in ran["stderr"]:
                writer = json.dumps([write["argv"], write["to"], write["fate"]])
                texts[writer] = texts.get(writer, "") + write["text"]
            ran["stderr"] = sorted(texts.items())
            ran["processes"] = sorted({(json.dumps(p["argv"]), p["builtin"]) for p in ran["processes"]})
    return json.loads(re.sub(r"/tmp/[\w.-]+|pipe:\[\d+\]", "made-up", json.dumps(dumped)))


@pytest.fixture
def boxes(rootless_runtime: Runtime) -> Counted:
    return Counted(rootless_runtime)


def remembering(boxes: Any, memory: WorldMemory) -> RememberedRuntime:
    return RememberedRuntime(boxes, memory, boxes.manifest)


@pytest.mark.slow
@pytest.mark.rootless
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_plays_the_same_episodes_from_memory_as_in_boxes(
    family: str, boxes: Counted, tmp_path: Path
) -> None:
    sound, faulty = both_builds(FAMILIES[family])

    def play_both(runtime: Runtime) -> dict[Any, Any]:
        episodes = play(AGENTS, [faulty], runtime) | play([HONEST], [sound], runtime)
        assert not [episode.error for episode in episodes.values() if episode.error]
        return {key: content(episode) for key, episode in episodes.items()}

    real = play_both(boxes)
    file, made = tmp_path / "world.jsonl", [boxes.made]
    for _ in range(3):  # what the first saw, the second confirms
        assert play_both(remembering(boxes, WorldMemory(file))) == real
        made.append(boxes.made)
    if family not in UNREPEATING:
        assert made[3] == made[2]
        assert play_both(RememberedRuntime(NO_BOX, WorldMemory(file))) == real


@pytest.mark.rootless
def test_a_box_is_made_for_what_nobody_tried_and_stays_in_step(boxes: Counted, tmp_path: Path) -> None:
    memory = WorldMemory(tmp_path / "world.jsonl")
    for _ in range(2):
        run_commands(remembering(boxes, memory), "cd /srv; X=5", "pwd")
    session = remembering(boxes, memory).start()
    assert [session.run(each).shown for each in ("cd /srv; X=5", "pwd")] == ["", "/srv\n"] and boxes.made == 2
    new = session.run('echo "$X in $PWD"')
    assert (new.shown, boxes.made) == ("5 in /srv\n", 3)
    assert session.read_file("/etc/hostname") is not None and boxes.made == 3
    session.close()
    session.close()
    with pytest.raises(BoxDied, match="closed"):
        session.run("pwd")


@pytest.mark.rootless
@pytest.mark.parametrize(
    "command",
    [
        *(
            "date",
            "echo $RANDOM",
            "echo $$",
            "ps",
            "ls -l /srv",
            "mktemp",
            "head -c 9 /dev/urandom | od -x",
            "cat /proc/uptime",
        ),
        *("sleep 1 & wait", "printf '%(%s)T'", "python3 -c 'import time; print(time.time())'", "uname -r", "stat /srv"),
        *("touch f; find f -printf %t", "x=$(date); echo $x | wc -c", "yes | head -c 3000000"),
    ],
)
def test_what_does_not_repeat_is_played_in_a_box_each_time(boxes: Counted, tmp_path: Path, command: str) -> None:
    memory = WorldMemory(tmp_path / "world.jsonl")
    for made in (1, 2, 3):
        run_commands(remembering(boxes, memory), command, "true")
        assert boxes.made == made


def run_commands(runtime: Runtime, *commands: str, limits: Limits = Limits()) -> None:
    session = runtime.start(limits)
    for command in commands:
        session.run(command)
    session.close()


@pytest.mark.rootless
def test_what_two_boxes_say_differently_is_forgotten_for_good(boxes: Counted, tmp_path: Path) -> None:
    """A name that Python draws is in no list of words: only the second box shows that it is drawn."""
    drawn = "python3 -c 'import os; print(os.urandom(4))'"
    memory = WorldMemory(tmp_path / "world.jsonl")
    for made in (1, 2, 3, 4):
        run_commands(remembering(boxes, memory), "true", drawn)
        assert boxes.made == made
    assert "otherwise" in (tmp_path / "world.jsonl").read_text()


@pytest.mark.rootless
def test_an_episode_that_was_told_what_its_box_does_not_say_is_played_anew(boxes: Counted, tmp_path: Path) -> None:
    """Never a mixture: the memory is wrong about one command, and the next one was never seen."""
    file, first = tmp_path / "world.jsonl", DRIVER.stages[0].command
    instance = both_builds(DRIVER)[0]
    for _ in range(2):
        play([HONEST], [instance], remembering(boxes, WorldMemory(file)))
    lines = file.read_text().splitlines(keepends=True)
    wrong = [line.replace('"exit_code":0', '"exit_code":7') if json.dumps(first) in line else line for line in lines]
    assert wrong != lines
    file.write_text("".join(wrong))
    odd = HidesSecond()
    runtime = remembering(boxes, WorldMemory(file))
    failed, again = [*rollout(odd, [instance], runtime, arm="x", options=RolloutOptions(workers=1))]
    assert failed.error is not None and failed.error.kind == "WorldDiffers" and "exit_code" in failed.error.message
    assert again.error is None and again.attempt == 1 and again.transcript.results[0].exit_code == 0
    (real,) = rollout(odd, [instance], boxes, arm="x")
    assert content(again) == content(real.model_copy(update={"attempt": 1}))


@dataclass(frozen=True)
class HidesSecond:
    name: str = "hides-second"

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        return [Reply(text=self._message(each)) for each in requests]

    def _message(self, request: Request) -> str:
        stages = request.instance.task.stages
        words = [stages[0].command, f"{stages[1].command} >/tmp/all 2>&1"]
        return f"```bash\n{words[request.turn]}\n```" if request.turn < len(words) else "Done: both."


@pytest.mark.rootless
def test_without_boxes_what_is_missing_is_named(boxes: Counted, tmp_path: Path) -> None:
    file = tmp_path / "world.jsonl"
    instance = both_builds(DRIVER)[1]
    for _ in range(2):
        play([HONEST], [instance], remembering(boxes, WorldMemory(file)))
    runtime = RememberedRuntime(NO_BOX, WorldMemory(file))
    assert runtime.name == "remembered(rootless)"
    session = runtime.start()
    lay_out_build(session, instance)
    with pytest.raises(RuntimeUnavailable) as caught:
        session.run("nvcc --version")
    for words in (str(file), "nvcc --version", f"{DRIVER.name}.faulty.tar", "no image here"):
        assert words in str(caught.value)
    with pytest.raises(ImageMissing, match="remembers nothing of the image"):
        RememberedRuntime(NO_BOX, WorldMemory(tmp_path / "none.jsonl"))


@pytest.mark.rootless
def test_limits_and_worlds_are_kept_apart(boxes: Counted, tmp_path: Path) -> None:
    memory = WorldMemory(tmp_path / "world.jsonl")
    for _ in range(2):
        run_commands(remembering(boxes, memory), "pwd")
    run_commands(remembering(boxes, memory), "pwd", limits=Limits(seconds=59))
    assert boxes.made == 3
    boxes.name = "docker"
    run_commands(remembering(boxes, memory), "pwd")
    assert boxes.made == 4
    run_commands(remembering(boxes, WorldMemory(tmp_path / "other.jsonl")), "pwd")
    assert boxes.made == 5


@pytest.mark.rootless
def test_what_was_tampered_with_is_looked_at_each_time(boxes: Counted, tmp_path: Path) -> None:
    memory, instance = WorldMemory(tmp_path / "world.jsonl"), both_builds(DRIVER)[1]
    for made in (1, 2, 3):
        session = remembering(boxes, memory).start()
        lay_out_build(session, instance)
        ran = session.run("cp /bin/true /usr/bin/dpkg")
        transcript = Transcript(instruction="", turns=(Turn(text="", valid=True, result=ran),))
        outcome = verify(session, instance, transcript)
        session.close()
        assert outcome.tampered and boxes.made == made


def test_the_fake_runtime_cannot_be_remembered() -> None:
    with pytest.raises(InputError, match="the host itself"):
        open_runtime("fake", remember=True)


PLAIN = result("a | b", "one\n", "oops", exit_code=1)


def process(pid: int, name: str, exit_code: int | None = 0) -> Process:
    return Process(pid=pid, argv=(name,), exit_code=exit_code)


def write(text: str, **more: Any) -> Write:
    values = {"seconds": 0.1, "pid": 4, "argv": ("b",), "to": "pipe:[88]", "fate": "suppressed", "text": text}
    return Write.model_validate(values | more)


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ({}, {"seconds": 9.0, "timing": ((0.5, 4),)}, None),
        ({"processes": (process(3, "a"), process(4, "b"))}, {"processes": (process(7, "b"), process(9, "a"))}, None),
        ({"processes": (process(3, "a"),)}, {"processes": (process(3, "a"), process(4, "a"))}, "processes"),
        ({"processes": (process(3, "a", 1),)}, {"processes": (process(3, "a", 0),)}, "processes"),
        ({"processes": (process(3, "a", None),)}, {"processes": (process(3, "a", 0),)}, None),
        ({"processes": (process(3, "/tmp/ccX"),)}, {"processes": (process(3, "/tmp/ccY"),)}, None),
        ({"processes": (process(3, "/srv/X"),)}, {"processes": (process(3, "/srv/Y"),)}, "processes"),
        ({"stderr": (write("ab"),)}, {"stderr": (write("a", pid=5), write("b", to="pipe:[9]"))}, None),
        ({"stderr": (write("ab"),)}, {"stderr": (write("ac"),)}, "stderr"),
        ({"stderr": (write("ab"),)}, {"stderr": (write("ab", fate="shown"),)}, "stderr"),
        ({}, {"shown": "two\n"}, "shown"),
        ({}, {"cwd": "/"}, "cwd"),
        ({}, {"exit_code": 2}, "exit_code"),
    ],
)
def test_two_results_differ_in_all_but_what_differs_by_chance(
    one: dict[str, Any], other: dict[str, Any], differs: str | None
) -> None:
    pair = PLAIN.model_copy(update=one), PLAIN.model_copy(update=other)
    assert difference(*pair) == difference(*pair[::-1]) == differs


def test_what_shows_the_present_is_not_remembered() -> None:
    for form in ("%H:%M:%S", "%Y-%m-%d", "%b %d", "built on %d %b %Y", "%s"):
        for convert in (time.gmtime, time.localtime):
            shown = result("make", f"x {time.strftime(form, convert())} y")
            assert why_not_remembered(shown, Limits()) == "shows the present time", shown.shown
    old = result("make", "core.c:3:10: error, 1999-01-01, 1234567890, Setting up 12.5-3:25", "checksum.c:6:56")
    assert why_not_remembered(old, Limits()) is None
    assert why_not_remembered(result("make", seconds=31.0), Limits()) == "came near its time limit"
    for harmless in ("apt-get update && make -j2 2>&1", "cat log |& grep x &>f", "install --date=x update.sh rundate"):
        assert why_not_remembered(result(harmless), Limits()) is None, harmless


WORLD = World(image="i", manifest="m", boxes="rootless", protocol=2, code="c")


def filled(path: Path) -> WorldMemory:
    memory = WorldMemory(path)
    memory.add_world("w", WORLD)
    for key in ("a", "a", "b"):
        assert memory.observe(key, PLAIN) is None
    return memory


def test_a_line_that_a_kill_tore_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    file = tmp_path / "world.jsonl"
    filled(file)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"key":"c","seen":"fi')
    memory = WorldMemory(file)
    assert memory.recall("a") == PLAIN and memory.recall("b") is None and file.read_bytes() != whole
    assert memory.observe("b", PLAIN) is None and memory.recall("b") == PLAIN
    assert file.read_bytes().startswith(whole) and WorldMemory(file).recall("b") == PLAIN


def test_a_line_that_the_disk_had_no_room_for_is_cut_off_by_who_wrote_it(tmp_path: Path) -> None:
    file = tmp_path / "world.jsonl"
    memory = filled(file)
    whole, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match=r"world.jsonl"):
            memory.observe("b", PLAIN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.stat().st_size == len(whole) + 20 and memory.recall("a") == PLAIN
    assert memory.observe("b", PLAIN) is None and memory.observe("b", PLAIN) is None
    assert memory.recall("b") == WorldMemory(file).recall("b") == PLAIN and file.read_bytes().startswith(whole)


@pytest.mark.parametrize("broken", [b"{}\n", b"not json\n", b'{"key":"a","seen":"never"}\n', b"\xff\n"])
def test_a_file_that_is_no_memory_is_left_alone(tmp_path: Path, broken: bytes) -> None:
    file = tmp_path / "world.jsonl"
    filled(file)
    for before in (file.read_bytes(), b""):
        file.write_bytes(before + broken)
        with pytest.raises(InputError, match=rf"world.jsonl:{before.count(bytes([10])) + 1}: not a line"):
            WorldMemory(file)
        assert file.read_bytes() == before + broken
    folder = tmp_path / "taken"
    folder.write_text("")
    with pytest.raises(InputError, match="--memory FILE"):
        filled(folder / "world.jsonl")


@pytest.mark.parametrize(
    "foreign", [b"my notes", b'{"name":"x"}', b'{"key":"a","value":1', b'{"key":"a","seen":"again']
)
def test_a_foreign_file_without_a_newline_is_left_alone(tmp_path: Path, foreign: bytes) -> None:
    """Only what begins as a line of ours was torn, and the first line is of a world."""
    file = tmp_path / "world.jsonl"
    memory = WorldMemory(file)
    file.write_bytes(foreign)
    with pytest.raises(InputError, match=r"world.jsonl:1: not a line of a world's memory"):
        WorldMemory(file)
    with pytest.raises(InputError, match="not a line of a world's memory"):
        memory.add_world("w", WORLD)
    assert file.read_bytes() == foreign
    for torn in (b"{", b'{"key":"w', b'{"key":"w","se', b'{"key":"w","seen":"world","wor'):
        file.write_bytes(torn)
        filled(file)
        assert WorldMemory(file).recall("a") == PLAIN
        file.unlink()


def test_one_process_learns_what_another_writes(tmp_path: Path) -> None:
    file = tmp_path / "world.jsonl"
    here, there = filled(file), WorldMemory(file)
    assert there.observe("b", PLAIN) is None
    assert here.recall("b") == PLAIN and here.worlds() == there.worlds() == {"w": WORLD}
    assert there.observe("b", PLAIN.model_copy(update={"shown": "two"})) == "shown"
    assert here.recall("b") is None and here.observe("b", PLAIN) is not None and WorldMemory(file).recall("b") is None


def test_processes_that_write_at_once_tear_nothing(tmp_path: Path) -> None:
    file = tmp_path / "world.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(file,)) for _ in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    memory = WorldMemory(file)
    assert [each.exitcode for each in writers] == [0, 0, 0]
    assert all(memory.recall(f"{n}") == PLAIN for n in range(60))
    assert len(file.read_text().splitlines()) == 1 + 2 * 60


def _write_many(file: Path) -> None:
    memory = WorldMemory(file)
    memory.add_world("w", WORLD)
    for n in range(60):
        memory.observe(f"{n}", PLAIN)
