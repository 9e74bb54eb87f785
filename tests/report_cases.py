"""Reports of made-up episodes, for the tests of what is in them."""

import base64
import json
import re
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from devnull.agents.episode import Episode
from devnull.eval.display.report_entries import ReportEntry
from devnull.eval.display.timeline import build_timeline
from devnull.eval.scoring.score import score
from devnull.rewards.evaluator import Evaluator
from tests.fakes import DRIVER_CUDA, driver_cuda_episode

HOSTILE = (
    "<script>window.owned=1</script><img src=x onerror=window.owned=1></pre>\x1b[31mred\x1b[0m "
    "\u202eevil\u202c שלום عالم ${1+1} {{7*7}} --> ]]>\n"
)


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


def write_run(folder: Path, episodes: list[Episode]) -> Path:
    folder.mkdir(parents=True)
    (folder / "episodes.jsonl").write_text("".join(each.model_dump_json() + "\n" for each in episodes))
    return folder


def first_screen(html: str) -> str:
    """Its text, up to what is folded away."""
    text = html[html.index('<section id="summary"') : html.index("<details")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).replace("\xa0", " ")
