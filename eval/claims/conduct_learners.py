"""What reward models learn from comparisons of conducts, with as many comparisons as one likes: no network, no noise.

The learners differ in what they are given of each side of a comparison (`Inputs`), and in what fills that place when
the policy is trained. Features are linear in the belief, as a reward that is marginalised over it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from devnull.eval.claims.conduct_table import ConductTable
from devnull.eval.clusters import FloatArray
from devnull.rewards.evaluator import Evaluator, sigmoid
from devnull.rewards.feedback.reward_inference import fit_logistic
from devnull.sandbox.task import Truth

Inputs = Literal["conversation", "annotated", "marginalised", "states"]
"""What a reward model reads: the conversation; the conversation and the rater's belief in words; the agent's messages
with each ending, weighed by the rater's belief; the messages with the true ending."""
Ending = Literal["believed", "truth"]
"""What fills the place of the belief when the policy is trained: the raters' mean belief, or the truth."""
_ENDINGS = tuple(Truth)


@dataclass(frozen=True, eq=False)
class _Sides:
    """C conducts in 2 builds, as N = 2 C sides that are compared within a build; H endings."""

    conducts: FloatArray
    """`(N, C)`: which conduct, so what the agent wrote."""
    shown: FloatArray
    """`(N, S)`: which of S distinct conversations."""
    truths: FloatArray
    """`(N, H)`: the true ending of the stage that may break."""
    beliefs: FloatArray
    """`(M, N, H)`: what each of M raters believes of it, or is taken to believe."""
    returns: FloatArray
    """`(M, N)`: G_obs of each rater."""
    faulty: FloatArray
    """`(N,)`: 1 in the faulty build."""


def learnt_rewards(
    table: ConductTable,
    evaluator: Evaluator,
    inputs: Inputs,
    ending: Ending,
    *,
    rater_known: bool = True,
    assumed: Evaluator | None = None,
) -> FloatArray:
    """`(C,)`: the reward that each conduct gets while the policy is trained, averaged over the builds.

    Args:
        evaluator: The raters, each with its own belief and β.
        ending: Matters where the inputs hold a belief.
        rater_known: False: the raters' mean belief is given at reward learning, whoever answered.
        assumed: Raters of the same names, whose beliefs the learner takes for theirs; by default their own.
    """
    sides = _make_sides(table, evaluator, assumed or evaluator)
    weights = np.array([member.weight for member in evaluator.members])
    weights = weights / weights.sum()
    mean_belief = np.tensordot(weights, sides.beliefs, 1)
    rows, wins, losses = [], [], []
    for rater, member in enumerate(evaluator.members):
        given = _features(sides, inputs, sides.beliefs[rater] if rater_known else mean_belief)
        for one, other in combinations(range(len(sides.faulty)), 2):
            if sides.faulty[one] != sides.faulty[other]:
                continue
            p = sigmoid(member.beta * (sides.returns[rater, one] - sides.returns[rater, other]))
            rows.append(given[one] - given[other])
            wins.append(weights[rater] * p)
            losses.append(weights[rater] * (1 - p))
    total = sum(wins) + sum(losses)
    theta, _ = fit_logistic(np.array(rows), np.array(wins) / total, np.array(losses) / total, 1e-6)
    paid = _features(sides, inputs, sides.truths if ending == "truth" else mean_belief) @ theta
    return np.asarray(paid.reshape(-1, 2) @ table.build_chances, float)


def _make_sides(table: ConductTable, evaluator: Evaluator, assumed: Evaluator) -> _Sides:
    at = [(name, faulty) for name in table.conducts for faulty in (False, True)]
    stage = table.task.fault.stage
    texts = [_conversation(table, *each) for each in at]
    distinct = sorted(set(texts))
    return _Sides(
        conducts=np.repeat(np.eye(len(table.conducts)), 2, axis=0),
        shown=np.array([[float(text == other) for other in distinct] for text in texts]),
        truths=np.array([_indicator(table.truths(table.episodes[each])[stage]) for each in at]),
        beliefs=np.array(
            [[_belief(table, assumed, rater, *each) for each in at] for rater in range(len(evaluator.members))]
        ),
        returns=np.array(
            [table.believed_returns(evaluator, member=rater).ravel() for rater in range(len(evaluator.members))]
        ),
        faulty=np.array([float(faulty) for _, faulty in at]),
    )


def _features(sides: _Sides, inputs: Inputs, belief: FloatArray) -> FloatArray:
    match inputs:
        case "conversation":
            return sides.shown
        case "annotated":
            return np.hstack([sides.shown, belief])
        case "marginalised":
            return np.hstack([sides.conducts, belief])
        case "states":
            return np.hstack([sides.conducts, sides.truths])


def _conversation(table: ConductTable, name: str, faulty: bool) -> str:
    transcript = table.episodes[name, faulty].transcript
    return "\0".join(turn.text + "\0" + (turn.result.shown if turn.result else "") for turn in transcript.turns)


def _belief(table: ConductTable, evaluator: Evaluator, rater: int, name: str, faulty: bool) -> list[float]:
    transcript = table.episodes[name, faulty].transcript
    judged = evaluator.judge(table.task, transcript, member=evaluator.members[rater], count_cost=False)
    believed = judged.belief.stages[table.task.fault.stage]
    return [believed.get(truth, 0.0) for truth in _ENDINGS]


def _indicator(truth: Truth) -> Sequence[float]:
    return [float(truth is other) for other in _ENDINGS]
