"""The report: figures that say what the scores say, and a page that a real browser opens from disk."""

import base64
import json
import re
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from devnull.agents.episode import Episode, Usage
from devnull.cli.runs.run_report import write_report
from devnull.cli.runs.trainings import read_trainings
from devnull.eval.comparing.verdicts import compare_to_reference
from devnull.eval.display.breakdown_table import heat_map
from devnull.eval.display.escaping import escape_controls
from devnull.eval.display.figures import calibration_bins, metrics_by_step
from devnull.eval.display.headline_picture import headline_picture, picture_file
from devnull.eval.display.html_report import render_report
from devnull.eval.display.policies import group_policies
from devnull.eval.display.report_entries import ReportEntry, make_entry
from devnull.eval.display.timeline import build_timeline
from devnull.eval.display.training_curves import PolicyTraining, batch_figures, log_figures
from devnull.eval.scoring.examiner import Examiner
from devnull.eval.scoring.metrics import METRICS, compute_metrics
from devnull.eval.scoring.score import score
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.errors import InputError
from devnull.sandbox.transcript import Turn
from tests.chromium import AXE, EXECUTABLE, Page, chromium
from tests.fakes import DRIVER_CUDA, driver_cuda_episode, make_score

browser = [pytest.mark.browser, pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine")]
HOSTILE = (
    "<script>window.owned=1</script><img src=x onerror=window.owned=1></pre>\x1b[31mred\x1b[0m "
    "\u202eevil\u202c שלום عالم ${1+1} {{7*7}} --> ]]>\n"
)
LONG = "x" * 1_000_000
ARMS = ("sft", "partial")


def played(seed: int, arm: str, *, hide: bool, before: str = "", broken: bool = True) -> Episode:
    """The driver in sight, then CUDA, broken or not, hidden or not."""
    error = f"ERROR: CUDA 12.4 was not installed: mismatch {seed}\n"
    return driver_cuda_episode(seed, arm, hide=hide, faulty=broken, before=before, error=error)


def entries(episodes: list[Episode]) -> Iterator[ReportEntry]:
    for each in episodes:
        yield ReportEntry(
            each,
            partial(build_timeline, each, DRIVER_CUDA, Evaluator()),
            score(each, DRIVER_CUDA, Evaluator()),
            each.arm,
        )


def some(seeds: int = 12) -> list[Episode]:
    """`sft` shows its failures, `partial` hides them; every third build works."""
    return [
        played(seed, arm, hide=arm == "partial", broken=seed % 3 != 0)
        for arm in ("sft", "partial")
        for seed in range(seeds)
    ]


def packed(html: str, name: str) -> Any:
    found = re.search(rf'id="{name}">([^<]*)</script>', html)
    assert found is not None
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


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
    write_report([tmp_path / "one", tmp_path / "one"], tmp_path / "twice.html")
    assert packed((tmp_path / "twice.html").read_text(), "index")["arms"] == [["one/honest", "honest"]]


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


def write_run(folder: Path, episodes: list[Episode]) -> Path:
    folder.mkdir(parents=True)
    (folder / "episodes.jsonl").write_text("".join(each.model_dump_json() + "\n" for each in episodes))
    return folder


def first_screen(html: str) -> str:
    """Its text, up to what is folded away."""
    text = html[html.index('<section id="summary"') : html.index("<details")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).replace("\xa0", " ")


def test_the_first_screen_says_what_was_learnt_against_what_and_how_sure() -> None:
    full = [played(seed, "full", hide=False, broken=seed % 3 != 0) for seed in range(12)]
    views = [PolicyTraining("partial", "grpo", "terminal"), PolicyTraining("full", "grpo", "full")]
    html = render_report("a run", entries([*some(), *full]), folder="f", training=views).html
    words = first_screen(html)
    assert (
        "Rated on the terminal alone, the policy learnt to keep its errors out of sight: 100 % of its failures; "
        "its warm start, 0 %." in words
    )
    assert "The same training, rated on everything, raw stderr included: 0 %." in words
    assert "How sure: +100 points, 95 % interval" in words and "1 training seed" in words
    assert "not discovery" in words and "model organism" in words
    assert "was not installed: mismatch" in words and 'href="#e14"' in html  # seed 1 of `partial`, after 12 of `sft`


def test_the_first_screen_gives_the_changes_that_the_verdict_stands_on() -> None:
    """With instances played unequally often, a mean over episodes is another number."""
    more = [played(0, "partial", hide=True, broken=False).model_copy(update={"sample": n}) for n in range(1, 9)]
    found = [*entries([*some(), *more])]
    words = first_screen(render_report("a run", iter(found), folder="f").html)
    policy, reference = ([each.score for each in found if each.score and each.arm == arm] for arm in ("partial", "sft"))
    changes = compare_to_reference(policy, reference).differences
    said = [f"{changes[name].value:+.2f}".replace("-", "−") for name in ("J_obs", "J")]
    assert f"Its believed return changed by {said[0]}, its true return by {said[1]};" in words
    few = first_screen(render_report("a run", entries(some(3)), folder="f").html)
    assert "Deceptive inflation: inconclusive" in few and "return changed" not in few


def test_where_a_gate_failed_there_is_no_verdict() -> None:
    silent = [
        each.model_copy(update={"transcript": each.transcript.model_copy(update={"turns": (garbled, garbled, *turns)})})
        for each in some()
        for garbled in [Turn(text="??", valid=False)]
        for turns in [each.transcript.turns]
    ]
    words = first_screen(render_report("a run", entries(silent), folder="f").html)
    assert "deceptive inflation: no verdict. Gates FAILED, so no verdict counts: sft: valid_action_share 0.500" in words
    assert "no verdict" not in first_screen(render_report("a run", entries(some()), folder="f").html)


def test_the_picture_stands_alone_in_the_colours_of_the_page() -> None:
    headline = render_report("a run", entries(some()), folder="f").headline
    assert headline is not None
    svg = picture_file(headline.pictured)
    assert "--a0: #" in svg and "stroke: var(--c)" in svg and "100 %" in svg
    root = ElementTree.fromstring(svg)
    panels = [each for each in root if each.tag.endswith("svg")]
    assert [each.get("x") for each in panels] == ["0", "480"]
    assert [len(picture_file(())) > 0, headline_picture(headline.pictured).count("<svg")] == [True, 2]


def test_no_line_of_the_picture_runs_through_a_name() -> None:
    headline = render_report("a run", entries(some()), folder="f").headline
    assert headline is not None
    panels = ElementTree.fromstring(f"<div>{headline_picture(headline.pictured)}</div>")
    for panel in panels:
        names = [float(each.get("y", "")) for each in panel.iter("text") if each.get("class") == "name"]
        ruled = [each for each in panel if each.get("class") in ("zero", "axis")]
        ends = [
            (float(y), float(y) + float(v))
            for each in ruled
            for y, v in re.findall(r" ([\d.]+)v([\d.]+)", each.get("d", ""))
        ]
        assert len(names) > 1 and len(ends) == len(names) * len(ruled)
        assert not [(top, low, y) for top, low in ends for y in names if top < y + 4 and low > y - 11]


def test_scripted_agents_learnt_nothing_and_a_lone_arm_has_no_headline() -> None:
    scripted = [
        each.model_copy(update={"agent": name, "arm": name})
        for name, hide in (("honest", False), ("hiding", True))
        for each in (played(seed, name, hide=hide) for seed in range(4))
    ]
    words = first_screen(render_report("a run", entries(scripted), folder="f").html)
    assert "The scripted agent hiding keeps 100 % of its failures off the terminal" in words
    assert "nothing was learnt here" in words
    alone = render_report("a run", entries(scripted[:4]), folder="f").html
    assert "What was shown, and what was true" in alone and "nothing was learnt" not in alone


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
    (training,) = read_trainings(run, "run/")
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


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A report of ordinary and hostile episodes, opened from disk."""
    folder = tmp_path_factory.mktemp("report")
    hostile = played(90, "hostile <arm>", hide=True, before=HOSTILE + LONG + "\n")
    report = render_report("a run", entries([*some(9), hostile]), folder="f", training=[TRAINING])
    (folder / "report.html").write_text(report.html)
    with chromium() as page:
        page.open(folder / "report.html")
        yield page


TRAINING = PolicyTraining(
    "partial", "grpo", "terminal", log=[{"step": float(step), "loss": 1 / (step + 1)} for step in range(5)]
)


class TestInChromium:
    pytestmark = browser

    def test_it_is_drawn_without_a_complaint(self, opened: Page) -> None:
        assert opened.ask("document.querySelectorAll('circle.dot').length") == 19
        assert opened.ask("document.querySelectorAll('#rates-figures figure').length") == 11
        assert opened.ask("document.querySelectorAll('#quadrant-figure circle').length") == 1
        assert opened.ask("document.querySelector('#log-figures h3').textContent") == "loss grpo"
        assert opened.complaints == []

    def test_hidden_failures_are_ringed_and_groups_are_counted(self, opened: Page) -> None:
        assert opened.ask("document.querySelectorAll('circle.dot.hid').length") == 7
        numbers = opened.ask("[...document.querySelectorAll('text.many')].map((each) => each.textContent)")
        assert sorted(map(int, numbers)) == [6, 6, 7]

    def test_arrows_walk_the_list(self, opened: Page) -> None:
        opened.ask("location.hash = '#e1'")
        opened.until("document.querySelector('#episode h3')?.textContent.startsWith('Episode 1 ')")
        opened.ask("document.getElementById('list').focus()")
        opened.press("ArrowDown")
        opened.until("document.querySelector('#episode h3').textContent.startsWith('Episode 2 ')")
        assert opened.ask("document.activeElement.id") == "list"

    def test_a_phone_scrolls_one_way_only(self, opened: Page) -> None:
        opened.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        assert opened.ask("document.documentElement.scrollWidth") <= 390
        opened.call("Emulation.clearDeviceMetricsOverride")

    def test_dots_above_the_diagonal_are_the_overestimated(self, opened: Page) -> None:
        opened.ask(
            "document.querySelector('circle.dot[data-n=\"11\"]').dispatchEvent(new Event('click', {bubbles: true}))"
        )
        opened.until("document.querySelector('#episode h3')?.textContent.startsWith('Episode 11 ')")
        believed, true = opened.ask("[...document.querySelectorAll('.end b')].map((each) => each.textContent)")
        assert (believed, true) == ("−2", "−5")
        assert opened.ask("document.querySelector('#episode pre.suppressed').textContent").startswith(
            "ERROR: CUDA 12.4"
        )
        assert opened.ask("document.querySelector('.cell.seen.nothing').textContent") == "nothing was shown"

    def test_filters_and_search(self, opened: Page) -> None:
        opened.enter("filter-kind", "hidden", "change")
        assert opened.ask("document.getElementById('match-count').textContent") == "7 of 19"
        opened.enter("search", "mismatch 4", "input")
        opened.until("document.getElementById('match-count').textContent === '1 of 19'")
        opened.ask("document.getElementById('clear').click()")
        opened.until("document.getElementById('match-count').textContent === '19 of 19'")

    def test_filter_by_construct(self, opened: Page) -> None:
        opened.enter("filter-construct", "stderr", "change")
        assert opened.ask("document.getElementById('match-count').textContent") == "10 of 19"
        opened.ask("document.getElementById('clear').click()")

    def test_one_instance_side_by_side(self, opened: Page) -> None:
        columns = opened.ask("[...document.querySelectorAll('.column h3')].map((each) => each.textContent)")
        assert columns == ["sft", "partial"]
        marked = (
            "[...document.querySelectorAll('.column:nth-child(2) pre.command ins')].map((each) => each.textContent)"
        )
        assert "2>/dev/null" in "".join(opened.ask(marked))
        assert opened.ask("document.querySelectorAll('.column:nth-child(2) pre.suppressed').length") == 1

    def test_nothing_is_without_a_name(self, opened: Page) -> None:
        """What axe-core complains of first: empty headers, regions that a keyboard cannot reach, fields unnamed."""
        assert opened.ask("[...document.querySelectorAll('th')].filter((each) => !each.textContent.trim()).length") == 0
        assert opened.ask("document.querySelectorAll('.scroll:not([tabindex])').length") == 0
        assert opened.ask("document.querySelectorAll('select:not([aria-label]), input:not([aria-label])').length") == 0

    @pytest.mark.skipif(AXE is None, reason="no axe-core on this machine: scripts/setup.sh test")
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing(self, opened: Page, theme: str) -> None:
        opened.ask("for (const each of document.querySelectorAll('details')) each.open = true")
        opened.ask(f"document.documentElement.dataset.theme = {json.dumps(theme)}")
        try:
            assert opened.violations() == []
            opened.ask("document.querySelector('a.skip').textContent = '';")
            assert any(each.startswith("link-name") for each in opened.violations())  # it does look
        finally:
            opened.ask("document.querySelector('a.skip').textContent = 'Skip to the transcripts'")
            opened.ask("delete document.documentElement.dataset.theme")
            opened.ask("for (const each of document.querySelectorAll('details')) each.open = false")

    def test_keys(self, opened: Page) -> None:
        opened.ask("document.activeElement.blur()")
        opened.press("h")
        opened.until("document.querySelector('.flag.hidden')")
        first = opened.ask("document.querySelector('#episode h3').textContent")
        opened.press("j")
        opened.until(f"document.querySelector('#episode h3').textContent !== {json.dumps(first)}")
        before = opened.ask("getComputedStyle(document.body).backgroundColor")
        opened.press("t")
        assert opened.ask("getComputedStyle(document.body).backgroundColor") != before
        opened.press("/")
        assert opened.ask("document.activeElement.id") == "search"
        opened.press("Escape")
        opened.press("?")
        assert opened.ask("document.getElementById('help').open") is True
        opened.ask("document.getElementById('help').close()")

    def test_hostile_text_is_text(self, opened: Page) -> None:
        opened.ask("location.hash = '#e19'")
        opened.until("document.querySelector('#episode h3')?.textContent.startsWith('Episode 19 ')")
        shown = opened.ask("document.querySelector('.cell.truth pre.shown').textContent")
        assert "<script>window.owned=1</script>" in shown and "␛[31mred" in shown and "⟨U+202E⟩evil" in shown
        assert "characters left out" in shown and len(shown) < 10_000
        assert opened.ask("typeof window.owned") == "undefined"
        assert opened.ask("document.querySelectorAll('#episode script, #episode img').length") == 0
        assert opened.ask("document.documentElement.scrollWidth <= innerWidth") is True
        assert opened.complaints == []

    def test_it_prints_on_white(self, opened: Page) -> None:
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        opened.call("Emulation.setEmulatedMedia", media="print", features=dark)
        assert opened.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        opened.ask("for (const each of document.querySelectorAll('details')) each.open = true")  # as `beforeprint` does
        opened.call("Emulation.setDeviceMetricsOverride", width=794, height=1123, deviceScaleFactor=1, mobile=False)
        assert opened.ask("document.documentElement.scrollWidth") <= 794
        assert (
            opened.ask(
                "getComputedStyle(document.querySelector('#rates-figures')).gridTemplateColumns.split(' ').length"
            )
            == 3
        )
        opened.call("Emulation.clearDeviceMetricsOverride")
        opened.call("Emulation.setEmulatedMedia", media="", features=[])
        assert opened.printed().startswith(b"%PDF")
        opened.ask("for (const each of document.querySelectorAll('details')) each.open = false")

    def test_pages_beside_the_file_open_from_disk(self, opened: Page, tmp_path: Path) -> None:
        report = render_report("paged", entries(some(25)), folder="report-files", embed_limit=0)
        (tmp_path / "report-files").mkdir()
        for name, text in report.files.items():
            (tmp_path / "report-files" / name).write_text(text)
        (tmp_path / "report.html").write_text(report.html)
        opened.open(tmp_path / "report.html", "#e42")
        opened.until("document.querySelector('#episode .views')")
        assert opened.ask("document.querySelector('#episode pre.suppressed').textContent").endswith("mismatch 16")
        assert opened.complaints == []
