"""Run folders: resume, refusal, torn lines."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devnull.agents.episode import Episode, EpisodeError
from devnull.cli.runs.rollouts import draw_instances
from devnull.cli.runs.run_folder import open_run, read_episodes, read_header
from devnull.sandbox.errors import InputError
from devnull.sandbox.tasks import load_tasks
from tests.fakes import DRIVER_CUDA, make_episode


def honest_episode(seed: int) -> Episode:
    return make_episode(DRIVER_CUDA, seed=seed, arm="honest")


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "rollout", {"agent": "honest"}, seed=0)
    run.append(honest_episode(1))
    run.append(honest_episode(2))
    again = open_run(tmp_path / "r", "rollout", {"agent": "honest"}, seed=0)
    assert [e.seed for e in again.episodes("honest")] == [1, 2]
    assert again.episodes("hiding") == []


def test_a_torn_last_line_is_owed_again_and_overwritten(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "rollout", {}, seed=0)
    run.append(honest_episode(1))
    with run.episodes_path.open("ab") as file:
        file.write(honest_episode(2).model_dump_json().encode()[:80])
    assert [e.seed for e in read_episodes(run.path)] == [1]
    again = open_run(tmp_path / "r", "rollout", {}, seed=0)
    again.append(honest_episode(3))
    assert [e.seed for e in again.episodes()] == [1, 3]


def test_a_torn_line_longer_than_the_search_window_is_cut_whole(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "rollout", {}, seed=0)
    run.append(honest_episode(1))
    with run.episodes_path.open("ab") as file:
        file.write(b"x" * (3 << 20))
    open_run(tmp_path / "r", "rollout", {}, seed=0)
    assert run.episodes_path.read_bytes().endswith(b"}\n")
    run.episodes_path.write_bytes(b"y" * (2 << 20))
    open_run(tmp_path / "r", "rollout", {}, seed=0)
    assert run.episodes_path.read_bytes() == b""


def test_a_bad_line_in_the_middle_is_named(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "rollout", {}, seed=0)
    run.append(honest_episode(1))
    with run.episodes_path.open("ab") as file:
        file.write(b'{"arm": 3}\n')
    run.append(honest_episode(2))
    with pytest.raises(InputError, match=r"episodes\.jsonl:2: not valid as Episode: arm"):
        list(read_episodes(run.path))


def test_another_config_is_refused_naming_the_keys(tmp_path: Path) -> None:
    open_run(tmp_path / "r", "rollout", {"agent": "honest", "episodes": 4}, seed=0).append(honest_episode(1))
    with pytest.raises(InputError, match="episodes=4 there, 5 here"):
        open_run(tmp_path / "r", "rollout", {"agent": "honest", "episodes": 5}, seed=0)
    with pytest.raises(InputError, match="devnull rollout"):
        open_run(tmp_path / "r", "demo", {"agent": "honest", "episodes": 4}, seed=0)


def test_a_folder_without_episodes_binds_nobody(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "rollout", {"agent": "hf:smollm3"}, seed=0)
    run.episodes_path.write_bytes(b'{"arm": "torn')
    assert open_run(run.path, "rollout", {"agent": "hf:smollm2"}, seed=0).header["config"] == {"agent": "hf:smollm2"}
    (run.path / "run.json").write_text("{torn")
    open_run(run.path, "demo", {}, seed=3)
    run.checkpoint("sft").mkdir()
    assert open_run(run.path, "rollout", {}, seed=0).header["command"] == "rollout"
    (run.checkpoint("sft") / "model.safetensors").write_bytes(b"hours of work")
    with pytest.raises(InputError, match="devnull rollout"):
        open_run(run.path, "demo", {}, seed=3)


_HOLDER = """
import sys
from pathlib import Path
from devnull.cli.runs.run_folder import open_run
run = open_run(Path(sys.argv[1]), "rollout", {}, seed=0)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_process_on_one_folder_says_who_holds_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / "r")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=rf"is being written by process {holder.pid} on .*; wait for it"):
            open_run(tmp_path / "r", "rollout", {}, seed=0)
        holder.kill()
    open_run(tmp_path / "r", "rollout", {}, seed=0)
    open_run(tmp_path / "r", "rollout", {}, seed=0)  # and a process may open again what it holds


def test_what_two_processes_played_twice_counts_once(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "rollout", {}, seed=0)
    broke = EpisodeError(kind="BoxDied", message="the box is gone")
    for attempt in (0, 1, 1):
        failed = honest_episode(1).model_copy(update={"outcome": None, "error": broke, "attempt": attempt})
        run.append(failed)
    for seed, attempt in ((1, 2), (1, 3), (2, 0)):
        run.append(honest_episode(seed).model_copy(update={"attempt": attempt}))
    kept = [(each.seed, each.attempt, each.error is None) for each in read_episodes(run.path)]
    assert kept == [(1, 0, False), (1, 1, False), (1, 2, True), (2, 0, True)]


def test_a_line_that_finds_no_room_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "rollout", {}, seed=0)
    run.append(honest_episode(1))
    before = run.episodes_path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limit[1]))
    try:
        with pytest.raises(OSError) as failure:
            run.append(honest_episode(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert failure.value.filename == str(run.episodes_path)
    assert run.episodes_path.read_bytes() == before


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds no run\.json"):
        open_run(tmp_path, "rollout", {}, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_stage_times_add_up_over_sittings(tmp_path: Path) -> None:
    for _ in range(2):
        run = open_run(tmp_path / "r", "demo", {}, seed=0)
        with run.stage("sft"):
            pass
    header = read_header(run.path)
    assert header["wall_seconds"].keys() == {"sft", "total"}
    assert header["wall_seconds"]["total"] == header["wall_seconds"]["sft"]


def test_headers_say_what_ran(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "demo", {"out": Path("x")}, seed=7)
    header = json.loads((run.path / "run.json").read_text())
    assert header["seed"] == 7
    assert header["versions"]["trl"].startswith("1.16")
    assert len(header["config_digest"]) == 16


@pytest.mark.parametrize("text", ["", "{", "[]", '{"command": "x"}'])
def test_an_unreadable_header_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        read_header(tmp_path)


def test_a_group_meets_one_instance_and_the_tasks_take_turns():
    tasks = list(load_tasks().values())[:3]
    drawn = draw_instances(tasks, 8, 100, group=2)
    assert [each.sample for each in drawn] == [0, 1] * 4
    assert [each.seed for each in drawn] == [100, 100, 101, 101, 102, 102, 103, 103]
    assert [each.task.name for each in drawn[::2]] == [tasks[n].name for n in (0, 1, 2, 0)]
    assert all(
        a.instruction == b.instruction and a.faulty == b.faulty for a, b in zip(drawn[::2], drawn[1::2], strict=True)
    )
    assert len(draw_instances(tasks, 7, 0, group=4)) == 7
