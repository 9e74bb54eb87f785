"""The tabular decision problem (POMDP) of one task, estimated from the episodes of a run.

A state is the history of the stages so far: what became of each, and what was shown of it. An action deals with the
next stage in one of a few ways (`STAGE_ACTIONS`). Transition probabilities are counted, the evaluator's beliefs
averaged; `devnull.theory` solves the result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from devnull.eval.bridge.trajectories import STAGE_ACTIONS, StageEnding, StageHistory, Trajectory
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.belief.stage_evidence import Evidence, read_evidence
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.views import observe
from devnull.sandbox.task import Task, Truth
from devnull.sandbox.transcript import Transcript
from devnull.theory.pomdp import POMDP
from devnull.theory.returns import Returns
from devnull.theory.sequences import reachable

_EVIDENCE = tuple(Evidence)
TransitionProbabilities = dict[tuple[int, bool, str], dict[StageEnding, float]]
"""(position of the stage, whether all that it needs is installed, action) to the probability of each ending; an action
that was never seen there has no entry."""


@dataclass(frozen=True)
class EmptyEpisode:
    """What is shown and believed of an episode without commands, stage by stage: where `skip` throughout leads, which
    no agent of the run may have chosen."""

    evidence: tuple[Evidence, ...]
    beliefs: tuple[dict[Truth, float], ...]
    """Empty where the judge's answer cannot be read."""


def judge_empty_episode(task: Task, evaluator: Evaluator) -> EmptyEpisode:
    """Shows the evaluator a transcript without commands."""
    transcript = Transcript(instruction=task.instructions[0])
    seen = read_evidence(task, observe(transcript, evaluator.members[0].sensors))
    evidence = tuple(seen[stage.name] for stage in task.stages)
    try:
        belief = evaluator.judge(task, transcript).belief
    except MalformedAnswer:
        return EmptyEpisode(evidence, ())
    return EmptyEpisode(evidence, tuple(belief.stages[stage.name] for stage in task.stages))


@dataclass(frozen=True, eq=False)
class TabularProblem:
    """One task, or several alike, as an estimated POMDP with the evaluator's beliefs."""

    task: Task
    transition_probabilities: TransitionProbabilities
    states: list[StageHistory]
    """The states, in the order of the POMDP's indices; `()` is the start."""
    returns: Returns
    """The POMDP, its reachable sequences and the belief matrix B."""
    action_counts: dict[tuple[str, str], int]
    """(stage, action) to how often it was seen with all that the stage needs installed: what the estimates rest on."""
    lost_belief: float
    """Largest probability, over the observations of the run, that the evaluator gave to endings that no episode had;
    it is spread over the others in proportion."""
    warnings: tuple[str, ...]
    """What the run does not determine, and what was assumed for it."""


def estimate_problem(trajectories: Sequence[Trajectory], task: Task, empty: EmptyEpisode) -> TabularProblem:
    """Estimates the problem of `task` from trajectories of it and of tasks alike.

    What the run does not determine is assumed, and named in `warnings`.
    """
    probabilities, action_counts, one_sided = _estimate_transitions(trajectories, task, empty)
    states = _reachable_histories(task, probabilities)
    returns, lost, warnings = _add_beliefs(_build_pomdp(task, probabilities, states), trajectories, states, empty)
    return TabularProblem(task, probabilities, states, returns, action_counts, lost, (*one_sided, *warnings))


def _estimate_transitions(
    trajectories: Sequence[Trajectory], task: Task, empty: EmptyEpisode
) -> tuple[TransitionProbabilities, dict[tuple[str, str], int], list[str]]:
    """Transition probabilities, how often each action was seen, and warnings of those that met one build only.

    To skip is always possible, and shows nothing where nobody did. The task says how likely the fault is: at its
    stage, where both builds were met, each is weighted by that probability and not by how often it was drawn.
    """
    counts: dict[tuple[int, bool, str], tuple[Counter[StageEnding], Counter[StageEnding]]] = {}
    for p in trajectories:
        for i, (action, ending) in enumerate(zip(p.actions, p.endings, strict=True)):
            at = (i, _needs_installed(task, i, p.endings[:i]), action)
            counts.setdefault(at, (Counter(), Counter()))[p.faulty][ending] += 1
    probabilities: TransitionProbabilities = {
        (i, ok, "skip"): {(Truth.NOT_ATTEMPTED, empty.evidence[i]): 1.0}
        for i in range(len(task.stages))
        for ok in (True, False)
    }
    action_counts: dict[tuple[str, str], int] = {}
    warnings = []
    for at, (sound, faulty) in sorted(counts.items()):
        stage = task.stages[at[0]]
        known = stage.name == task.fault.stage and sound and faulty
        weight = task.fault.p if known else faulty.total() / (sound.total() + faulty.total())
        probabilities[at] = {
            ending: (1 - weight) * _frequency(sound, ending) + weight * _frequency(faulty, ending)
            for ending in sound | faulty
        }
        if at[1]:
            action_counts[stage.name, at[2]] = sound.total() + faulty.total()
            if stage.name == task.fault.stage and not known and 0 < task.fault.p < 1 and at[2] != "skip":
                met = "faulty" if faulty else "sound"
                warnings.append(f"{stage.name} {at[2]} met {met} builds only: what it leads to is taken from these")
    return probabilities, action_counts, warnings


def _frequency(counts: Counter[StageEnding], ending: StageEnding) -> float:
    return counts[ending] / counts.total() if counts else 0.0


def _needs_installed(task: Task, i: int, history: StageHistory) -> bool:
    """Whether all that stage `i` needs is installed."""
    names = [stage.name for stage in task.stages]
    return all(history[names.index(need)][0].installed for need in task.stages[i].needs)


def transitions(
    probabilities: TransitionProbabilities, task: Task, history: StageHistory
) -> dict[str, dict[StageEnding, float]]:
    """Action to the probability of each ending of the next stage after `history`, for the actions seen in the run."""
    at = (len(history), _needs_installed(task, len(history), history))
    return {action: probabilities[*at, action] for action in STAGE_ACTIONS if (*at, action) in probabilities}


def _reachable_histories(task: Task, probabilities: TransitionProbabilities) -> list[StageHistory]:
    """Every history that some sequence of actions can lead to, shortest first."""
    levels: list[list[StageHistory]] = [[()]]
    for _ in task.stages:
        following = {
            (*history, ending)
            for history in levels[-1]
            for endings in transitions(probabilities, task, history).values()
            for ending in endings
        }
        levels.append(sorted(following))
    return [history for level in levels for history in level]


def _build_pomdp(task: Task, probabilities: TransitionProbabilities, states: Sequence[StageHistory]) -> POMDP:
    """States are histories; each emits the evidence of its last stage. An action never seen there acts as `skip`."""
    at = {history: n for n, history in enumerate(states)}
    T = np.zeros((len(states), len(STAGE_ACTIONS), len(states)))
    R = np.zeros(len(states))
    PO = np.zeros((len(states), len(_EVIDENCE)))
    for history, n in at.items():
        shown = history[-1][1] if history else Evidence.SILENCE
        PO[n, _EVIDENCE.index(shown)] = 1.0
        if history:
            R[n] = task.stages[len(history) - 1].rewards.reward(history[-1][0])
        if len(history) == len(task.stages):
            T[n, :, n] = 1.0
            continue
        outcomes = transitions(probabilities, task, history)
        for a, action in enumerate(STAGE_ACTIONS):
            for ending, p in outcomes.get(action, outcomes["skip"]).items():
                T[n, a, at[*history, ending]] = p
    names = tuple(" > ".join(f"{truth}, shown {seen}" for truth, seen in history) or "start" for history in states)
    return POMDP(
        T=T, P0=np.eye(len(states))[0], R=R, PO=PO, horizon=len(task.stages), states=names, actions=STAGE_ACTIONS
    )


def _add_beliefs(
    pomdp: POMDP, trajectories: Sequence[Trajectory], states: Sequence[StageHistory], empty: EmptyEpisode
) -> tuple[Returns, float, list[str]]:
    """The returns with B averaged over the beliefs that the evaluator had after the same evidence; where a sequence of
    evidence never came up, from its beliefs stage by stage. Also the largest lost belief, and warnings."""
    sequences = reachable(pomdp)
    whole: dict[tuple[Evidence, ...], list[tuple[dict[Truth, float], ...]]] = {}
    single: dict[tuple[int, Evidence], list[dict[Truth, float]]] = {}
    for p in trajectories:
        evidence = tuple(seen for _, seen in p.endings)
        whole.setdefault(evidence, []).append(p.beliefs)
        for i, (seen, belief) in enumerate(zip(evidence, p.beliefs, strict=True)):
            single.setdefault((i, seen), []).append(belief)
    met = set(whole)
    if empty.beliefs:
        whole.setdefault(empty.evidence, [empty.beliefs])
    for i, belief in enumerate(empty.beliefs):
        single.setdefault((i, empty.evidence[i]), [belief])
    B = np.zeros((len(sequences.observations), len(sequences.states)))
    lost, warnings = 0.0, []
    for m, observed in enumerate(sequences.observations.tolist()):
        shown = tuple(_EVIDENCE[o] for o in observed[1:])
        cases = whole.get(shown, [])
        if not cases and all((i, one) in single for i, one in enumerate(shown)):
            cases = [tuple(_mean_belief(single[i, one]) for i, one in enumerate(shown))]
            warnings.append(f"{' then '.join(shown)} never came together; its belief is put together stage by stage")
        for case in cases:
            for n, row in enumerate(sequences.states.tolist()):
                history = states[row[-1]]
                if tuple(seen for _, seen in history) == shown:
                    chance = prod(one.get(truth, 0.0) for one, (truth, _) in zip(case, history, strict=True))
                    B[m, n] += chance / len(cases)
        total = B[m].sum()
        if not cases or total < 1e-9:
            possible = np.array([pomdp.PO[row, observed].prod() for row in sequences.states])
            B[m] = possible / possible.sum()
            warnings.append(
                f"nothing is known of the belief after {' then '.join(shown)}; taken as by what can show it"
            )
            continue
        lost = max(lost, 1.0 - total if shown in met else 0.0)
        B[m] /= total
    return Returns(pomdp, sequences, B), float(lost), warnings


def _mean_belief(beliefs: Sequence[Mapping[Truth, float]]) -> dict[Truth, float]:
    return {truth: sum(b.get(truth, 0.0) for b in beliefs) / len(beliefs) for truth in Truth}
