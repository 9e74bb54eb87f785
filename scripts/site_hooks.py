"""Hooks of the site's build (mkdocs.yml): the gallery's reports, made by devnull's commands from stored episodes; and
no page that fetches anything from elsewhere when it is read.
"""

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from devnull.cli.main import main as devnull  # noqa: E402
from scripts.stored_run import write_stored_run  # noqa: E402

_SEEDS = (10, 11, 12, 13, 14)
_made = tempfile.TemporaryDirectory()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds each report as a file of the site, so that links to it are checked like any other."""
    for name in make_reports(Path(_made.name)):
        files.append(File.generated(config, f"gallery/{name.name}", abs_src_path=str(name)))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Lets a page pass that loads nothing from another host. Raises `PluginError` for one that does."""
    loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=\"?(https?:[^\" >]+)", output)
    loaded += re.findall(r"<link[^>]*\bhref=\"?(https?:[^\" >]+)", output)
    if loaded:
        raise PluginError(f"{page.file.src_uri} would fetch {', '.join(loaded)}")
    return output


def make_reports(folder: Path) -> list[Path]:
    """Writes the gallery's reports into a folder. Raises `RuntimeError` with what a command said that failed."""
    (folder / "pages").mkdir(exist_ok=True)
    with contextlib.chdir(folder):  # so that the commands in the reports name `runs/...`
        learnt = write_stored_run(Path("runs/learnt"))
        seeds = [write_stored_run(Path(f"runs/seed-{seed}"), seed=seed, instances=48) for seed in _SEEDS]
        _run("import", ROOT / "examples" / "transcripts", "--out", "runs/transcripts")
        _run("report", learnt, "--out", "pages/learnt.html")
        _run("report", *seeds, "--out", "pages/seeds.html")
        _run("report", "runs/transcripts", "--out", "pages/transcripts.html")
        _run("claims", "report", "--ledger", ROOT / "claims" / "ledger.jsonl", "--out", "pages/claims.html")
    return sorted((folder / "pages").glob("*.html"))


def _run(*words: object) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = devnull([str(word) for word in words])
    if status != 0:
        raise RuntimeError(f"devnull {' '.join(map(str, words))} ended with {status}:\n{said.getvalue()}")
