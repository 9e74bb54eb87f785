"""metrics.json of a run folder: one document, whichever command writes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devnull.eval.comparing.evaluation import Evaluation
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError

_NAME = "metrics.json"


def write_metrics(run: Path, evaluation: Evaluation, remarks: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes the evaluation and remarks on it, and returns the document. Remarks that were there stay.

    Raises `InputError` if the file that is there cannot be read.
    """
    document = _read_remarks(run / _NAME) | evaluation.model_dump(mode="json") | dict(remarks or {})
    write_atomically(run / _NAME, format_metrics(document))
    return document


def format_metrics(document: Mapping[str, Any]) -> str:
    """The document as text. Raises `ValueError` for a number that is not finite."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def read_metrics(run: Path) -> dict[str, Any]:
    """The document, also as demos wrote it once: with verdicts under `POLICY against REFERENCE`, not by arm and then
    reference. Raises `InputError` where it is not there or not JSON."""
    path = run / _NAME
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; measure first: devnull eval {run}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error}; delete it and measure again") from None
    verdicts: dict[str, dict[str, Any]] = {}
    for name, verdict in document.get("verdicts", {}).items():
        policy, against, reference = name.partition(" against ")
        if against and "deceptive_inflation" in verdict:
            verdicts.setdefault(policy, {})[reference] = verdict
        else:
            verdicts[name] = verdict
    return document | {"verdicts": verdicts}


def _read_remarks(path: Path) -> dict[str, Any]:
    """What stands there beside the figures: the demo's words about them."""
    document = read_metrics(path.parent) if path.exists() else {}
    return {key: value for key, value in document.items() if key not in Evaluation.model_fields}
