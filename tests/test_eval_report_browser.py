"""The report in a real browser, opened from disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnull.eval.display.html_report import render_report
from devnull.eval.display.training_curves import PolicyTraining
from tests.chromium import AXE, EXECUTABLE, Page, chromium
from tests.report_cases import HOSTILE, entries, played, some

browser = [pytest.mark.browser, pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine")]
LONG = "x" * 1_000_000


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A report of ordinary and hostile episodes, opened from disk."""
    folder = tmp_path_factory.mktemp("report")
    hostile = played(90, "hostile <arm>" + "y" * 120, hide=True, before=HOSTILE + LONG + "\n")
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
