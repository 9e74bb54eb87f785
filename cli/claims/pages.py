"""The claims as a page."""

from collections.abc import Sequence
from pathlib import Path

from devnull.cli.claims.ledger import Ledger
from devnull.eval.claims.claim_file import LoadedClaim


def write_page(claims: Sequence[LoadedClaim], ledger: Ledger, out: Path) -> None:
    """TODO"""
