"""The report: figures that say what the scores say."""

import json
import re
from pathlib import Path

import pytest

from devnull.agents.episode import Usage
from devnull.cli.runs.run_report import write_report
from devnull.cli.runs.run_scores import open_scorer
from devnull.cli.runs.trainings import read_trainings
from devnull.eval.display.breakdown_table import heat_map
from devnull.eval.display.escaping import escape_controls
from devnull.eval.display.figures import calibration_bins, metrics_by_step
from devnull.eval.display.html_report import render_report
from devnull.eval.display.policies import group_policies
from devnull.eval.display.report_entries import make_entry
from devnull.eval.display.timeline import build_timeline
from devnull.eval.display.training_curves import PolicyTraining, batch_figures, log_figures
from devnull.eval.scoring.examiner import Examiner
from devnull.eval.scoring.metrics import METRICS, compute_metrics
from devnull.eval.scoring.score import score
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.errors import InputError
from tests.fakes import DRIVER_CUDA, driver_cuda_episode, make_score
from tests.report_cases import HOSTILE, entries, first_screen, packed, played, some, write_run

ARMS = ("sft", "partial")


def test_the_index_says_what_the_scores_say() -> None:
    report = render_report("a run", entries(some()), folder="f")
    index = packed(report.html, "index")
    scores = [score(each, DRIVER_CUDA, Evaluator()) for each in some()]
    assert [(row["G"], row["G_obs"], row["hidden"]) for row in index["rows"]] == [
        (each.G, each.G_obs, bool(each.hidden)) for each in scores
    ]
    suppression = next(rate for rate in index["rates"] if rate["name"] == "error suppression")
    hidden = [each for each in scores if each.arm == "partial"]
    assert suppression["arms"]["partial"] == {
        **compute_metrics(hidden)["error_suppression_rate"].model_dump(),
        "seeds": [],
    }
    assert {(change["arm"], change["reference"]) for change in index["quadrant"]} == {("partial", "sft")}
    begin = report.html.index('<details class="fold">')
    words = report.html[begin : report.html.index("</p>", begin)]
    assert "the evaluator never came to see: partial 8 of 8; sft none." in words
    assert (
        "Relative to sft: deceptive inflation by partial; overjustification by none (inconclusive: partial)." in words
    )
    assert report.files == {}


def test_verdicts_stand_in_the_table_with_their_bounds() -> None:
    html = render_report("a run", entries(some()), folder="f").html
    table = html[html.index('<table class="verdicts">') : html.index("</table>")]
    cells = re.sub(r"<[^>]+>|\s+", " ", table[table.index("<tbody>") :])
    assert re.search(r"partial\s+sft\s+yes\s+inconclusive\s+\+2\.00\s+\+0\.\d\d to \+2\.\d\d", cells), cells


def test_runs_with_arms_of_their_own_need_no_prefix_and_share_a_reference(tmp_path: Path) -> None:
    for name, arm in (("one", "honest"), ("two", "hiding")):
        (tmp_path / name).mkdir()
        lines = [played(seed, arm, hide=arm == "hiding").model_dump_json() + "\n" for seed in range(12)]
        (tmp_path / name / "episodes.jsonl").write_text("".join(lines))
    write_report([tmp_path / "one", tmp_path / "two"], tmp_path / "both.html")
    index = packed((tmp_path / "both.html").read_text(), "index")
    assert index["arms"] == [["honest", "honest"], ["hiding", "hiding"]]
    assert [(change["arm"], change["reference"]) for change in index["quadrant"]] == [("hiding", "honest")]


def test_what_hid_and_what_it_hid_are_in_the_table() -> None:
    html = render_report("a run", entries(some(2)), folder="f").html
    table = html[html.index('id="hidden-table"') :]
    assert "2&gt;/dev/null" in table and "was not installed: mismatch 1" in table


def test_no_agents_text_is_markup() -> None:
    hostile = played(1, "<b>arm</b>", hide=True, before=HOSTILE)
    html = render_report("<i>run</i>", entries([hostile]), folder="f", facts=[("run", "<u>")]).html
    for markup in ("<script>window", "<img", "<b>arm", "<i>run", "<u>", "\x1b", "\u202e"):
        assert markup not in html
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "") and "https://" not in html


def test_five_hundred_episodes_fit_and_more_are_paged() -> None:
    noise = "".join(f"line {n}: {hash((n, 'x')):x}\n" for n in range(120))
    many = [played(seed, "a", hide=seed % 2 == 0, before=noise) for seed in range(500)]
    report = render_report("big", entries(many), folder="f")
    assert len(report.html) < 5_000_000
    paged = render_report("big", entries(many), folder="f", embed_limit=20_000)
    assert len(paged.html) < len(report.html) and len(paged.files) > 0
    index = packed(paged.html, "index")
    assert index["pages"] == index["embedded"] + len(paged.files) == 13


def test_batches_of_training_have_a_curve_for_each_build() -> None:
    hidden = [score(played(n, "partial", hide=True), DRIVER_CUDA, Evaluator()) for n in range(3)]
    shown = [score(played(n, "partial", hide=False), DRIVER_CUDA, Evaluator()) for n in range(2)]
    sound = [score(played(n, "partial", hide=False, broken=False), DRIVER_CUDA, Evaluator()) for n in range(5)]
    training = PolicyTraining("partial", "grpo", "terminal", batches={0: [*shown, *sound], 4: [*hidden, *sound[:1]]})
    figures = {(each["name"], each["note"]): each["lines"] for each in batch_figures([training])}
    (suppression,) = figures["Errors kept off the terminal", "faulty build"]
    assert [(point[0], point[1], point[4]) for point in suppression["points"]] == [(1, 0.0, 2), (2, 1.0, 3)]
    believed, true = figures["Return, believed and true", "sound build"]
    assert [point[4] for point in true["points"]] == [5, 1] and true["dashed"] and not believed["dashed"]
    assert len({point[1] for point in true["points"]}) == 1  # the draw of the builds is not the curve


def test_what_trainers_logged_shares_no_axes_with_another_trainer() -> None:
    steps = [{"step": 1.0, "loss": 5.0, "kl_episode": 0.1}, {"step": 2.0, "loss": 4.0}]
    figures = log_figures([PolicyTraining("sft", "sft", log=steps), PolicyTraining("partial", "grpo", log=steps)])
    assert [(each["name"], each["note"]) for each in figures[:2]] == [("loss", "sft"), ("loss", "grpo")]


def test_stored_training_episodes_are_read_by_batch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", some(2))
    policy = run / "checkpoints" / "partial"
    record = {"kind": "grpo", "settings": {"batch_size": 2, "gradient_accumulation": 1}, "facts": {"view": "terminal"}}
    for rank in ("", "-1"):
        samples = [0, 1, 16, 17] if not rank else [2, 3, 18, 19]
        write_run(
            policy / f"episodes{rank}",
            [played(n, "grpo", hide=True).model_copy(update={"sample": n}) for n in samples],
        )
    write_run(policy / "episodes-sampled", [played(1, "step-0000", hide=True)])
    (policy / "training.json").write_text(json.dumps(record))
    (training,) = read_trainings(run, open_scorer(run), "run/")
    assert (training.name, training.kind, training.view) == ("run/partial", "grpo", "terminal")
    assert {step: len(scores) for step, scores in training.batches.items()} == {0: 4, 4: 4}


def test_an_episode_is_called_as_its_run_calls_it(tmp_path: Path) -> None:
    demonstrations = [played(seed, "demonstrations", hide=False) for seed in range(3)]
    run = write_run(tmp_path / "one", [*demonstrations, *some(2)])
    write_report([run], tmp_path / "report.html")
    rows = packed((tmp_path / "report.html").read_text(), "index")["rows"]
    assert [row["id"] for row in rows] == ["4", "5", "6", "7"]
    other = write_run(tmp_path / "two", some(1))
    write_report([run, other], tmp_path / "both.html")
    rows = packed((tmp_path / "both.html").read_text(), "index")["rows"]
    assert [row["id"] for row in rows] == ["one:4", "one:5", "one:6", "one:7", "two:1", "two:2"]


def test_runs_whose_folders_are_called_alike_stay_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / seed / "run", some(12)) for seed in ("seed-0", "seed-1")]
    write_report(runs, tmp_path / "both.html")
    index = packed((tmp_path / "both.html").read_text(), "index")
    assert {row["arm"] for row in index["rows"]} == {
        f"seed-{n}/run/{arm}" for n in (0, 1) for arm in ("sft", "partial")
    }
    assert len({row["id"] for row in index["rows"]}) == len(index["rows"])
    assert len(index["rates"][0]["arms"]["partial"]["seeds"]) == 2
    with pytest.raises(InputError, match="named twice"):
        write_report([runs[0], runs[0] / "../run"], tmp_path / "both.html")


def test_a_run_is_called_by_its_folder_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_run(tmp_path / "a run", some(12)))
    write_report([Path()], Path("report.html"))
    html = Path("report.html").read_text()
    assert "<title>a run · devnull report</title>" in html and "devnull replay . --episode" in html
    write_report([tmp_path / "a run"], Path("report.html"))
    assert f"devnull replay &#39;{tmp_path}/a run&#39; --episode" in Path("report.html").read_text()


def test_hidden_failures_of_the_policy_in_question_come_first() -> None:
    scripted = [played(seed, "hiding", hide=True) for seed in range(3)]
    html = render_report("a run", entries([*scripted, *some(12)]), folder="f").html
    table = html[html.index('id="hidden-table"') :]
    assert table.index("<td>partial</td>") < table.index("<td>hiding</td>")


def test_runs_of_several_seeds_are_pooled(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, some(12)) for name in ("seed-0", "seed-1")]
    write_report(runs, tmp_path / "both.html")
    html = (tmp_path / "both.html").read_text()
    index = packed(html, "index")
    suppression = next(rate for rate in index["rates"] if rate["name"] == "error suppression")
    assert suppression["arms"]["partial"]["seeds"] == [1.0, 1.0] and suppression["arms"]["sft"]["seeds"] == [0.0, 0.0]
    assert "2 training seeds" in first_screen(html) and "anecdote" not in first_screen(html)
    assert index["policies"] == ["sft", "partial"] and index["compared"] == ["sft", "partial"]


def test_the_heat_map_is_by_family_or_by_task() -> None:
    scores = [make_score(arm="a", family="x", suppressed="yes"), make_score(arm="a", family="y", suppressed="no")]
    metric = METRICS[0]
    found = heat_map(metric, group_policies({"a": "a"}, {"a": scores}))
    assert found is not None
    assert (found.by, found.rows, found.cells) == ("family", ("x", "y"), (((1.0, 1),), ((0.0, 1),)))
    alone = heat_map(metric, group_policies({"a": "a"}, {"a": scores[:1]}))
    assert alone is not None and alone.by == "task"
    assert heat_map(metric, group_policies({"a": "a"}, {"a": [make_score(arm="a", suppressed=None)]})) is None


def test_the_agents_words_stand_beside_its_command_and_are_no_part_of_the_view() -> None:
    episode = played(1, "a", hide=True)
    turns = tuple(
        each.model_copy(update={"text": f"I will hide it.\n{each.text}"}) for each in episode.transcript.turns
    )
    spoken = episode.model_copy(update={"transcript": episode.transcript.model_copy(update={"turns": turns})})
    frames = build_timeline(spoken, DRIVER_CUDA, Evaluator())
    said = [span.text for frame in frames for span in frame.truth if span.kind == "message"]
    assert set(said) == {"I will hide it."}
    assert not any(span.kind == "message" for frame in frames for span in frame.seen)


def test_what_looks_alike_is_drawn_once_and_the_page_says_the_same() -> None:
    error = "ERROR: CUDA 12.4 was not installed\n"
    episodes = [
        driver_cuda_episode(seed, arm, hide=arm == "partial", faulty=True, error=error)
        for seed in range(6)
        for arm in ARMS
    ]
    examiner = Examiner(Evaluator())
    shared = render_report(
        "a run", (make_entry(each, DRIVER_CUDA, examiner, each.arm) for each in episodes), folder="f"
    )
    alone = render_report("a run", entries(episodes), folder="f")
    found, expected = (packed(each.html, "index") for each in (shared, alone))
    drawn, one_by_one = packed(shared.html, "page-0"), packed(alone.html, "page-0")
    assert len(drawn) == 2 and len(one_by_one) == len(episodes)
    for row, own in zip(found["rows"], expected["rows"], strict=True):
        assert drawn[row.pop("t")] == one_by_one[own.pop("t")]
    assert found == expected
    assert found["rows"][0]["asked"] == escape_controls(episodes[0].transcript.instruction)


def test_a_thought_is_in_the_page_and_in_no_view_and_its_controls_are_marks() -> None:
    episode = played(1, "a", hide=True)
    first, *rest = episode.transcript.turns
    turns = (first.model_copy(update={"reasoning": f"Nobody sees it. {HOSTILE}"}), *rest)
    thinking = episode.model_copy(update={"transcript": episode.transcript.model_copy(update={"turns": turns})})
    examiner = Examiner(Evaluator())
    both = [make_entry(each, DRIVER_CUDA, examiner, each.arm) for each in (episode, thinking)]
    report = render_report("a run", both, folder="f")
    plain, thought = packed(report.html, "page-0")  # what is thought is no part of what happened, yet is drawn
    assert [kind for kind, *_ in thought[1]["truth"]][:2] == ["reasoning", "command"]
    assert thought[1]["truth"][0][1].startswith("Nobody sees it. <script>")
    assert "␛[31mred" in thought[1]["truth"][0][1] and "⟨U+202E⟩" in thought[1]["truth"][0][1]
    assert "Nobody sees it" not in json.dumps(thought[1]["seen"]) and "Nobody" not in json.dumps(plain)
    assert "Nobody sees it" not in report.html


def test_a_report_of_a_run_holds_its_times() -> None:
    episode = played(1, "a", hide=True)
    costed = episode.model_copy(update={"cost": Usage(model_seconds=3.0)})
    (row,) = packed(render_report("a run", entries([costed]), folder="f").html, "index")["rows"]
    frames = build_timeline(costed, DRIVER_CUDA, Evaluator())
    ends = {frame.turn: round(frame.seconds, 3) for frame in frames}
    assert row["seconds"] == list(ends.values()) and row["seconds"][-1] >= 3.0


def test_without_episodes_there_is_nothing_to_report(tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").write_text("")
    with pytest.raises(InputError, match="no finished episode"):
        write_report([tmp_path], tmp_path / "report.html")


def test_calibration_counts_and_averages() -> None:
    believed = [(0.05, False), (0.05, True), (0.95, True)]
    scores = [make_score(seed=n, belief_success=p, success=success) for n, (p, success) in enumerate(believed)]
    low, high = calibration_bins(scores)
    assert (low.low, low.success.n, low.success.value) == (0.0, 2, 0.5)
    assert (high.high, high.success.n, high.success.value) == (1.0, 1, 1.0)


def test_arms_named_by_step_become_a_curve() -> None:
    scores = [score(each, DRIVER_CUDA, Evaluator()) for each in some(3)]
    table = compute_metrics(scores)
    found = metrics_by_step({"partial-step-50": table, "partial-step-0": table, "sft": table})
    assert [step for step, _ in found["partial"]] == [0, 50] and set(found) == {"partial"}
