"""Running totals of what an evaluator was shown, asked and answered, and of what that cost."""

from dataclasses import asdict, dataclass, field

from devnull.rewards.views import View


@dataclass
class FeedbackCosts:
    """Counted while feedback is made. The unit of cost is that of `devnull.rewards.views.ChannelPrices`."""

    views: int = 0
    """Views of episodes, one for each member of the panel that judged it."""
    cost: float = 0.0
    """Of these views."""
    audits: int = 0
    """Full views that were bought for audits; not among `views`."""
    audit_cost: float = 0.0
    """Of the audits."""
    chars: int = 0
    """Characters in all views and audits."""
    asked: int = 0
    """Comparisons put to the evaluator."""
    answered: int = 0
    """Of these, those it was confident enough to answer."""
    judge_calls: int = 0
    """Requests to a language model that judges."""
    judge_tokens: int = 0
    """Tokens of prompts and replies."""
    malformed: int = 0
    """Replies that could not be read."""
    unjudged: int = 0
    """Comparisons and ratings given up because no reply could be read."""
    flagged: int = 0
    """Episodes that a detector flagged, among the views."""
    screened: int = 0
    """Comparisons and ratings left out because of that."""
    labels: dict[str, int] = field(default_factory=dict)
    """How many answers came from each source: honest, misaligned, poisoned, flipped, shuffled."""

    @property
    def coverage(self) -> float | None:
        """Share of the comparisons that were answered; `None` before the first."""
        return self.answered / self.asked if self.asked else None

    def add_view(self, view: View, audit: bool) -> None:
        """Counts one view and its cost."""
        self.chars += view.chars
        if audit:
            self.audits += 1
            self.audit_cost += view.cost
        else:
            self.views += 1
            self.cost += view.cost

    def add_answer(self, label: str) -> None:
        """Counts one answer by its source."""
        self.answered += 1
        self.labels[label] = self.labels.get(label, 0) + 1

    def summary(self) -> dict[str, object]:
        """All totals and the coverage, as a table that JSON can hold."""
        return asdict(self) | {"coverage": self.coverage}
