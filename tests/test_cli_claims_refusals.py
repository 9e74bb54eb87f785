"""`devnull claims`: what is asked wrongly and what was damaged is told in a line, and nothing is frozen or lost."""

import hashlib
import json
import lzma
import math
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from devnull.cli.claims.archive import read_archive, store_episodes
from devnull.cli.claims.choosing import find_claims, find_recipe
from devnull.cli.claims.ledger import Ledger
from devnull.cli.claims.playing import freeze
from devnull.eval.claims.claim_reader import load_claim
from devnull.sandbox.errors import InfrastructureError, InputError
from tests.scripted_claims import CLAIM, RECIPE, ScriptedRunner, claims, lines, make_place, run, wait_until


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path)


# What is asked wrongly


@pytest.mark.parametrize(
    ("rung", "words"),
    [
        ("tabel", "no recipe, no file or folder, and no model (owner/name); did you mean 'table'?"),
        ("Tiny", "did you mean 'tiny'?"),
        ("", "--rung '': no recipe, no file or folder, and no model (owner/name); there are smollm2, smollm2-gpu, ta"),
        ("../K1", "no recipe, no file or folder"),
        ("/nowhere/at/all", "no recipe, no file or folder"),
        ("table.toml", "`table` is the rung of the exact theory; give the recipe's file another name"),
        (".", "a folder without config.json is no model"),
    ],
)
def test_a_rung_that_is_none_freezes_nothing(
    place: Path, rung: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "table.toml").write_text(RECIPE)
    assert claims(place, "run", "S1.toml", "--rung", rung, "--out", "out") == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (place / "claims" / "ledger.jsonl").exists() and not (place / "out").exists()


def test_a_model_of_the_hub_or_a_folder_is_a_rung(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for model in ("owner/some-model_1.5", "tiny:run", str(tmp_path)):
        recipe = find_recipe(model)
        assert (recipe.name, recipe.file.model) == (model, model)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "k1"), "no claim 'k1'; did you mean 'K1'?"),
        (("show", "K1@3"), "no claim 'K1@3'; did you mean 'K1'? a claim is named without its revision"),
        (("run", "S2.toml"), "S2.toml: no such file; did you mean 'S1.toml'?"),
        (("run", "claims/K1.toml"), "claims/K1.toml: no such file"),
        (("run", "."), ". is a folder; name the file of a claim"),
        (("run", "K1", "--seeds", "abc"), "Error parsing --seeds: 'abc' is no number"),
    ],
)
def test_what_is_misspelt_is_told_in_a_line(
    place: Path, words: Sequence[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert claims(place, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "NoneType" not in error


# Before anything is frozen


def play_claim(place: Path, *words: str) -> int:
    recipe = str(place / "none.toml")
    return claims(place, "run", str(place / "S1.toml"), "--rung", recipe, "--out", str(place / "out"), *words)


@pytest.mark.parametrize(
    "trouble", ["out is a file", "memory is a letter", "memory is a folder", "no boxes", "no cluster", "a bad job"]
)
def test_what_would_stop_a_run_stops_it_before_the_freeze(
    place: Path, trouble: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_runtime(*_: object, **__: object) -> object:
        raise InfrastructureError("no boxes here")

    def check_plan(_: object) -> None:
        raise InputError("a bad job")

    monkeypatch.setattr("devnull.cli.claims.preparing.open_runtime", open_runtime)
    words: list[str] = []
    match trouble:
        case "out is a file":
            (place / "out").write_text("mine")
        case "memory is a letter":
            (place / "letter").write_text("my precious notes")
            words = ["--memory", str(place / "letter")]
        case "memory is a folder":
            words = ["--memory", str(place)]
        case "no cluster":
            pytest.importorskip("ray", reason="wants the extra `ray`")
            words = ["--cluster", "127.0.0.1:1"]
        case "a bad job":
            monkeypatch.setattr("devnull.cli.claims.preparing.check_plan", check_plan)
    assert play_claim(place, *words) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert not (place / "claims" / "ledger.jsonl").exists()
    assert trouble != "memory is a letter" or (place / "letter").read_text() == "my precious notes"


def test_of_two_claims_none_is_frozen_where_one_cannot_be(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "S0.toml").write_text(CLAIM)
    run(place)
    (place / "S1.toml").write_text(CLAIM.replace("above = 0.5", "above = 0.4"))
    both = [str(place / "S0.toml"), str(place / "S1.toml")]
    assert claims(place, "run", *both, "--rung", str(place / "none.toml"), "--out", str(place / "out")) == 2
    assert "S1@1 was frozen on" in capsys.readouterr().err
    assert claims(place, "run", "K1", "K8", "--rung", "table") == 2
    assert [line["claim"] for line in lines(place)] == ["S1@1", "S1@1"]


def test_the_exact_theory_is_not_asked_of_an_arm_without_a_job(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (claim,) = find_claims(["K1"])
    (place / "K1.toml").write_text(claim.text + "\n[arms.ghost]\n")
    assert claims(place, "run", str(place / "K1.toml"), "--rung", "table") == 2
    assert "no job 'ghost'" in capsys.readouterr().err and not (place / "claims" / "ledger.jsonl").exists()


def test_who_holds_the_ledger_is_told_with_the_option_that_names_another(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "claims").mkdir()
    holder = subprocess.Popen(["flock", str(place / "claims" / ".lock"), "cat"], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: subprocess.run(["flock", "-n", str(place / "claims" / ".lock"), "true"]).returncode)
        assert play_claim(place) == 2
    finally:
        holder.communicate()
    assert "is being written by another process; wait for it, or pass another --ledger" in capsys.readouterr().err


# What was damaged


def job_file(place: Path, name: str, file: str) -> Path:
    return place / "out" / "S1" / name / file


def judge_again(place: Path) -> None:
    """Takes the verdict out of the ledger and judges the same jobs anew."""
    file = place / "claims" / "ledger.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    run(place)


def test_episodes_that_were_cut_off_are_not_judged(place: Path) -> None:
    run(place)
    file = job_file(place, "seed-102/honest.evaluation", "run/episodes.jsonl")
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    with pytest.raises(InputError, match=r"jobs/\w+/run: 4 of 16 episodes of honest; delete .*job.json"):
        judge_again(place)
    assert [line["kind"] for line in lines(place)] == ["frozen"]
    file.write_bytes(whole)
    assert run(place).lines[-1].answer == "supported"


def test_a_verdict_on_too_few_episodes_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    file = place / "claims" / "ledger.jsonl"
    found = Ledger(file).lines[-1]
    short = store_episodes(file, [*read_archive(file, found.archives["seed-101/honest"])][:4])
    file.write_text(file.read_text().replace(found.archives["seed-101/honest"], short))
    assert claims(place, "check") == 1
    assert f"4 of 16 episodes of seed-101/honest in {short}" in capsys.readouterr().err


def test_a_job_without_its_record_is_owed_and_a_damaged_record_is_told(place: Path) -> None:
    run(place)
    record = job_file(place, "seed-101/hiding.evaluation", "job.json")
    for text in ('{"command": "rol', "[]", "{}", "\xff"):
        record.write_bytes(text.encode("latin1"))
        with pytest.raises(InputError, match=r"job.json: .*; delete it to owe the job again"):
            judge_again(place)
    record.write_text("")
    again = ScriptedRunner(place / "out")
    assert run(place, again).lines[-1].answer == "supported" and len(again.ran) == 1


def test_a_damaged_training_record_is_told(place: Path) -> None:
    text = CLAIM.replace("[arms.hiding]", '[jobs.warm]\ncommand = "train sft"\nrun = "@start"\n[arms.hiding]')
    text += '[[gates.jobs]]\njobs = ["warm"]\nmetric = "loss"\nmost = 1\n'
    (place / "S1.toml").write_text(text)
    with pytest.raises(InputError, match=r"model/training.json: no such file; delete .* to owe that job again"):
        run(place)
    for content, words in (("", "not valid JSON"), ("[]", "not a JSON object"), ('{"metrics": 1}', "no JSON object")):
        for folder in (place / "out" / "S1").glob("seed-*/warm"):
            (folder / "model").mkdir(exist_ok=True)
            (folder / "model" / "training.json").write_text(content)
        with pytest.raises(InputError, match=f"training.json: .*{words}"):
            run(place)


def damage(place: Path, change: Callable[[dict[str, Any]], object], number: int = 1) -> None:
    """Alters a line of the ledger, and what the next one says of it."""
    changed, previous = [], ""
    for at, line in enumerate(lines(place)):
        if at == number:
            change(line)
        text = json.dumps(line | {"previous": previous}) + "\n"
        changed.append(text)
        previous = hashlib.sha256(text.encode()).hexdigest()
    (place / "claims" / "ledger.jsonl").write_text("".join(changed))


@pytest.mark.parametrize(
    ("change", "command", "words"),
    [
        (lambda line: line.update(result=None), "list", "ledger.jsonl:2: the result of S1@1 has no figures; each line"),
        (lambda line: line.update(answer=None), "check", "ledger.jsonl:2: the result of S1@1 has no answer; each line"),
        (lambda line: line.update(moon=1), "list", "ledger.jsonl:2: not valid as LedgerLine: moon: Extra inputs are"),
        (
            lambda line: line["archives"].pop("seed-101/hiding"),
            "check",
            "ledger.jsonl:2: S1@1 on none names no archive",
        ),
        (lambda line: line["archives"].update({"seed-101/hiding": "../x"}), "check", "'../x' is no name of an archive"),
        (lambda line: line.update(seeds=[]), "check", "ledger.jsonl:2: S1@1 on none: its seeds are not those"),
        (lambda line: line["result"]["contrasts"][0].update(name="x"), "report", "jsonl:2: S1@1 has no contrast 'x'"),
        (lambda line: line["result"]["contrasts"][0].update(value=math.nan), "check", "value: nan in the ledger, 0.93"),
    ],
)
def test_a_damaged_result_is_told_in_a_line(
    place: Path,
    change: Callable[[dict[str, Any]], object],
    command: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(place)
    damage(place, change)
    capsys.readouterr()
    out = ["--out", str(place / "page.html")] if command == "report" else []
    assert claims(place, command, *out) in (1, 2)
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "delete that line" not in error


def test_a_frozen_text_that_is_no_claim_is_told_with_its_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    damage(place, lambda line: line.update(text=""), number=0)
    for words in (["list"], ["check"], ["report", "--out", str(place / "page.html")]):
        assert claims(place, *words) in (1, 2)
        assert "ledger.jsonl:1: the frozen text of S1@1 states no claim" in capsys.readouterr().err


def test_a_last_line_gets_its_newline_back(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "claims" / "ledger.jsonl"
    run(place)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert claims(place, "check") == 0 and "1 verdict derived anew" in capsys.readouterr().out
    assert claims(place, "run", "K1", "--rung", "table") == 0
    assert file.read_bytes().startswith(whole) and len(Ledger(file).lines) == 4


def test_a_torn_line_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    file = place / "claims" / "ledger.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    for command, status in (("list", 0), ("check", 1)):
        assert claims(place, command) == status
        assert "ledger.jsonl:2: a kill tore this line; `devnull claims run` writes it again" in capsys.readouterr().err


@pytest.mark.parametrize("damaged", [None, b"junk", lzma.compress(b"{}\n")])
def test_an_archive_is_made_again_from_its_job(
    place: Path, damaged: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(place).lines[-1]
    path = place / "claims" / "episodes" / f"{found.archives['seed-101/hiding']}.jsonl.xz"
    whole, ledger = path.read_bytes(), lines(place)
    path.unlink() if damaged is None else path.write_bytes(damaged)
    assert play_claim(place) == 0
    assert "S1@1 seed-101/hiding: its archive is made again from" in capsys.readouterr().err
    assert path.read_bytes() == whole and lines(place) == ledger and claims(place, "check") == 0
    path.unlink() if damaged is None else path.write_bytes(damaged)
    judge_again(place)
    assert path.read_bytes() == whole
    path.unlink()
    ledger = lines(place)
    for seed in (101, 103):  # these two are played alike
        job_file(place, f"seed-{seed}/hiding.evaluation", "job.json").unlink()
    capsys.readouterr()
    assert play_claim(place) == 0
    assert re.search(r"no such file; git checkout .*; that of S1@1 seed-101/hiding, .*", capsys.readouterr().err)
    assert not path.exists() and lines(place) == ledger


# What is shown


def test_names_are_printed_as_they_are_and_steer_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "S\x1b[2J.toml"
    path.write_text(CLAIM.replace('"hides more"', '"a [/b] [red]x\\u001b[31m"'))
    assert claims(place, "show", str(path), "--rung", str(place / "none.toml")) == 0
    shown = capsys.readouterr().out
    assert "a [/b] [red]x␛[31m" in shown and "S␛[2J@1" in shown and "\x1b" not in shown
    ledger = Ledger(place / "claims" / "ledger.jsonl")
    freeze(load_claim(path), "[/b] \x1b[31m", "a recipe", (101, 102), ledger)
    for command in (["list"], ["show", str(path), "--rung", str(place / "none.toml")]):
        assert claims(place, *command) == 0
        shown = capsys.readouterr().out
        assert "[/b] ␛[31m" in shown and "\x1b" not in shown


def test_show_says_that_a_claim_was_edited_since(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    assert claims(place, "show", str(place / "S1.toml"), "--rung", str(place / "none.toml")) == 0
    assert "edited since" not in capsys.readouterr().out
    (place / "S1.toml").write_text(CLAIM.replace("above = 0.5", "above = 0.4"))
    assert claims(place, "show", str(place / "S1.toml"), "--rung", str(place / "none.toml")) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "edited since it was frozen" in shown and "to 2, or take the edit back" in shown


def test_the_exact_theory_differs_and_refutes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert claims(place, "run", "K20", "--rung", "table") == 0
    capsys.readouterr()
    assert claims(place, "check") == 0
    assert re.search(r"K20@\d+ on table: theory differs", capsys.readouterr().err)


def test_a_claim_of_ones_own_is_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    (place / "S1.toml").write_text(f"revision = 10\n{CLAIM}")
    run(place)
    assert claims(place, "list") == 0
    listed = capsys.readouterr().out
    assert re.search(r"S1@10 +supported", listed) and "S1@1 " not in listed and "K1@" in listed
