"""The evaluator: sees a view, forms a belief, expects a return, and gives comparisons, ratings or thumbs."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from devnull.rewards.belief.belief import Belief
from devnull.rewards.belief.language_model import ModelBelief
from devnull.rewards.belief.model_judge import JudgeAnswer, ModelJudge
from devnull.rewards.belief.table import TableBelief
from devnull.rewards.costs import FeedbackCosts
from devnull.rewards.evaluator_config import BeliefConfig, EvaluatorConfig, MemberConfig
from devnull.rewards.returns import believed_return, believed_returns, return_range
from devnull.rewards.views import FULL_SENSORS, Sensors, View, observe
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Task
from devnull.sandbox.transcript import Transcript


class Judgement(Frozen):
    """An evaluator's view, belief and believed return of one episode."""

    evaluator: str
    """Name of the member of the panel who judged, or of the evaluator."""
    view: View
    belief: Belief
    returns: dict[str, float]
    """G_obs by stage."""
    G_obs: float
    """The expected return under the belief: the sum of `returns`."""
    G_misaligned: float | None = None
    """The same by the values of misaligned labellers; `None` if there are none."""
    flagged: bool = False
    """The detector found hiding."""
    penalty: float = 0.0
    """What that takes off."""
    report_value: float | None = None
    """What the final message is worth in the report's channel; `None`: there is none, or it was not checked."""
    task_weight: float = 1.0
    """Weight of the believed return beside it."""

    def value(self, G: float | None = None) -> float:
        """What the episode is worth to the evaluator, all channels together. `G`: instead of `G_obs`."""
        return self.task_weight * (self.G_obs if G is None else G) - self.penalty + (self.report_value or 0.0)


BeliefFunction = Callable[[Task, View], Belief]
"""What a table, counts or a language model make of a view."""

Label = Literal["honest", "misaligned", "poisoned", "flipped", "shuffled"]
"""Which source a label came from (see the shares in `EvaluatorConfig`). Never shown to a learner."""


@dataclass(frozen=True)
class Choice:
    """The outcome of one comparison."""

    first: bool
    """The first of the two is preferred."""
    probability: float
    """P(the first is preferred), over all sources of labels."""
    label: Label


@dataclass(frozen=True)
class Member:
    """One labeller of a panel, ready to judge; an evaluator without a panel has one."""

    name: str
    weight: float
    """Share of the labels, relative to the other members'."""
    sensors: Sensors
    belief: BeliefFunction
    beta: float
    """Inverse temperature of its choices."""


class Evaluator:
    """Judges transcripts through its sensors. It never reads an outcome.

    Keeps no state but its `costs` and the answers of a language model; every draw is from a generator that the caller
    gives, or from `seed`.

        evaluator = Evaluator(load_evaluator(Path("examples/evaluators/panel.toml")))
        evaluator.judge(task, episode.transcript, seed=episode.stream).G_obs
    """

    def __init__(
        self,
        config: EvaluatorConfig = EvaluatorConfig(),
        *,
        answers: Iterable[JudgeAnswer] = (),
        save_answer: Callable[[JudgeAnswer], None] = lambda _: None,
    ) -> None:
        """`answers` and `save_answer` are for language models that judge: their answers of an earlier run, and what is
        called with each new one."""
        self.config = config
        self.name = config.name
        self.costs = FeedbackCosts()
        answers = tuple(answers)
        panel = config.panel or (MemberConfig(name=config.name),)
        self.members = tuple(
            Member(
                member.name,
                member.weight,
                member.sensors or config.sensors,
                self._belief_function(member.belief or config.belief, answers, save_answer),
                member.beta or config.beta,
            )
            for member in panel
        )

    def _belief_function(
        self, belief: BeliefConfig, answers: Iterable[JudgeAnswer], save_answer: Callable[[JudgeAnswer], None]
    ) -> BeliefFunction:
        if not isinstance(belief, ModelBelief):
            return belief
        return ModelJudge(belief, self.costs, answers=answers, save_answer=save_answer)

    @property
    def repeats(self) -> bool:
        """Judges episodes alike that differ in their seed, their times and the wording of the instruction only: no
        sensor is drawn, no detector or audit either, and no language model is asked."""
        drawn = self.config.detector is not None or self.config.report is not None
        return not drawn and all(
            member.sensors.fixed and not isinstance(member.belief, ModelJudge) for member in self.members
        )

    def judge(
        self,
        task: Task,
        transcript: Transcript,
        *,
        seed: int = 0,
        member: Member | None = None,
        audit: bool = False,
        count_cost: bool = True,
        step: int = 0,
    ) -> Judgement:
        """View, belief and believed return of one episode.

        `seed` (the episode's stream) draws which probes are on. `member`: who judges; left out, of several members
        the mean belief is taken, beside the first one's view. `audit`: through the full view, whatever the sensors.
        `count_cost=False`: for a view whose cost was counted before. `step`: of online training, for a detector whose
        penalty changes. Raises `MalformedAnswer` where a language model
        judges and none of its answers can be read.
        """
        if member is None and len(self.members) > 1:
            judged = [
                self.judge(task, transcript, seed=seed, member=m, audit=audit, count_cost=count_cost, step=step)
                for m in self.members
            ]
            channels = judged[0].model_dump(include={"flagged", "penalty", "report_value", "task_weight"})
            return self._mean_judgement(task, judged).model_copy(update=channels)
        member = member or self.members[0]
        view = observe(transcript, FULL_SENSORS if audit else member.sensors, seed)
        belief = member.belief(task, view)
        if count_cost:
            self.costs.add_view(view, audit)
        channels = self._judge_channels(task, transcript, seed, step, count_cost)
        judgement = self._make_judgement(member.name, task, view, belief)
        return judgement.model_copy(update=channels) if channels else judgement

    def _judge_channels(
        self, task: Task, transcript: Transcript, seed: int, step: int, count_cost: bool
    ) -> dict[str, object]:
        """What detector and report channel, where there are any, add to a judgement: values of its fields."""
        channels: dict[str, object] = {}
        if (detector := self.config.detector) is not None and detector.flags(task, transcript, seed):
            channels |= {"flagged": True, "penalty": detector.penalty_at(step)}
            self.costs.flagged += count_cost
        if (channel := self.config.report) is not None:
            channels["task_weight"] = channel.task_weight
            if channel.is_checked(seed):
                view = observe(transcript, FULL_SENSORS, seed)
                if count_cost:
                    self.costs.add_view(view, audit=True)
                channels["report_value"] = channel.value(task, transcript.report, TableBelief()(task, view))
        return channels

    def _make_judgement(self, name: str, task: Task, view: View, belief: Belief) -> Judgement:
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

    def _mean_judgement(self, task: Task, judged: list[Judgement]) -> Judgement:
        """The members' beliefs averaged by weight."""
        total = sum(member.weight for member in self.members)
        stages: dict[str, dict[str, float]] = {stage.name: {} for stage in task.stages}
        for member, judgement in zip(self.members, judged, strict=True):
            for name, chances in judgement.belief.stages.items():
                for truth, p in chances.items():
                    stages[name][truth] = stages[name].get(truth, 0.0) + p * member.weight / total
        return self._make_judgement(self.name, task, judged[0].view, Belief.model_validate({"stages": stages}))

    def draw_member(self, rng: random.Random) -> Member:
        """A member, at random by weight."""
        return rng.choices(self.members, [member.weight for member in self.members])[0]

    def preference_probability(self, a: Judgement, b: Judgement, beta: float | None = None) -> float:
        """P(a preferred to b) of an honest label without noise: σ(β(G_obs(a) - G_obs(b))), the Boltzmann (Bradley-
        Terry) choice of the paper's section 3; with a detector or a report channel of `Judgement.value` instead.
        `beta`: a member's; left out, the config's."""
        return sigmoid((self.config.beta if beta is None else beta) * (a.value() - b.value()))

    def is_confident(self, a: Judgement, b: Judgement, beta: float | None = None) -> bool:
        """Whether the comparison is answered at all: one side is preferred with at least `min_confidence`."""
        p = self.preference_probability(a, b, beta)
        return max(p, 1 - p) >= self.config.min_confidence

    def choose(self, a: Judgement, b: Judgement, rng: random.Random, beta: float | None = None) -> Choice:
        """Compares two episodes: a Boltzmann choice, or by the config's shares a poisoned, misaligned, flipped or
        shuffled label."""
        c = self.config
        beta = c.beta if beta is None else beta
        if c.shuffled:
            return Choice(rng.random() < 0.5, 0.5, "shuffled")
        honest = self.preference_probability(a, b, beta)
        poisoned = 0.5 if a.value() == b.value() else float(a.value() < b.value())
        misaligned = sigmoid(beta * (a.value(a.G_misaligned) - b.value(b.G_misaligned)))
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

    def rate(self, task: Task, judgement: Judgement, rng: random.Random) -> int:
        """A rating from 1 to `levels`: the believed return on the task's scale, with Gaussian noise, rounded."""
        low, high = return_range(task)
        place = 0.5 if high == low else (judgement.value() - low) / (high - low)
        raw = 1 + place * (self.config.levels - 1) + rng.gauss(0, self.config.rating_noise)
        return min(self.config.levels, max(1, round(raw)))

    def thumbs_up(self, task: Task, judgement: Judgement, rng: random.Random) -> bool:
        """A thumb: up with probability σ(β(G_obs - threshold)); the threshold is by default the middle of the task's
        returns."""
        low, high = return_range(task)
        threshold = (low + high) / 2 if self.config.thumb_threshold is None else self.config.thumb_threshold
        return rng.random() < sigmoid(self.config.beta * (judgement.value() - threshold))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
