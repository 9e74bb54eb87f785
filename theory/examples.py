"""The two worked examples of the paper (sec. 4.3): hiding a failure, and logging too much. All parameters.

Both install a driver (certain), then CUDA (works with probability p), within three moves:
S start, I driver installed, W and L worked and failed, T the end. Whatever is not named below leads to T.
"""

import math
from dataclasses import dataclass

import numpy as np

from devnull.theory.errors import TheoryInputError
from devnull.theory.policies import Policy
from devnull.theory.pomdp import POMDP, Array
from devnull.theory.returns import Returns
from devnull.theory.sequences import Sequences, reachable

_HORIZON = 3


@dataclass(frozen=True)
class HidingParameters:
    """Example A: errors may be sent to /dev/null."""

    p: float = 0.5
    """Probability that CUDA installs."""
    p_hide: float = 0.5
    """pH: the evaluator's P(failed and hid | driver shown, then silence); the rest believes it never tried."""
    p_hide_without: float | None = None
    """pH': the same where no driver was shown either; as pH where not given."""
    p_works: float = 0.5
    """pW: the evaluator's P(worked with the default log | success shown); the rest with errors hidden."""
    r: float = 1.0
    """How much worse a hidden failure is than a shown one."""


@dataclass(frozen=True)
class VerboseParameters:
    """Example B: the default log of a success is silent, the verbose one is a nuisance."""

    p: float = 0.5
    """Probability that CUDA installs."""
    p_default: float = 0.1
    """pD: the evaluator's P(worked with the default log | driver shown, then silence)."""
    r: float = 1.0
    """What verbose output costs where it worked."""


@dataclass(frozen=True, eq=False)
class Example:
    """One of the paper's examples at one setting of its parameters."""

    returns: Returns
    """The problem with the evaluator's belief."""
    policies: dict[str, Policy]
    """Stationary policies by what they do; one for each behaviour."""
    meanings: dict[str, str]
    """State to words."""

    @property
    def installing(self) -> dict[str, Policy]:
        """The three that install the driver first, by their second action, as the paper names them."""
        return {name.removeprefix("aI, "): p for name, p in self.policies.items() if name.startswith("aI, ")}


def hiding(parameters: HidingParameters | None = None) -> Example:
    """Example A. Raises `TheoryInputError` for a probability outside [0, 1]."""
    q = parameters or HidingParameters()
    without = q.p_hide if q.p_hide_without is None else q.p_hide_without
    _require(q.r, p=q.p, p_hide=q.p_hide, p_hide_without=without, p_works=q.p_works)
    states, actions = ("S", "I", "W", "L", "WH", "LH", "T"), ("aI", "aC", "aH", "aT")
    pomdp = POMDP(
        T=_graph(states, actions, {"aC": ("W", "L"), "aH": ("WH", "LH")}, q.p),
        P0=np.eye(7)[0],
        R=np.array([0.0, 1.0, 10.0, -5.0, 10.0, -5.0 - q.r, 0.0]),
        PO=_shown(states, {"I": 1, "W": 2, "WH": 2, "L": 3}, 4),
        horizon=_HORIZON,
        states=states,
        actions=actions,
    )
    sequences = reachable(pomdp)
    B = _belief(
        pomdp,
        sequences,
        {
            "S I W T": q.p_works,
            "S I WH T": 1 - q.p_works,
            "S I LH T": q.p_hide,
            "S I T T": 1 - q.p_hide,
            "S LH T T": without,
            "S T T T": 1 - without,
        },
    )
    meanings = {
        "S": "started",
        "I": "driver installed",
        "W": "worked",
        "L": "failed and showed it",
        "WH": "worked with errors hidden",
        "LH": "failed and hid it",
        "T": "did nothing more",
    }
    return Example(Returns(pomdp, sequences, B), _named_policies(actions), meanings)


def verbose(parameters: VerboseParameters | None = None) -> Example:
    """Example B. Raises `TheoryInputError` for a probability outside [0, 1]."""
    q = parameters or VerboseParameters()
    _require(q.r, p=q.p, p_default=q.p_default)
    states, actions = ("S", "I", "W", "L", "WV", "LV", "T"), ("aI", "aD", "aV", "aT")
    pomdp = POMDP(
        T=_graph(states, actions, {"aD": ("W", "L"), "aV": ("WV", "LV")}, q.p),
        P0=np.eye(7)[0],
        R=np.array([0.0, 10.0, 5.0, -1.0, 5.0 - q.r, -1.0, 0.0]),
        PO=_shown(states, {"I": 1, "L": 2, "WV": 3, "LV": 4}, 5),
        horizon=_HORIZON,
        states=states,
        actions=actions,
    )
    sequences = reachable(pomdp)
    B = _belief(pomdp, sequences, {"S I W T": q.p_default, "S I T T": 1 - q.p_default})
    meanings = {
        "S": "started",
        "I": "driver installed",
        "W": "worked silently",
        "L": "failed and showed it",
        "WV": "worked, logging it all",
        "LV": "failed, logging it all",
        "T": "did nothing more",
    }
    return Example(Returns(pomdp, sequences, B), _named_policies(actions), meanings)


def _require(r: float, **probabilities: float) -> None:
    for name, value in probabilities.items():
        if not 0.0 <= value <= 1.0:
            raise TheoryInputError(f"{name} is {value}; a probability lies between 0 and 1")
    if not math.isfinite(r):
        raise TheoryInputError(f"r is {r}; it must be finite")


def _graph(states: tuple[str, ...], actions: tuple[str, ...], attempts: dict[str, tuple[str, str]], p: float) -> Array:
    """`(S, A, S)`: an attempt at I works with probability p; without the driver, at S, it fails."""
    at = {name: i for i, name in enumerate(states)}
    T = np.zeros((len(states), len(actions), len(states)))
    T[:, :, at["T"]] = 1.0
    T[at["S"], actions.index("aI")] = np.eye(len(states))[at["I"]]
    for action, (worked, failed) in attempts.items():
        a = actions.index(action)
        T[at["S"], a] = np.eye(len(states))[at[failed]]
        T[at["I"], a] = p * np.eye(len(states))[at[worked]] + (1 - p) * np.eye(len(states))[at[failed]]
    return T


def _shown(states: tuple[str, ...], observations: dict[str, int], count: int) -> Array:
    """`(S, O)`, deterministic; 0 is silence."""
    return np.eye(count)[[observations.get(state, 0) for state in states]]


def _belief(pomdp: POMDP, sequences: Sequences, weights: dict[str, float]) -> Array:
    """B `(M, N)`: weights of state sequences named like `S I W T`, where several could have been shown.

    At p = 0 or 1 some cannot happen; the belief is then spread over those that can, by the same weights.
    """
    at = {name: i for i, name in enumerate(pomdp.states)}
    seen = pomdp.PO.argmax(axis=1)
    B = np.zeros((len(sequences.observations), len(sequences.states)))
    weight = {tuple(at[s] for s in name.split()): value for name, value in weights.items()}
    for m, observations in enumerate(sequences.observations):
        could = [n for n, row in enumerate(sequences.states) if (seen[row] == observations).all()]
        B[m, could] = [weight.get(tuple(sequences.states[n].tolist()), 1.0) for n in could]
        if B[m].sum() == 0.0:  # all the belief lay on what cannot happen
            B[m, could] = 1.0
    return np.asarray(B / B.sum(axis=1, keepdims=True), float)


def _named_policies(actions: tuple[str, ...]) -> dict[str, Policy]:
    """The six kinds of behaviour: three after the driver, three without it; the last action fills the other states."""
    end = len(actions) - 1
    after = {f"aI, {actions[a]}": Policy("stationary", (0, a, *[end] * 5)) for a in range(1, len(actions))}
    without = {f"{actions[a]} at once": Policy("stationary", (a, *[end] * 6)) for a in range(1, len(actions))}
    return after | without
