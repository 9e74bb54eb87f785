"""The evaluator: sees a view, forms a belief, values what it believes in, says what it prefers."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from devnull.rewards.belief.language_model import Answer, ModelBelief, ModelJudge
from devnull.rewards.belief.table import Belief
from devnull.rewards.costs import Ledger
from devnull.rewards.evaluator_config import BeliefConfig, EvaluatorConfig, PanelMember
from devnull.rewards.returns import believed_return, believed_returns, return_range
from devnull.rewards.views import FULL, Sensors, View, observe
from devnull.sandbox.command import Frozen
from devnull.sandbox.task import Task
from devnull.sandbox.transcript import Transcript


class Judgement(Frozen):
    """What an evaluator makes of one episode."""

    evaluator: str
    view: View
    belief: Belief
    returns: dict[str, float]
    """G_obs stage by stage."""
    G_obs: float
    """The return it believes in."""
    G_misaligned: float | None = None
    """The same belief, valued by the labellers whose values are not the task's; `None` if there are none."""


BeliefFunction = Callable[[Task, View], Belief]

Label = Literal["honest", "misaligned", "poisoned", "flipped", "shuffled"]
"""Where a label came from. Never shown to a learner."""


@dataclass(frozen=True)
class Choice:
    """One comparison."""

    first: bool
    """The first of the two is preferred."""
    probability: float
    """Of preferring the first, all kinds of labels taken together."""
    label: Label


@dataclass(frozen=True)
class Member:
    """One of the people behind the labels; a plain evaluator has one."""

    name: str
    weight: float
    sensors: Sensors
    belief: BeliefFunction
    beta: float


class Evaluator:
    """Judges transcripts through its sensors. Nothing of it reads an outcome.

    Keeps no state but its `ledger`; every draw is from a generator given by the caller, or from `seed`.
    """

    def __init__(
        self,
        config: EvaluatorConfig = EvaluatorConfig(),
        *,
        answers: Iterable[Answer] = (),
        remember: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        """`answers` and `remember` are for language models that judge: what they said before, and where it goes."""
        self.config = config
        self.answers, self.remember = tuple(answers), remember
        self.name = config.name
        self.ledger = Ledger()
        panel = config.panel or (PanelMember(name=config.name),)
        self.members = tuple(
            Member(
                member.name,
                member.weight,
                member.sensors or config.sensors,
                self.opened(member.belief or config.belief),
                member.beta or config.beta,
            )
            for member in panel
        )

    def opened(self, belief: BeliefConfig) -> BeliefFunction:
        if not isinstance(belief, ModelBelief):
            return belief
        return ModelJudge(belief, self.ledger, answers=self.answers, remember=self.remember)

    def judge(
        self,
        task: Task,
        transcript: Transcript,
        *,
        seed: int = 0,
        member: Member | None = None,
        audit: bool = False,
        paid: bool = False,
    ) -> Judgement:
        """View, belief and believed return of one episode.

        `seed` (the episode's) draws which paid probes are on. Several members and none named: their mean
        belief, beside the first one's view. `audit`: through the full view, whatever the sensors. `paid`: a view
        that was bought before, and costs nothing to think of again.
        """
        if member is None and len(self.members) > 1:
            return self.mean(
                task, [self.judge(task, transcript, seed=seed, member=m, audit=audit, paid=paid) for m in self.members]
            )
        member = member or self.members[0]
        view = observe(transcript, FULL if audit else member.sensors, seed)
        belief = member.belief(task, view)
        if not paid:
            self.ledger.view(view, audit)
        return self.judgement(member.name, task, view, belief)

    def judgement(self, name: str, task: Task, view: View, belief: Belief) -> Judgement:
        returns = believed_returns(task, belief)
        values = self.config.misaligned_values if self.config.misaligned else None
        return Judgement(
            evaluator=name,
            view=view,
            belief=belief,
            returns=returns,
            G_obs=sum(returns.values()),
            G_misaligned=believed_return(task, belief, values) if values else None,
        )

    def mean(self, task: Task, judged: list[Judgement]) -> Judgement:
        """Beliefs averaged by weight."""
        total = sum(member.weight for member in self.members)
        stages: dict[str, dict[str, float]] = {stage.name: {} for stage in task.stages}
        for member, judgement in zip(self.members, judged, strict=True):
            for name, chances in judgement.belief.stages.items():
                for truth, p in chances.items():
                    stages[name][truth] = stages[name].get(truth, 0.0) + p * member.weight / total
        return self.judgement(self.name, task, judged[0].view, Belief.model_validate({"stages": stages}))

    def draw_member(self, rng: random.Random) -> Member:
        return rng.choices(self.members, [member.weight for member in self.members])[0]

    def preference(self, a: Judgement, b: Judgement, beta: float | None = None) -> float:
        """P(a preferred to b) of one honest, careful label: σ(β(G_obs(a) - G_obs(b)))."""
        return sigmoid((self.config.beta if beta is None else beta) * (a.G_obs - b.G_obs))

    def confident(self, a: Judgement, b: Judgement, beta: float | None = None) -> bool:
        """Whether the comparison is answered at all."""
        p = self.preference(a, b, beta)
        return max(p, 1 - p) >= self.config.min_confidence

    def choose(self, a: Judgement, b: Judgement, rng: random.Random, beta: float | None = None) -> Choice:
        """Compares two episodes: Boltzmann choice, then the shares of labels that are not what they should be."""
        c = self.config
        beta = c.beta if beta is None else beta
        if c.shuffled:
            return Choice(rng.random() < 0.5, 0.5, "shuffled")
        honest = self.preference(a, b, beta)
        poisoned = 0.5 if a.G_obs == b.G_obs else float(a.G_obs < b.G_obs)
        misaligned = sigmoid(beta * ((a.G_misaligned or 0.0) - (b.G_misaligned or 0.0)))
        clean = (1 - c.poisoned - c.misaligned) * honest + c.poisoned * poisoned + c.misaligned * misaligned
        probability = (1 - c.label_noise) * clean + c.label_noise * (1 - clean)
        source, u = rng.random(), rng.random()
        label: Label = "honest"
        p = honest
        if source < c.poisoned:
            label, p = "poisoned", poisoned
        elif source < c.poisoned + c.misaligned:
            label, p = "misaligned", misaligned
        first = u < p
        if rng.random() < c.label_noise:
            label, first = "flipped", not first
        return Choice(first, probability, label)

    def prefers(self, a: Judgement, b: Judgement, rng: random.Random) -> bool:
        """Whether `a` is preferred to `b`, drawn."""
        return self.choose(a, b, rng).first

    def rating(self, task: Task, judgement: Judgement, rng: random.Random) -> int:
        """1 to `levels`: the believed return on the task's scale, with the noise of a person's hand."""
        low, high = return_range(task)
        place = 0.5 if high == low else (judgement.G_obs - low) / (high - low)
        raw = 1 + place * (self.config.levels - 1) + rng.gauss(0, self.config.rating_noise)
        return min(self.config.levels, max(1, round(raw)))

    def thumb(self, task: Task, judgement: Judgement, rng: random.Random) -> bool:
        """Up with probability σ(β(G_obs - the middle of the task's returns))."""
        low, high = return_range(task)
        threshold = (low + high) / 2 if self.config.thumb_threshold is None else self.config.thumb_threshold
        return rng.random() < sigmoid(self.config.beta * (judgement.G_obs - threshold))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
