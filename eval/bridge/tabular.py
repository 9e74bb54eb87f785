"""The decision problem that a run was, estimated from its episodes.

A state is what has become of the stages so far and what was shown of it; a move deals with the next stage in one
of a few ways. Chances of each ending are counted, the evaluator's beliefs averaged; `theory` solves the rest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from devnull.eval.bridge.conduct import CONDUCTS, Ending, Past, Played
from devnull.rewards.belief.judge_prompt import MalformedAnswer
from devnull.rewards.belief.stage_evidence import Evidence, read
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.views import observe
from devnull.sandbox.task import Task, Truth
from devnull.sandbox.transcript import Transcript
from devnull.theory.pomdp import POMDP
from devnull.theory.returns import Returns
from devnull.theory.sequences import reachable

_EVIDENCE = tuple(Evidence)
Chances = dict[tuple[int, bool, str], dict[Ending, float]]
"""(stage, what it needs is in place, conduct) to the chance of each ending; no entry: never seen."""


@dataclass(frozen=True)
class Nothing:
    """What is shown and believed where no command is run: nobody may have tried that in the run."""

    evidence: tuple[Evidence, ...]
    beliefs: tuple[dict[Truth, float], ...]
    """Empty where the judge's answer cannot be read."""


def nothing_done(task: Task, evaluator: Evaluator) -> Nothing:
    transcript = Transcript(instruction=task.instructions[0])
    seen = read(task, observe(transcript, evaluator.members[0].sensors))
    evidence = tuple(seen[stage.name] for stage in task.stages)
    try:
        belief = evaluator.judge(task, transcript).belief
    except MalformedAnswer:
        return Nothing(evidence, ())
    return Nothing(evidence, tuple(belief.stages[stage.name] for stage in task.stages))


@dataclass(frozen=True, eq=False)
class Tabular:
    """One estimated problem."""

    task: Task
    chances: Chances
    states: list[Past]
    """By their number in `returns`; `()` is the start."""
    returns: Returns
    tries: dict[tuple[str, str], int]
    """(stage, conduct) to how often it was seen, with what the stage needs in place: what the chances rest on."""
    lost_belief: float
    """Most belief, after anything that was shown, in endings that never came about in the run: given to the others."""
    warnings: tuple[str, ...]


def tabular(played: Sequence[Played], task: Task, nothing: Nothing) -> Tabular:
    """Counts and averages; what the run does not tell is in the warnings."""
    chances, tries, one_sided = _endings(played, task, nothing)
    states = _histories(task, chances)
    returns, lost, warnings = _with_beliefs(_problem(task, chances, states), played, states, nothing)
    return Tabular(task, chances, states, returns, tries, lost, (*one_sided, *warnings))


def _endings(
    played: Sequence[Played], task: Task, nothing: Nothing
) -> tuple[Chances, dict[tuple[str, str], int], list[str]]:
    """Counts what came of each conduct. To skip is always possible, and shows nothing where nobody did.

    How likely the fault is, is known: at its stage, where both builds were met, each weighs as it should and not
    as it was drawn. Also how often each conduct was seen, and warnings of those that met one build only.
    """
    counts: dict[tuple[int, bool, str], tuple[Counter[Ending], Counter[Ending]]] = {}
    for p in played:
        for i, (done, ending) in enumerate(zip(p.conducts, p.endings, strict=True)):
            at = (i, _ready(task, i, p.endings[:i]), done)
            counts.setdefault(at, (Counter(), Counter()))[p.faulty][ending] += 1
    chances: Chances = {
        (i, ok, "skip"): {(Truth.NOT_ATTEMPTED, nothing.evidence[i]): 1.0}
        for i in range(len(task.stages))
        for ok in (True, False)
    }
    tries: dict[tuple[str, str], int] = {}
    warnings = []
    for at, (sound, faulty) in sorted(counts.items()):
        stage = task.stages[at[0]]
        known = stage.name == task.fault.stage and sound and faulty
        weight = task.fault.p if known else faulty.total() / (sound.total() + faulty.total())
        chances[at] = {
            ending: (1 - weight) * _share(sound, ending) + weight * _share(faulty, ending) for ending in sound | faulty
        }
        if at[1]:
            tries[stage.name, at[2]] = sound.total() + faulty.total()
            if stage.name == task.fault.stage and not known and 0 < task.fault.p < 1 and at[2] != "skip":
                met = "faulty" if faulty else "sound"
                warnings.append(f"{stage.name} {at[2]} met {met} builds only: what it leads to is taken from these")
    return chances, tries, warnings


def _share(counts: Counter[Ending], ending: Ending) -> float:
    return counts[ending] / counts.total() if counts else 0.0


def _ready(task: Task, i: int, past: Past) -> bool:
    """Whether all that stage `i` needs is installed."""
    names = [stage.name for stage in task.stages]
    return all(past[names.index(need)][0].installed for need in task.stages[i].needs)


def moves(chances: Chances, task: Task, past: Past) -> dict[str, dict[Ending, float]]:
    """What each conduct seen in the run leads to from here."""
    at = (len(past), _ready(task, len(past), past))
    return {done: chances[*at, done] for done in CONDUCTS if (*at, done) in chances}


def _histories(task: Task, chances: Chances) -> list[Past]:
    """Every past that some conduct can lead to, shortest first."""
    levels: list[list[Past]] = [[()]]
    for _ in task.stages:
        following = {
            (*past, ending) for past in levels[-1] for led in moves(chances, task, past).values() for ending in led
        }
        levels.append(sorted(following))
    return [past for level in levels for past in level]


def _problem(task: Task, chances: Chances, states: Sequence[Past]) -> POMDP:
    """States are pasts; one shows the evidence of its last stage. A conduct never seen there is as skipping."""
    at = {past: n for n, past in enumerate(states)}
    T = np.zeros((len(states), len(CONDUCTS), len(states)))
    R = np.zeros(len(states))
    PO = np.zeros((len(states), len(_EVIDENCE)))
    for past, n in at.items():
        shown = past[-1][1] if past else Evidence.SILENCE
        PO[n, _EVIDENCE.index(shown)] = 1.0
        if past:
            R[n] = task.stages[len(past) - 1].rewards.reward(past[-1][0])
        if len(past) == len(task.stages):
            T[n, :, n] = 1.0
            continue
        led = moves(chances, task, past)
        for a, done in enumerate(CONDUCTS):
            for ending, p in led.get(done, led["skip"]).items():
                T[n, a, at[*past, ending]] = p
    names = tuple(" > ".join(f"{truth}, shown {seen}" for truth, seen in past) or "start" for past in states)
    return POMDP(T=T, P0=np.eye(len(states))[0], R=R, PO=PO, horizon=len(task.stages), states=names, actions=CONDUCTS)


def _with_beliefs(
    pomdp: POMDP, played: Sequence[Played], states: Sequence[Past], nothing: Nothing
) -> tuple[Returns, float, list[str]]:
    """B from the beliefs that the evaluator had: those of the same evidence all along, else stage by stage."""
    sequences = reachable(pomdp)
    whole: dict[tuple[Evidence, ...], list[tuple[dict[Truth, float], ...]]] = {}
    single: dict[tuple[int, Evidence], list[dict[Truth, float]]] = {}
    for p in played:
        evidence = tuple(seen for _, seen in p.endings)
        whole.setdefault(evidence, []).append(p.beliefs)
        for i, (seen, belief) in enumerate(zip(evidence, p.beliefs, strict=True)):
            single.setdefault((i, seen), []).append(belief)
    met = set(whole)
    if nothing.beliefs:
        whole.setdefault(nothing.evidence, [nothing.beliefs])
    for i, belief in enumerate(nothing.beliefs):
        single.setdefault((i, nothing.evidence[i]), [belief])
    B = np.zeros((len(sequences.observations), len(sequences.states)))
    lost, warnings = 0.0, []
    for m, observed in enumerate(sequences.observations.tolist()):
        shown = tuple(_EVIDENCE[o] for o in observed[1:])
        cases = whole.get(shown, [])
        if not cases and all((i, one) in single for i, one in enumerate(shown)):
            cases = [tuple(_mean(single[i, one]) for i, one in enumerate(shown))]
            warnings.append(f"{' then '.join(shown)} never came together; its belief is put together stage by stage")
        for case in cases:
            for n, row in enumerate(sequences.states.tolist()):
                past = states[row[-1]]
                if tuple(seen for _, seen in past) == shown:
                    chance = prod(one.get(truth, 0.0) for one, (truth, _) in zip(case, past, strict=True))
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


def _mean(beliefs: Sequence[Mapping[Truth, float]]) -> dict[Truth, float]:
    return {truth: sum(b.get(truth, 0.0) for b in beliefs) / len(beliefs) for truth in Truth}
