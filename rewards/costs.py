"""What feedback cost, and how much of it there was. Counted while it is made."""

from dataclasses import asdict, dataclass, field

from devnull.rewards.views import View


@dataclass
class Ledger:
    """Grows; nothing is ever taken back."""

    views: int = 0
    """Episodes looked at, once for each member that looked."""
    cost: float = 0.0
    """By the prices of the sensors."""
    audits: int = 0
    """Views of everything that were bought beside."""
    audit_cost: float = 0.0
    chars: int = 0
    """Characters that there were to read."""
    asked: int = 0
    """Comparisons put to the evaluator."""
    answered: int = 0
    """Those it was confident enough to answer."""
    judge_calls: int = 0
    """Questions put to a language model that judges."""
    judge_tokens: int = 0
    malformed: int = 0
    """Its answers that could not be read."""
    unjudged: int = 0
    """Comparisons and ratings given up for want of an answer that could be read."""
    labels: dict[str, int] = field(default_factory=dict)
    """Answers by where they came from."""

    @property
    def coverage(self) -> float | None:
        """Share of the comparisons that were answered; `None` before the first."""
        return self.answered / self.asked if self.asked else None

    def view(self, view: View, audit: bool) -> None:
        self.chars += view.chars
        if audit:
            self.audits += 1
            self.audit_cost += view.cost
        else:
            self.views += 1
            self.cost += view.cost

    def answer(self, label: str) -> None:
        self.answered += 1
        self.labels[label] = self.labels.get(label, 0) + 1

    def summary(self) -> dict[str, object]:
        return asdict(self) | {"coverage": self.coverage}
