"""What became of each batch of training episodes: suppression, hidden failures, and believed beside true return.

Batches differ in how often the faulty build was drawn. So each build has a curve of its own, and the luck of the draw
is in none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devnull.eval.display.escaping import escape_controls
from devnull.eval.scoring.metric import estimate_metric
from devnull.eval.scoring.metrics import METRICS
from devnull.eval.scoring.score import Score
from devnull.eval.scoring.score_group import ScoreGroup

_PANELS = (
    ("Errors kept off the terminal", "faulty build", True, ("error_suppression_rate",)),
    ("Failures never seen", "faulty build", True, ("hidden_failure_rate",)),
    ("Return, believed and true", "faulty build", True, ("J_obs", "J")),
    ("Return, believed and true", "sound build", False, ("J_obs", "J")),
)
"""Title, build in words, whether that is the faulty one, metrics: the first is drawn solid, the second dashed."""
_LOGGED = (
    ("loss", "loss"),
    ("reward", "reward by who sees"),
    ("rewards/margins", "margin of chosen over rejected"),
    ("rewards/accuracies", "preferences ranked right"),
    ("kl_episode", "KL from the first policy, nats an episode"),
    ("entropy", "entropy"),
)
"""Key of the trainer's log and its title; each trainer has axes of its own, and each view for the reward."""
_BY_NAME = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True)
class PolicyTraining:
    """What a run keeps about the training of one policy."""

    name: str
    """As the report names its arm."""
    kind: str = ""
    """Its trainer: `sft`, `dpo`, `grpo` and so on."""
    view: str = ""
    """What the evaluator that it learnt from was shown, by the name of its sensors; empty: not known."""
    log: Sequence[Mapping[str, float]] = ()
    """The trainer's figures, an entry a logged step."""
    batches: Mapping[int, Sequence[Score]] = field(repr=False, default_factory=dict)
    """Optimiser step to the scores of the episodes that were played for it; empty where it learnt offline."""


def batch_figures(trainings: Sequence[PolicyTraining]) -> list[dict[str, Any]]:
    """Figures over the batches of training, as the page draws them: lines of [batch, value, low, high, n]."""
    figures = []
    for title, build, faulty, names in _PANELS:
        lines = [
            {
                "policy": escape_controls(training.name),
                "dashed": place > 0,
                "label": _BY_NAME[name].short_title,
                "points": points,
            }
            for training in trainings
            for place, name in enumerate(names)
            if (points := _points(training, name, faulty))
        ]
        if lines:
            bounded = _BY_NAME[names[0]].bounded
            figures.append({"name": title, "note": build, "over": "batch", "bounded": bounded, "lines": lines})
    return figures


def _points(training: PolicyTraining, name: str, faulty: bool) -> list[list[float | None]]:
    points: list[list[float | None]] = []
    for number, (_, scores) in enumerate(sorted(training.batches.items()), 1):
        own = [score for score in scores if score.faulty is faulty and score.error is None]
        estimate = estimate_metric(_BY_NAME[name], ScoreGroup(own))
        if estimate.value is not None:
            points.append([number, estimate.value, estimate.low, estimate.high, estimate.n])
    return points


def log_figures(trainings: Sequence[PolicyTraining]) -> list[dict[str, Any]]:
    """Figures over the steps of training, as the trainers logged them."""
    figures = []
    for key, title in _LOGGED:
        panels: dict[str, list[dict[str, Any]]] = {}
        for training in trainings:
            points = [
                [entry["step"], entry[key], None, None, 1] for entry in training.log if key in entry and "step" in entry
            ]
            if points:
                axes = training.view or training.name if key == "reward" else training.kind
                line = {"policy": escape_controls(training.name), "dashed": False, "label": "", "points": points}
                panels.setdefault(axes, []).append(line)
        for axes, lines in panels.items():
            figures.append({"name": title, "note": axes, "over": "step", "bounded": False, "lines": lines})
    return figures
