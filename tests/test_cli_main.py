"""What a user can get wrong at the front door: one line, the fix, the right status, nothing lost."""

import contextlib
import gc
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from devnull.cli.main import COMMANDS, main
from devnull.cli.runs.run_folder import open_run, read_episodes
from devnull.cli.terminal.console import parse_arguments
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.training.tiny import make_tiny_model
from tests.fakes import DRIVER_CUDA, make_episode


@dataclass(frozen=True)
class Documented:
    number: int = 0
    """What begins in one line
    and ends in another."""
    parts: int = 0
    """What has two parts:

    - the first
    - the second
    """


ROOT = Path(__file__).resolve().parent.parent


def devnull(*argv: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "devnull", *argv],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["dmo"], "no command 'dmo'; `devnull --help` lists them; did you mean 'demo'?"),
        (["demo", "--sed", "1"], "Unrecognized options: --sed, 1; did you mean --seed? (see devnull demo --help)"),
        (["rollout", "--best-of", "2", "--by", "terminl"], "did you mean 'terminal'?"),
        (["demo", "--seed", "x"], "--seed"),
        (["demo", "--runtime", "podman"], "'auto', 'docker', 'rootless'"),
        (["demo", "--optimiser", "ppo"], "'dpo', 'grpo'"),
        (["demo", "--evaluation", "0"], "--evaluation is 0; it must be at least 1"),
        (["demo", "--p-hide", "1.5"], "between 0 and 1"),
        (["demo", "--model", "./nowhere"], "nowhere"),
        (["demo", "--config", "nowhere.toml"], "nowhere.toml: no such file"),
        (["demo", "--config"], "--config takes one file"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(
    argv: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sed = 1", "--seed"),
        ("seed = 'x'", "--seed"),
        ("seed = [", "not valid TOML"),
        ("seed = 1979-05-27", "nothing that a flag can take"),
    ],
)
def test_bad_config_files(text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "demo.toml"
    file.write_text(text)
    assert main(["demo", "--config", str(file)]) == 2
    assert says in capsys.readouterr().err


def test_a_config_file_fills_in_and_a_flag_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.toml"
    file.write_text("p = 0.2\nr = 2.0\njson = true\n")
    assert main(["theory", "example-a", "--config", str(file), "--r", "1"]) == 0
    from_file = capsys.readouterr().out
    assert main(["theory", "example-a", "--p", "0.2", "--r", "1", "--json"]) == 0
    assert capsys.readouterr().out == from_file


def test_another_config_in_the_run_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_run(tmp_path / "run", "demo", {"seed": 1}, 1).append(make_episode(DRIVER_CUDA))
    assert main(["demo", "--out", str(tmp_path / "run"), "--runtime", "rootless"]) == 2
    assert "seed=1 there, 0 here" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_daemon_is_status_1_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert main(["demo", "--out", str(tmp_path / "run"), "--runtime", "docker"]) == 1
    gc.collect()  # docker-py leaves its connection to the collector, and here that is excused
    said = capsys.readouterr().err
    assert "none.sock" in said and "rootless" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", [*COMMANDS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage:")


def test_the_top_level_completes_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tyro-print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert all(f"'{command}': {{" in script for command in COMMANDS) and "--against" in script
    assert main(["--tyro-print-completion", "fishy"]) == 2
    assert "fishy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_terminal_without_unicode_is_served(environment: dict[str, str], tmp_path: Path) -> None:
    """Whatever an episode holds; what is read and written is UTF-8 all the same."""
    run = open_run(tmp_path / "run", "rollout", {}, 0)
    run.append(make_episode(DRIVER_CUDA, instruction="Instalează Ē− → 日本 …"))
    folder = str(run.path)
    commands = [
        ["replay", folder], ["replay", folder, "--cast", str(tmp_path / "x.cast")], ["eval", folder],
        ["report", folder], ["tasks", "list", "--family", "driver-cuda"], ["claims", "list"], ["--help"],
        ["label", "--help"], ["--tyro-print-completion", "bash"],
    ]  # fmt: skip
    for argv in commands:
        done = subprocess.run(
            [sys.executable, "-m", "devnull", *argv], capture_output=True, cwd=ROOT, env={**os.environ, **environment}
        )
        assert done.returncode == 0, f"{argv}: {done.stderr!r}"
        assert not re.findall(rb".*\\u2[0-9a-f]{3}.*", done.stdout), f"{argv}: marks of our own have plain ones"
    assert "日本" in (tmp_path / "x.cast").read_text(encoding="utf-8")


def test_no_docker_is_one_short_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/{'long' * 20}.sock")
    monkeypatch.setattr("devnull.sandbox.image.rootfs.ensure_rootfs", lambda _: tmp_path)
    monkeypatch.setattr("devnull.sandbox.image.rootfs.rootfs_manifest", lambda _: None)
    monkeypatch.setattr("devnull.sandbox.runtimes.rootless.RootlessRuntime", lambda *_, **__: object())
    said: list[str] = []
    open_runtime("auto", said.append)
    assert said == ["no Docker daemon answers: boxes are rootless"]


def test_an_adapter_that_is_none_is_named_before_boxes_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("devnull.cli.commands.rollout.open_boxes", lambda *_: pytest.fail("boxes were opened"))
    assert main(["rollout", "--agent", "hf:x", "--adapter", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "no folder with adapter_config.json" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "export", "exec", "claims check", "theory solve", ""])
def test_help_fits_a_terminal_of_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    printed = capsys.readouterr().out
    assert "usage: devnull" in printed
    assert [line for line in printed.splitlines() if len(line) > 80 and not line.startswith("    devnull")] == []


@pytest.mark.parametrize(("encoding", "line"), [("utf-8", "╭─ options"), ("latin-1", " options")])
def test_help_is_drawn_with_the_lines_that_stdout_takes(encoding: str, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "devnull", "claims", "check", "--help"],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding, "TERM": "xterm", "COLUMNS": "80"},
    )
    assert done.returncode == 0 and line in done.stdout.decode(encoding)


def test_help_breaks_lines_where_the_terminal_does_and_not_where_the_source_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        parse_arguments(Documented, "x", ["--help"], None)
    shown = capsys.readouterr().out
    assert "begins in one line and ends in another. (default: 0)" in shown
    assert re.search(r"two parts:\W+- the first\W+- the second", shown)


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from devnull.cli.main import main; main(['--help']);"
        "sys.exit(' '.join({'torch', 'trl', 'docker', 'pydantic', 'tyro'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_command_is_imported_without_the_extras() -> None:
    """What only some commands need is looked for when it is needed."""
    code = (
        "import sys, importlib, pkgutil\n"
        "for name in ('matplotlib', 'gguf', 'ray', 'bitsandbytes', 'openai', 'inspect_ai'):\n"
        "    sys.modules[name] = None\n"
        "from devnull.cli import commands\n"
        "from devnull.cli.main import COMMANDS\n"
        "names = {each.name for each in pkgutil.iter_modules(commands.__path__)} - {'theory_plot'}\n"
        "assert {name.rstrip('_') for name in names} >= COMMANDS.keys()\n"
        "for name in sorted(names):\n"
        "    importlib.import_module('devnull.cli.commands.' + name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argv", "package", "extra"),
    [
        (["theory", "plot", "--out", "x.png"], "matplotlib", "plot"),
        (["rollout", "--agent", "openai:x", "--runtime", "fake"], "openai", "api"),
        (["rollout", "--cluster", "auto", "--runtime", "fake"], "ray", "ray"),
        (["import", "x.eval"], "inspect-ai", "inspect"),
    ],
)
def test_a_missing_extra_is_named(
    argv: list[str],
    package: str,
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.eval").write_text("{}")
    monkeypatch.setattr("devnull.sandbox.extras.importlib.util.find_spec", lambda _: None)
    assert main(argv) == 2
    assert f"wants the package {package}; pip install 'devnull[{extra}]'" in capsys.readouterr().err


def test_another_package_of_the_same_name_is_named(tmp_path: Path) -> None:
    """It comes first on the path, or was installed over this one."""
    (tmp_path / "devnull").mkdir()
    (tmp_path / "devnull" / "__init__.py").write_text("")
    code = f"import runpy; runpy.run_path({str(ROOT / 'src/devnull/__main__.py')!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert f"another package named devnull lies at {tmp_path / 'devnull'}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_checkout_without_its_links_says_so(tmp_path: Path) -> None:
    """As an archive unpacked where there are no symbolic links leaves it: each is a small file."""
    package = tmp_path / "devnull"
    package.mkdir()
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(ROOT / "src/devnull" / name, package)
    (package / "sandbox").write_text("../../sandbox")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-m", "devnull", "tasks"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 1
    assert "lacks sandbox, agents" in done.stderr and "core.symlinks=true" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_ends_it_quietly() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m devnull tasks list | head -n 1"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_is_closed_is_written_to_by_nobody(closed: str) -> None:
    command = f"exec {sys.executable} -m devnull --version {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT / "src")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.rootless
def test_a_model_that_emits_no_action_is_named_and_its_episodes_are_kept(
    rootless_runtime: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_model(tmp_path / "model", ["Install it.", "Done: finished."])
    argv = ["rollout", "--agent", f"hf:{model}", "--tasks", "driver-cuda-runfile", "--runtime", "rootless"]
    assert main([*argv, "--episodes", "1", "--max-new-tokens", "4", "--out", str(tmp_path / "run")]) == 0
    assert "emitted no action in" in capsys.readouterr().err
    assert len(list(read_episodes(tmp_path / "run"))) == 1


@pytest.mark.rootless
def test_a_full_disk_ends_the_run_in_one_line_and_leaves_it_readable(rootless_runtime: object, tmp_path: Path) -> None:
    """The run folder lies on a file system of three pages."""
    rollout = f"{sys.executable} -m devnull rollout --tasks driver-cuda-runfile --runtime rootless --out {tmp_path}/run"
    script = (
        f"mount -t tmpfs -o size=12k none {tmp_path} && {rollout} --episodes 4; echo $?; cat {tmp_path}/run/run.json"
    )
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    done = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, cwd=ROOT)
    status, _, header = done.stdout.partition("\n")
    assert status == "1", done.stderr
    assert "no space left on the disk" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(header)["command"] == "rollout"


@pytest.mark.parametrize("command", ["eval", "replay", "report"])
def test_a_line_that_is_no_episode_is_named(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(tmp_path / "run", "rollout", {}, 0)
    run.episodes_path.write_text('{"arm": 3}\n')
    assert main([command, str(run.path)]) == 2
    printed = capsys.readouterr().err
    assert "episodes.jsonl:1: not valid as Episode" in printed and printed.count("\n") == 1
