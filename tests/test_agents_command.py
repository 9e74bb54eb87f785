"""`devnull rollout`, as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from devnull.cli.main import main
from devnull.cli.runs.rollouts import choose_tasks
from devnull.cli.runs.run_folder import read_episodes
from devnull.sandbox.errors import InputError
from devnull.sandbox.tasks import load_tasks
from devnull.training.tiny import make_tiny_model
from tests.chat_server import completion, serving

ROOT = Path(__file__).resolve().parent.parent
TASK = ["--tasks", "driver-cuda-runfile", "--runtime", "rootless"]


def test_tasks_by_name_by_family_and_by_pattern() -> None:
    tasks = load_tasks()
    assert [task.name for task in choose_tasks(["driver-cuda-runfile"], "train", tasks)] == ["driver-cuda-runfile"]
    several = choose_tasks(["driver-cuda-runfile*"], "train", tasks)
    assert len(several) > 5 and {task.split for task in several} == {"train"}
    assert {task.name for task in several} < {task.name for task in choose_tasks(["driver-cuda"], "all", tasks)}
    with pytest.raises(InputError, match="driver-kuda"):
        choose_tasks(["driver-kuda*"], "train", tasks)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--agent", "hidding"], "did you mean 'hiding'"),
        (["--agent", "mixure:honest=1"], "did you mean 'mixture'"),
        (["--agent", "mixture:honest"], "'honest' is not NAME=WEIGHT"),
        (["--agent", "mixture:honest=0"], "no agent has a weight above 0"),
        (["--agent", "mixture:nobody=1"], "no scripted agent 'nobody'"),
        (["--agent", "hf:"], "lacks what comes after the colon"),
        (["--agent", "hf:./no-such-folder"], "no-such-folder"),
        (["--agent", "openai:m@localhost:8000"], "is no URL"),
        (["--agent", "replay:no-such-run"], "no such run folder"),
        (["--tasks", "driver-cuda-runfil"], "driver-cuda-runfile"),
        (["--tasks", "driver-cuda-runfile", "--split", "test"], "--split all"),
        (["--episodes", "0"], "--episodes is 0"),
        (["--workers", "0"], "workers is 0"),
        (["--retries", "-1"], "retries is -1"),
        (["--max-turns", "0"], "max_turns is 0"),
        (["--shown-chars", "-1"], "shown_chars is -1"),
        (["--command-seconds", "0"], "command_seconds is 0.0"),
        (["--command-seconds", "nan"], "finite"),
        (["--cluster", "nowhere:1"], "nowhere:1"),
        (["--runtime", "podman"], "podman"),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, says, tmp_path, capsys):
    fake = [] if "--runtime" in argv else ["--runtime", "fake"]
    assert main(["rollout", "--out", str(tmp_path / "run"), *fake, *argv]) == 2
    output = capsys.readouterr()
    assert says in output.err and "Traceback" not in output.err and output.out == ""


def test_help_names_every_kind_of_agent(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["rollout", "--help"])
    assert stopped.value.code == 0
    output = " ".join(capsys.readouterr().out.split())
    assert all(kind in output for kind in ("honest", "mixture:", "hf:", "openai:", "replay:", "--tolerant"))


def test_what_breaks_everywhere_is_status_1_with_the_cause(tmp_path, capsys):
    """The fake runtime has no packages, so no episode can begin."""
    argv = ["rollout", "--out", str(tmp_path / "run"), "--runtime", "fake", "--tasks", "driver-cuda-runfile"]
    assert main([*argv, "--episodes", "2", "--workers", "2", "--retries", "0"]) == 1
    assert "laying out the" in capsys.readouterr().err
    assert {e.error.kind for e in read_episodes(tmp_path / "run")} == {"InfrastructureError"}


def test_a_run_records_what_decides_its_episodes(tmp_path, capsys):
    """These keys are compared when a run goes on: another spelling would refuse the runs of before."""
    argv = ["rollout", "--out", str(tmp_path / "run"), "--runtime", "fake", "--tasks", "driver-cuda-runfile"]
    assert main([*argv, "--episodes", "1", "--workers", "1", "--retries", "0"]) == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"].keys() == {
        *("agent", "tasks", "split", "episodes", "group", "builds", "seed", "arm", "runtime"),
        *("p_hide", "hiding_penalty", "verbosity_cost"),
        *("max_turns", "tolerant", "shown_chars", "command_seconds"),
        *("adapter", "temperature", "max_new_tokens", "batch_size", "load_in_4bit"),
    }


@pytest.mark.rootless
def test_a_run_its_summary_and_its_replay(rootless_runtime, tmp_path, capsys):
    run, again = str(tmp_path / "run"), str(tmp_path / "again")
    count = ["--episodes", "12", "--group", "3", "--json"]
    assert main(["rollout", "--agent", "mixture:honest=1,hiding=1", "--out", run, *TASK, *count]) == 0
    output = capsys.readouterr()
    summary = json.loads(output.out)
    assert summary["episodes"] == 12 and summary["errors"] == {} and summary["strict_share"] == 1.0
    assert sum(summary["stages"].values()) == 24 and summary["stages"]["broken"] > 0
    assert "12 of 12" in output.err

    assert main(["rollout", "--agent", f"replay:{run}", "--out", again, *TASK, *count[:-1]]) == 0
    said = capsys.readouterr().out
    assert "summed over episodes: model" in said and "tokens" not in said  # a script reads none
    first, second = ({e.key[2:]: e for e in read_episodes(Path(folder))} for folder in (run, again))
    assert len(first) == 12 and len({seed for seed, _ in first}) == 4
    for drawn, episode in first.items():
        assert [t.text for t in episode.transcript.turns] == [t.text for t in second[drawn].transcript.turns]
        assert episode.outcome.truths == second[drawn].outcome.truths


@pytest.mark.rootless
def test_one_worker_and_eight_play_the_same(rootless_runtime, tmp_path):
    def played(workers):
        out = str(tmp_path / workers)
        argv = ["--agent", "mixture:honest=1,fabricating=1", "--episodes", "10", "--out", out, *TASK]
        assert main(["rollout", "--workers", workers, *argv]) == 0
        return {e.seed: e for e in read_episodes(Path(out))}

    one, eight = played("1"), played("8")
    assert one.keys() == eight.keys()
    for seed, episode in one.items():
        assert [t.text for t in episode.transcript.turns] == [t.text for t in eight[seed].transcript.turns]
        assert [r.shown for r in episode.transcript.results] == [r.shown for r in eight[seed].transcript.results]
        assert episode.outcome.truths == eight[seed].outcome.truths


@pytest.mark.rootless
def test_a_local_model_repeats_itself_whatever_the_workers(rootless_runtime, tmp_path):
    model = make_tiny_model(tmp_path / "tiny", ["```bash\nls\n```", "Done: finished."])

    def played(*options):
        out = tmp_path / "-".join(options)
        argv = [
            "--agent",
            f"hf:{model}",
            "--episodes",
            "6",
            "--max-turns",
            "2",
            "--max-new-tokens",
            "16",
            *TASK,
            "--tolerant",
        ]
        assert main(["rollout", "--out", str(out), *argv, *options]) == 0
        return {e.seed: (e.transcript, e.cost.completion_tokens) for e in read_episodes(out)}

    one = played("--workers", "1")
    assert played("--workers", "8") == one == played("--workers", "8", "--batch-size", "1")
    assert len({transcript.turns for transcript, _ in one.values()}) == 6
    assert all(0 < tokens <= 32 for _, tokens in one.values())


@pytest.mark.rootless
@pytest.mark.parametrize("protocol", ["fenced", "tools"])
def test_an_endpoint_plays_in_boxes(protocol, rootless_runtime, tmp_path, capsys):
    """A chat server that thinks, runs `whoami` and then reports what it was shown."""

    def answer(body):
        asked = body["messages"]
        assert "hm" not in str(asked)
        if len(asked) > 2:
            assert asked[-1]["role"] == ("tool" if protocol == "tools" else "user")
            return 200, completion(f"<think>hm</think>Done: I am {asked[-1]['content']}.")
        if protocol == "fenced":
            return 200, completion("<think>hm</think>```bash\nwhoami\n```")
        call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "whoami"}'}}
        message = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]}
        return 200, completion(None, message=message)

    with serving(answer) as server:
        argv = ["--agent", f"openai:m@{server.url}", "--episodes", "4", "--out", str(tmp_path / "run"), *TASK]
        assert main(["rollout", *argv, "--protocol", protocol, "--price", "1000", "2000"]) == 0
    assert "56 tokens read, 24 generated, $0.1040" in capsys.readouterr().out
    episodes = list(read_episodes(tmp_path / "run"))
    assert [e.transcript.report for e in episodes] == ["I am root."] * 4
    assert [turn.reasoning for e in episodes for turn in e.transcript.turns] == ["hm"] * 8
    assert all(turn.valid for e in episodes for turn in e.transcript.turns)
    assert [round(e.cost.dollars, 6) for e in episodes] == [0.026] * 4
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert config["max_new_tokens"] == 4096 and config.get("protocol", "fenced") == protocol


@pytest.mark.rootless
def test_interrupted_it_goes_on_where_it_was(rootless_runtime, tmp_path, capsys):
    out = tmp_path / "run"
    argv = ["rollout", "--agent", "honest", "--episodes", "24", "--workers", "2", "--out", str(out), *TASK]
    child = subprocess.Popen(
        [sys.executable, "-m", "devnull", *argv],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # a job in the background is born deaf to Ctrl-C, and so would be its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    episodes = out / "episodes.jsonl"
    while child.poll() is None and not (episodes.exists() and episodes.read_bytes().count(b"\n") >= 3):
        threading.Event().wait(0.01)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=120)
    assert child.returncode == 130 and "run the same command again" in stderr
    before = len(list(read_episodes(out)))
    assert 3 <= before < 24
    with episodes.open("ab") as file:
        file.write(b'{"arm": "honest", "torn')  # as a crash would leave it

    assert main(argv) == 0
    assert f"{before} episodes are there, {24 - before} are owed" in capsys.readouterr().err
    assert sorted(e.seed for e in read_episodes(out)) == list(range(24))
    assert main(argv) == 0  # nothing left to do
    assert len(list(read_episodes(out))) == 24
    assert main([*argv, "--max-turns", "2"]) == 2  # another config
    assert "max_turns" in capsys.readouterr().err


@pytest.mark.rootless
def test_nothing_is_left_running(rootless_runtime, tmp_path):
    argv = ["rollout", "--agent", "honest", "--episodes", "4", "--out", str(tmp_path / "run"), *TASK]
    assert main(argv) == 0
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/comm").read_text().strip() for child in children if Path(f"/proc/{child}").exists()]
    assert "supervisor" not in names
