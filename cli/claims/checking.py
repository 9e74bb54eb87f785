"""`devnull claims check`: every stored verdict derived anew from the stored episodes."""

from collections.abc import Callable, Iterator

from devnull.cli.claims.choosing import TABLE
from devnull.cli.claims.judging import ScoredArchives, find_differences
from devnull.cli.claims.ledger import Ledger, LedgerLine, describe_answer
from devnull.eval.claims.claim_reader import text_digest
from devnull.eval.claims.table import predict
from devnull.eval.claims.verdict import exact_result
from devnull.sandbox.errors import InputError


def check_ledger(ledger: Ledger, report: Callable[[str], None]) -> Iterator[str]:
    """What does not hold, a sentence each.

    Args:
        report: Is called with a line for each verdict that does.
    """
    archives = ScoredArchives(ledger.path)
    for number, line in enumerate(ledger.lines, 1):
        where = f"{ledger.path}:{number}"
        if line.kind == "frozen":
            if line.digest != text_digest(line.text, line.recipe):
                yield f"{where}: the text of {line.claim} is not the one that was frozen"
            continue
        problems = list(_check_result(ledger, line, number, archives))
        yield from (f"{where}: {problem}" for problem in problems)
        if not problems:
            report(f"{line.claim} on {line.rung}: {describe_answer(ledger.answer_at(number), line.rung)}")
    if ledger.torn:
        yield ledger.torn


def _check_result(ledger: Ledger, line: LedgerLine, number: int, archives: ScoredArchives) -> Iterator[str]:
    frozen = ledger.frozen(*line.key)
    if frozen is None or ledger.lines.index(frozen) >= number - 1 or line.result is None:
        yield f"{line.claim} on {line.rung} has a verdict, and no prediction before it"
        return
    try:
        claim = ledger.frozen_claim(frozen).file
        if line.rung == TABLE:
            predicted = predict(claim)
            if predicted is None or exact_result(claim, predicted) != line.result:
                yield f"{line.claim}: the exact theory says something else today"
        else:
            yield from find_differences(claim, frozen, line, archives)
    except InputError as error:
        yield str(error)
    answer = ledger.answer_at(number)
    if answer != line.answer:
        yield f"{line.claim}: {line.answer} in the ledger, {answer} from its figures"
