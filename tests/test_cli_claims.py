"""`devnull claims`: frozen before it is run, run once, resumed, judged, checked, shown."""

import importlib
import json
import lzma
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devnull.agents.episode import Episode
from devnull.cli.claims.choosing import find_claims, find_recipe, shipped_claims
from devnull.cli.claims.job_checks import why_refused
from devnull.cli.claims.ledger import Ledger
from devnull.cli.claims.pages import claims_markdown
from devnull.cli.claims.plan import Job, merge_jobs, plan_claim
from devnull.cli.claims.playing import freeze
from devnull.cli.claims.running import LocalRunner, run_jobs
from devnull.cli.main import main
from devnull.cli.runs.evaluator_choice import choose_evaluator
from devnull.cli.runs.run_folder import open_run
from devnull.cli.terminal.console import parse_arguments
from devnull.eval.claims.claim_reader import load_claim, parse_claim
from devnull.eval.claims.recipe import LoadedRecipe, load_recipe
from devnull.sandbox.errors import InfrastructureError, InputError
from tests.scripted_claims import CLAIM, RECIPE, ScriptedRunner, claims, lines, make_place, run, wait_until


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path)


def test_a_run_is_frozen_judged_and_checked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = run(place)
    frozen, found = ledger.lines
    assert (frozen.kind, frozen.text, frozen.seeds) == ("frozen", CLAIM, (101, 102, 103, 104)) and frozen.at <= found.at
    assert found.answer == "supported" and found.seconds == 480
    assert found.result is not None and found.result.contrasts[0].value == pytest.approx(15 / 16)
    link = place / "out" / "S1" / "seed-101" / "hiding.evaluation"
    assert link.is_symlink() and (link / "run" / "episodes.jsonl").exists()
    assert claims(place, "check") == 0
    assert "1 verdict derived anew: all as they are stored" in capsys.readouterr().out


def test_what_is_done_is_not_done_again(place: Path) -> None:
    run(place)
    again = ScriptedRunner(place / "out")
    assert len(run(place, again).lines) == 2 and again.ran == []


def test_a_run_that_was_cut_short_goes_on(place: Path) -> None:
    """Of its eight jobs four have failed; then nothing is judged, and the others are kept."""
    with pytest.raises(InfrastructureError, match=r"4 of 8 jobs failed; S1 seed-101/hiding.evaluation: .*no daemon"):
        run(place, ScriptedRunner(place / "out", failing=["hiding"]))
    assert [line["kind"] for line in lines(place)] == ["frozen"]
    rest = ScriptedRunner(place / "out")
    assert run(place, rest).lines[-1].answer == "supported" and len(rest.ran) == 4


def test_a_torn_line_is_owed_again(place: Path) -> None:
    run(place)
    file = place / "claims" / "ledger.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    assert [line.kind for line in Ledger(file).lines] == ["frozen"]
    again = run(place)
    assert [line.kind for line in again.lines] == ["frozen", "result"] and again.lines[-1].answer == "supported"
    assert [line["kind"] for line in lines(place)] == ["frozen", "result"]


def test_a_line_that_was_altered_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    file = place / "claims" / "ledger.jsonl"
    file.write_text(file.read_text().replace('"episodes":16', '"episodes":17'))
    assert claims(place, "check") == 2
    assert "ledger.jsonl:2: the line before it is not the one" in capsys.readouterr().err


def test_a_verdict_that_its_episodes_do_not_give_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    file = place / "claims" / "ledger.jsonl"
    first, second = file.read_text().splitlines()
    file.write_text(first + "\n" + second.replace('"answer":"supported"', '"answer":"refuted"') + "\n")
    assert claims(place, "check") == 1
    assert "S1@1: refuted in the ledger, supported from its figures" in capsys.readouterr().err
    value = f'"value":{json.loads(second)["result"]["contrasts"][0]["value"]}'
    assert value in second
    file.write_text(first + "\n" + second.replace(value, '"value":0.125') + "\n")
    assert claims(place, "check") == 1
    assert "contrasts[0] value: 0.125 in the ledger, 0.9375 from its episodes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"junk"), "not valid as xz"),
        (lambda path: path.write_bytes(lzma.compress(b"{}\n")), "not the episodes that were stored"),
    ],
)
def test_episodes_that_are_not_the_stored_ones(place: Path, change, words, capsys) -> None:  # type: ignore[no-untyped-def]
    run(place)
    change(next((place / "claims" / "episodes").iterdir()))
    assert claims(place, "check") == 1
    assert words in capsys.readouterr().err


def test_stored_episodes_are_whole_but_for_their_seconds(place: Path) -> None:
    found = run(place).lines[-1]
    path = place / "claims" / "episodes" / f"{found.archives['seed-101/hiding']}.jsonl.xz"
    episodes = [Episode.model_validate_json(line) for line in lzma.decompress(path.read_bytes()).splitlines()]
    assert len(episodes) == 16 and episodes[1].transcript.results[1].suppressed == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "S1.toml",
            "above = 0.5",
            "above = 0.4",
            r"S1@1 was frozen on .* and its file was edited since; raise `revision`",
        ),
        ("none.toml", 'split = "train"', 'split = "test"', r"and the recipe was edited since; raise `revision`"),
    ],
)
def test_an_edit_after_the_freeze_is_another_version(place: Path, file: str, old: str, new: str, words: str) -> None:
    run(place)
    (place / file).write_text((place / file).read_text().replace(old, new))
    with pytest.raises(InputError, match=words):
        run(place)
    (place / "S1.toml").write_text("revision = 2\n" + (place / "S1.toml").read_text())
    assert [line.claim for line in run(place).lines] == ["S1@1", "S1@1", "S1@2", "S1@2"]


def test_an_edit_after_the_freeze_for_one_rung_is_another_version_for_all(place: Path) -> None:
    path, ledger = place / "S1.toml", Ledger(place / "claims" / "ledger.jsonl")
    freeze(load_claim(path), "table", "", (), ledger)
    freeze(load_claim(path), "tiny", "a recipe", (100, 101), ledger)
    path.write_text(path.read_text().replace("above = 0.5", "above = 0.4"))
    for rung in ("table", "tiny", "smollm2"):
        with pytest.raises(InputError, match=r"S1@1 was frozen on .* and its file was edited since; raise `revision`"):
            freeze(load_claim(path), rung, "a recipe", (100, 101), ledger)


def test_the_exact_theory_does_not_speak_of_an_edited_claim(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "K4.toml"
    path.write_text(shipped_claims()[0].path.with_name("K4.toml").read_text())
    assert claims(place, "run", str(path), "--rung", "table") == 0
    path.write_text(path.read_text().replace("caveat = ", "caveat = 'more' # "))
    assert claims(place, "run", str(path), "--rung", "table") == 2
    assert "its file was edited since; raise `revision`" in capsys.readouterr().err


def test_bad_input_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(place / "none.toml")
    cases = [
        (["run", "K111"], "no claim 'K111'; did you mean 'K1"),
        (["run"], "claims"),
        (["run", str(place / "S1.toml"), "--rung", recipe, "--budget", "9s"], "--budget 0.15m is less than one arm"),
        (["run", str(place / "S1.toml"), "--rung", recipe, "--budget", "soon"], "--budget soon: a time is wanted"),
        (["run", str(place / "S1.toml"), "--rung", recipe, "--seeds", "1"], "--seeds is 1; S1 has 4 training seeds"),
        (["run", "K8", "--rung", "table"], "K8: the table rung knows nothing of"),
        (["run", "K1", "K1"], "a claim is named twice"),
        (["check"], "no such ledger"),
    ]
    for words, message in cases:
        assert claims(place, *words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (place / "claims" / "ledger.jsonl").exists()


def test_a_claim_without_its_settings_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "S1.toml").write_text('missing = ["rollout --moon"]\n' + CLAIM)
    assert claims(place, "run", str(place / "S1.toml"), "--rung", str(place / "none.toml")) == 2
    assert "S1 cannot be run yet: rollout --moon is not there" in capsys.readouterr().err


def test_the_exact_theory_is_a_rung(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert claims(place, "run", "K1", "--rung", "table") == 0
    assert re.search(r"K1@\d+ +theory agrees +table", capsys.readouterr().out)
    assert claims(place, "check") == 0
    assert lines(place)[0]["theory"]["overestimation rises"] == pytest.approx(2.7)  # type: ignore[index]


def test_list_show_and_report(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place)
    assert claims(place, "list") == 0
    listed = capsys.readouterr().out
    assert max(map(len, listed.splitlines())) <= 80 and "K18@" in listed
    for claim, rung in (("K1", "tiny"), ("K14", "tiny"), (str(place / "S1.toml"), str(place / "none.toml"))):
        assert claims(place, "show", claim, "--rung", rung) == 0
        shown = capsys.readouterr().out
        assert "refuted by" in shown and "predicted, all of it" in shown and "devnull rollout" in shown
        told = shown.partition("\njobs of training seed")[0]
        assert max(map(len, told.splitlines())) <= 80
        for _, name, *words in (shlex.split(line) for line in shown.splitlines() if line.startswith("devnull ")):
            parse_arguments(importlib.import_module(f"devnull.cli.commands.{name}").Args, name, words, None)
    page = place / "page.html"
    assert claims(place, "report", "--out", str(page)) == 0
    html = page.read_text()
    assert "<script>" not in html and "hides.&lt;script&gt;" in html and html.count('class="dot"') == 4
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")


def test_the_page_of_the_docs_has_a_row_and_a_figure(place: Path) -> None:
    ledger = run(place)
    (claim,) = [parse_claim(place / "S1.toml", CLAIM)]
    text = claims_markdown([claim, *shipped_claims()], ledger)
    assert "| S1@1 | none | supported |" in text and "![S1@1](claims/S1-1-none.svg)" in text
    assert "| K7@1 |  | never run |" in text and "Earlier" not in text
    later = parse_claim(place / "S1.toml", f"revision = 2\n{CLAIM}")
    now, earlier = claims_markdown([later], ledger).split("## Earlier revisions")
    assert "| S1@2 |  | never run |" in now and "### S1@1 on none: supported" in earlier


# Plans


def shipped_plans() -> list[tuple[str, dict[str, Job], tuple[str, ...]]]:
    recipe = find_recipe("tiny")
    return [(c.name, plan_claim(c, recipe, c.file.seeds[:1]).jobs, c.file.missing) for c in shipped_claims()]


def test_there_are_the_claims_of_the_table() -> None:
    names = {claim.name for claim in shipped_claims()}
    numbers = ("1", "1d", "2", "3", "4", "5", "6", "7", "8", "9", "10", "12", "14", "15", "17", "18", "19", "20")
    assert {f"K{number}" for number in numbers} <= names


@pytest.mark.parametrize("rung", ["tiny", "smollm2", "smollm2-gpu"])
def test_every_job_of_every_claim_is_a_command_that_exists(rung: str) -> None:
    """A claim that says what is missing has a job that no command takes; any other has none."""
    recipe = find_recipe(rung)
    for claim in shipped_claims():
        jobs = plan_claim(claim, recipe, claim.file.seeds[:1]).jobs
        refused = [error for job in jobs.values() if (error := why_refused(job, jobs)) is not None]
        assert bool(refused) == bool(claim.file.missing), (claim.name, refused)


def test_what_rounds_make_is_the_last_round() -> None:
    """`train dpo --rounds 4 --out OUT` leaves a model in `OUT/round-4`, and none in `OUT`."""
    plan = plan_claim(find_claims(["K17"])[0], find_recipe("tiny"), (10,))
    products = {digest: job.product(Path("x")) for digest, job in plan.jobs.items()}
    trained, evaluated = (plan.jobs[plan.names[f"seed-10/terminal-4{end}"]] for end in ("", ".evaluation"))
    out = trained.words(Path("x"), products)
    assert products[trained.digest] == f"{out[out.index('--out') + 1]}/round-4"
    assert f"hf:{products[trained.digest]}" in evaluated.words(Path("x"), products)


def test_claims_share_what_is_the_same() -> None:
    recipe = find_recipe("tiny")
    claims = {claim.name: claim for claim in shipped_claims()}
    plans = [plan_claim(claims[name], recipe, (0, 1)) for name in ("K1", "K18")]
    assert merge_jobs(plans).keys() == plans[0].jobs.keys()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('agent = "hiding"', 'policy = "strat"', r"S1.toml:11: no job 'strat'; did you mean 'start'"),
        (
            "[arms.hiding]",
            '[jobs.a]\ncommand = "rollout"\nagent = "hf:@b"\n[jobs.b]\nlike = "a"\nagent = "hf:@a"\n'
            "[arms.a]\n[arms.hiding]",
            r"builds on itself: a → b",
        ),
        ("[arms.hiding]", '[jobs.a]\nlike = "a"\n[arms.a]\n[arms.hiding]', r"job 'a' is like itself"),
        ("[arms.hiding]", "[jobs.a]\nseed = 1\n[arms.a]\n[arms.hiding]", r"S1.toml:11: job 'a' has no command"),
    ],
)
def test_jobs_that_cannot_be(place: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        claim = parse_claim(place / "S1.toml", CLAIM.replace(old, new, 1))
        plan_claim(claim, load_recipe(place / "none.toml"), (0, 1))


def test_what_a_job_builds_on_is_part_of_what_it_is(place: Path) -> None:
    text = CLAIM.replace(
        "[arms.hiding]", '[jobs.end]\ncommand = "rollout"\nagent = "replay:@start"\n[arms.end]\n[arms.hiding]'
    )
    claim, recipe = parse_claim(place / "S1.toml", text), load_recipe(place / "none.toml")

    def planned(recipe: LoadedRecipe) -> dict[str, str]:
        return plan_claim(claim, recipe, (0,)).names

    (place / "none.toml").write_text(RECIPE.replace('agent = "honest"', 'agent = "stopping"'))
    same, changed = planned(recipe), planned(load_recipe(place / "none.toml"))
    assert same["seed-0/end.evaluation"] != changed["seed-0/end.evaluation"]
    assert same["seed-0/honest.evaluation"] == changed["seed-0/honest.evaluation"]


def test_a_job_waits_for_what_it_builds_on_and_fails_with_it(place: Path) -> None:
    jobs = {
        name: Job(name, "rollout", {"arm": name}, needs, 1.0) for name, needs in (("a", ()), ("b", ("a",)), ("c", ()))
    }
    runner = ScriptedRunner(place, failing=["a"])
    ends = {end.digest: end.status for end in run_jobs(jobs, place, runner, boxes=())}
    assert ends == {"a": 1, "c": 0} and runner.ran == ["a", "c"]
    again = ScriptedRunner(place)
    assert [end.digest for end in run_jobs(jobs, place, again, boxes=())] == ["a", "b"]


def test_no_job_begins_when_the_budget_is_spent(place: Path) -> None:
    jobs = {"a": Job("a", "rollout", {"arm": "a"}, (), 1.0)}
    runner = ScriptedRunner(place)
    assert [*run_jobs(jobs, place, runner, boxes=(), seconds=0.0)] == [] and runner.ran == []


# Processes


def test_jobs_are_processes_whose_words_are_kept(place: Path) -> None:
    runner = LocalRunner(place, 2)
    job = Job("a", "rollout", {"agent": "nobody"}, (), 1.0)
    (end,) = run_jobs({"a": job}, place, runner, boxes=())
    assert end.status == 2 and runner.free == 2
    assert "nobody" in (place / "jobs" / "a" / "log.txt").read_text()
    assert not (place / "jobs" / "a" / "job.json").exists()


@pytest.mark.slow
@pytest.mark.rootless
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_no_process_and_goes_on(place: Path, rootless_runtime: object, how: int) -> None:
    (place / "S1.toml").write_text(CLAIM.replace("[101, 102, 103, 104]", "[101, 102]"))
    words = ["claims", "run", str(place / "S1.toml"), "--rung", str(place / "none.toml"), "--runtime", "rootless"]
    words += ["--out", str(place / "out"), "--ledger", str(place / "claims" / "ledger.jsonl")]
    command = [sys.executable, "-m", "devnull", *words]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background has it ignored
    )
    wait_until(lambda: any(file.stat().st_size for file in place.glob("out/jobs/*/run/episodes.jsonl")))
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.send_signal(how)
    _, error = process.communicate(timeout=120)
    assert children and process.returncode in (-signal.SIGKILL, 130) and b"Traceback" not in error
    wait_until(lambda: not any(Path("/proc", str(pid)).exists() for pid in children))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert [line["kind"] for line in lines(place)] == ["frozen", "result"]
    files = list(place.glob("out/jobs/*/run/episodes.jsonl"))
    keys = [Episode.model_validate_json(line).key for file in files for line in file.read_text().splitlines()]
    assert len(keys) == 4 * 16
    assert claims(place, "check") == 0


# The whole of it


@pytest.mark.slow
@pytest.mark.rootless
def test_a_claim_of_trained_policies_in_real_boxes(
    place: Path, rootless_runtime: object, capfd: pytest.CaptureFixture[str]
) -> None:
    """The tiny recipe made small: two seeds, two batches; what they show is too little for a verdict."""
    small = [("episodes = 160", "episodes = 48"), ("max_steps = 32", "max_steps = 2"), ("iterations = 4", "")]
    small += [("batch_size = 32", "batch_size = 8"), ("checkpoint_steps = 8", ""), ("epochs = 24", "epochs = 6")]
    recipe = find_recipe("tiny").text
    for old, new in small:
        assert old in recipe
        recipe = recipe.replace(old, new)
    (place / "small.toml").write_text(recipe)
    (claim,) = [each for each in shipped_claims() if each.name == "K18"]
    text = "seeds = [101, 102]\nepisodes = 16\n" + claim.text + "\n[gates]\nvalid = 0\nfailures = 1\n"
    (place / "K18.toml").write_text(text)
    words = [str(place / "K18.toml"), "--rung", str(place / "small.toml"), "--runtime", "rootless"]
    words += ["--memory", str(place / "world.jsonl")]
    assert claims(place, "run", *words, "--out", str(place / "out")) == 0
    found = Ledger(place / "claims" / "ledger.jsonl").lines[-1]
    assert found.result is not None and len(found.result.contrasts[0].by_seed) == 2
    assert len(list(place.glob("out/jobs/*/job.json"))) == 10 and len(found.archives) == 4
    assert len((place / "world.jsonl").read_text().splitlines()) > 10
    played = [json.loads(path.read_text())["boxes"] for path in place.glob("out/jobs/*/run/run.json")]
    assert set(played) == {"remembered(rootless)"}
    assert [*found.divergences] == ["partial"] and len(found.divergences["partial"]) == 2
    capfd.readouterr()
    assert claims(place, "check") == 0


def test_a_run_keeps_the_paranoia_it_is_judged_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "--p-hide", "2", "--out", str(tmp_path / "run")]) == 2
    assert "--p-hide is 2.0; a probability lies between 0 and 1" in capsys.readouterr().err
    run = open_run(tmp_path / "run", "rollout", {"p_hide": 0.2}, 0)
    assert choose_evaluator(run.path).belief.p_hide == 0.2  # type: ignore[union-attr]
