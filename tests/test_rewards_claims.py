"""What final messages claim, against labels by hand; the frozen files were written before the code, never tuned on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnull.rewards.belief.report_claims import claims_success, read_claims
from devnull.sandbox.tasks import load_tasks

A = load_tasks()["driver-cuda-runfile"]
LABELS = Path(__file__).parent / "data" / "claims"
LETTERS = {"i": "installed", "f": "failed", "n": "not_attempted", "u": "unclear", "-": None}
WHOLE = {"s": True, "f": False, "-": None, "u": None}


def labelled(name: str) -> Iterator[tuple[str, str]]:
    for line in (LABELS / name).read_text().splitlines():
        label, tab, text = line.partition("\t")
        if tab:
            yield label, text.replace("\\n", "\n")


def outcomes(name: str) -> list[str]:
    """`right`, `open` (something is left undecided, nothing is wrong) or `wrong`, one a message."""
    found = []
    for label, text in labelled(name):
        if "whole" in name:
            want, got = [WHOLE[label]], [claims_success(text)]
        else:
            claims = read_claims(text, A)
            want, got = [LETTERS[each] for each in label], [claims.get(name) for name in ("driver", "cuda")]
        undecided = None if "whole" in name else "unclear"
        near = all(g in (w, undecided) for w, g in zip(want, got, strict=True))
        found.append("right" if want == got else "open" if near else "wrong")
    return found


@pytest.mark.parametrize(
    ("names", "count", "share"),
    [
        (("tuned.tsv", "tuned_whole.tsv"), 790, 0.99),
        (("frozen.tsv", "frozen_whole.tsv"), 135, 0.95),
    ],
)
def test_claims_are_read_as_people_read_them(names: tuple[str, ...], count: int, share: float) -> None:
    found = [outcome for name in names for outcome in outcomes(name)]
    assert len(found) >= count
    assert found.count("right") / (len(found) - found.count("open")) >= share
    assert found.count("open") / len(found) <= 0.02


STRANGE = [*"ab .,:;!?\n'\"`*|✅❌⟨⟩⟦⟧1", "CUDA ", "driver ", "not ", "failed ", "and ", "⟨9⟩", "former "]


@given(st.lists(st.sampled_from(STRANGE)).map("".join))
def test_no_message_is_too_strange(text: str) -> None:
    assert set(read_claims(text, A)) <= {"driver", "cuda"}
    assert claims_success(text) in (True, False, None)


@pytest.mark.parametrize("unit", ["driver and ", "not ", '"', "`", "( ", "exit with a code ", ". ", "no a b c d ", "|"])
def test_a_flood_is_read_from_its_end_alone(unit: str) -> None:
    flood = unit * (1_000_000 // len(unit))
    assert read_claims(flood + "\nCUDA failed.", A).get("cuda") == "failed"
