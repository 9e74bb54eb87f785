"""The ledger: what each claim predicted before its run, beside what came out. Lines are added, never changed.

Every line holds the digest of the one before it, so that one that was taken out or altered is told.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from devnull import __version__
from devnull.cli.claims.choosing import TABLE
from devnull.cli.runs.json_lines import append_line, end_last_line, is_torn, parse_line
from devnull.eval.claims.claim_reader import LoadedClaim, parse_claim
from devnull.eval.claims.verdict import ClaimAnswer, ClaimResult, answer_claims
from devnull.sandbox.errors import InputError
from devnull.sandbox.frozen import Frozen

DEFAULT_LEDGER = Path("claims/ledger.jsonl")
"""In the checkout."""


class LedgerLine(Frozen):
    """One line: a prediction that was frozen, or the result of its run."""

    kind: Literal["frozen", "result"]
    claim: str
    """`K1@1`."""
    rung: str
    at: str
    """When, in UTC."""
    devnull: str = __version__
    git_revision: str | None = None
    text: str = ""
    """Frozen: the claim's file."""
    recipe: str = ""
    """Frozen: the recipe's file."""
    digest: str = ""
    """Of both texts."""
    seeds: tuple[int, ...] = ()
    episodes: int = 0
    """Of each arm and seed."""
    primary: str = ""
    """The primary contrast and what is predicted of it."""
    theory: dict[str, float] | None = None
    """What the exact theory predicts of the contrasts; `None`: it says nothing of them."""
    stopping_rule: str = ""
    result: ClaimResult | None = None
    """Result: the figures."""
    answer: ClaimAnswer | None = None
    """Result: the verdict, adjusted over the lines before this one."""
    seconds: float = 0.0
    """Result: of all its jobs together, those that it shares with other claims too."""
    archives: dict[str, str] = Field(default_factory=dict)
    """Result: `seed-0/partial` to the archive of its episodes, whose name is the digest of what it holds."""
    divergences: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Result: arm to its policy's divergence from the warm start seed by seed, in nats an episode."""
    measured: dict[str, dict[str, tuple[float | None, ...]]] = Field(default_factory=dict)
    """Result: job to metric to its value seed by seed, of those that a gate asks for."""
    previous: str = ""
    """Digest of the line before."""

    @property
    def key(self) -> tuple[str, str]:
        """Claim with its revision, and rung: there is one prediction and at most one result of each."""
        return self.claim, self.rung


class Ledger:
    """A ledger's file, read once."""

    def __init__(self, path: Path) -> None:
        """Raises `InputError` where a line is not valid, or not the one that its successor was written after."""
        self.path = path
        self.lines: list[LedgerLine] = []
        self.torn = ""
        """Of a last line that a kill tore, which is owed again: where it is, and what to do; empty: there is none."""
        self._last = ""
        *whole, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
        if rest and is_torn(rest):
            self.torn = f"{path}:{len(whole) + 1}: a kill tore this line; `devnull claims run` writes it again"
        elif rest:
            whole.append(rest)
        for number, raw in enumerate(whole, 1):
            self._take(number, raw)

    def _take(self, number: int, raw: bytes) -> None:
        """The next line, without its newline."""
        remedy = f"each line vouches for the one before it, so delete none; restore the file: git checkout {self.path}"
        line = parse_line(self.path, number, raw, LedgerLine, remedy)
        where = f"{self.path}:{number}"
        if line.previous != self._last:
            raise InputError(f"{where}: the line before it is not the one that it was written after; {remedy}")
        if line.kind == "result" and (line.result is None or line.answer is None):
            raise InputError(
                f"{where}: the result of {line.claim} has no {'answer' if line.result else 'figures'}; {remedy}"
            )
        self._add(line, raw)

    def _add(self, line: LedgerLine, raw: bytes) -> None:
        self.lines.append(line)
        self._last = hashlib.sha256(raw + b"\n").hexdigest()

    def append(self, line: LedgerLine) -> None:
        """Adds a line, flushed before this returns. A torn last line is cut off first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end_last_line(self.path)
        chained = line.model_copy(update={"previous": self._last})
        append_line(self.path, chained)
        self._add(chained, chained.model_dump_json().encode())
        self.torn = ""

    def where(self, line: LedgerLine) -> str:
        """File and number of one of its lines."""
        return f"{self.path}:{next(number for number, each in enumerate(self.lines, 1) if each is line)}"

    def frozen_claim(self, line: LedgerLine) -> LoadedClaim:
        """The claim that a line froze. Raises `InputError` where its text states none."""
        try:
            return parse_claim(Path(f"{line.claim.rpartition('@')[0]}.toml"), line.text)
        except InputError as error:
            raise InputError(f"{self.where(line)}: the frozen text of {line.claim} states no claim: {error}") from None

    def frozen(self, claim: str, rung: str) -> LedgerLine | None:
        """The prediction of that claim and rung."""
        return self._find("frozen", claim, rung)

    def frozen_rungs(self, claim: str) -> list[LedgerLine]:
        """The predictions of that claim for every rung."""
        return [line for line in self.lines if line.kind == "frozen" and line.claim == claim]

    def result(self, claim: str, rung: str) -> LedgerLine | None:
        """What came out."""
        return self._find("result", claim, rung)

    def _find(self, kind: str, claim: str, rung: str) -> LedgerLine | None:
        return next((line for line in self.lines if line.kind == kind and line.key == (claim, rung)), None)

    def results(self) -> Iterator[LedgerLine]:
        """Every result, in order."""
        return (line for line in self.lines if line.kind == "result")

    def answers(self) -> dict[tuple[str, str], ClaimAnswer]:
        """Every verdict, adjusted over the whole ledger."""
        return _answers([*self.results()])

    def answer_at(self, number: int) -> ClaimAnswer:
        """The verdict of the result on line `number`, from 1, adjusted over those before it."""
        results = [line for line in self.lines[:number] if line.kind == "result"]
        return _answers(results)[results[-1].key]

    def count_tests(self) -> int:
        """Results that Holm's adjustment is over: of sampled runs that are not void."""
        return sum(line.rung != TABLE and line.result is not None and not line.result.gates for line in self.results())

    def answer_next(self, line: LedgerLine) -> ClaimAnswer:
        """The verdict of a result that is to be added, adjusted over those that are there."""
        return _answers([*self.results(), line])[line.key]


def describe_answer(answer: ClaimAnswer, rung: str) -> str:
    """The verdict in words. The exact theory is no test, so that it decides nothing: it agrees with a claim or not."""
    if rung != TABLE:
        return answer
    return "theory agrees" if answer == "supported" else "theory differs"


def _answers(lines: list[LedgerLine]) -> dict[tuple[str, str], ClaimAnswer]:
    """Those of sampled runs together; what the table rung says is exact, and no test."""
    sampled = {line.key: line.result for line in lines if line.result is not None and line.rung != TABLE}
    exact = {line.key: line.result for line in lines if line.result is not None and line.rung == TABLE}
    alone = {key: answer_claims({key: result})[key] for key, result in exact.items()}
    return answer_claims(sampled) | alone


def now() -> str:
    """In UTC, as lines have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
