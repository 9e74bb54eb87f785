"""The paper's results once more, by solving: Table 1, the thresholds, the identity, Theorem 4.5."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from devnull.theory.ambiguity import ambiguity_dimension, stack_beliefs
from devnull.theory.examples import Example, HidingParameters, VerboseParameters, hiding, verbose
from devnull.theory.learning import belief_aware, naive_unrestricted, observed_choices, state_choices
from devnull.theory.policies import Tree, actions_array, every_stationary, measures_of, measures_table, probabilities
from devnull.theory.pomdp import Array
from devnull.theory.random_models import random_returns
from devnull.theory.solve import solve
from devnull.theory.verdicts import theorem_holds

_STEP = 1e-3
"""How far from a threshold its two sides are tried."""


@dataclass(frozen=True)
class CheckResult:
    """One result of the paper, solved again."""

    name: str
    """What was checked, e.g. `Table 1, A (p=.5, pH=.5)`."""
    holds: bool
    """Whether the solver finds what the paper says."""
    detail: str
    """What the solver finds."""


def optimal_actions(example: Example, returns: Array) -> str:
    """Which of the example's policies maximise the expectation of `returns` `(N,)`, by their second action: `aC`, or
    `aC or aH` where they tie within 1e-6."""
    tree = Tree.of(example.returns)
    actions = np.concatenate([actions_array(policy) for policy in example.policies.values()])
    values = probabilities(tree, "stationary", actions) @ returns
    tied = values >= values.max() - 1e-6 * max(1.0, float(np.abs(values).max()))
    return " or ".join(name.removeprefix("aI, ") for name, best in zip(example.policies, tied, strict=True) if best)


def run_checks(models: int = 200, seed: int = 0) -> Iterator[CheckResult]:
    """All checks in order, each as soon as it is known.

    Args:
        models: Random models on which the identity and Theorem 4.5 are tried.
        seed: Draws them.
    """
    yield from _known_points()
    yield from _table_1()
    yield from _thresholds()
    yield from _ambiguities()
    yield from _on_random_models(models, seed)


def _known_points() -> Iterator[CheckResult]:
    a, b = hiding(), verbose()
    m = measures_of(a.returns, Tree.of(a.returns), a.installing["aH"])
    s = solve(a.returns)
    v = next(iter(s.verdicts.values()))
    numbers = (s.J_star, m.J, m.J_obs, m.E_plus)
    yield CheckResult(
        "example A (p=.5, pH=.5, r=1)",
        optimal_actions(a, a.returns.G) == "aC"
        and optimal_actions(a, a.returns.G_obs) == "aH"
        and np.allclose(numbers, (3.5, 3.0, 4.5, 1.5), rtol=0, atol=1e-12)
        and v.deceptive_inflation
        and not v.overjustification,
        "J* = {:.4g} by aC; J_obs* by aH with J {:.4g}, J_obs {:.4g}, E+ {:.4g}: deceptive inflation".format(*numbers),
    )
    tree = Tree.of(b.returns)
    seen, best = (measures_of(b.returns, tree, b.installing[name]) for name in ("aV", "aD"))
    v = next(iter(solve(b.returns).verdicts.values()))
    yield CheckResult(
        "example B (p=.5, pD=.1, r=1)",
        optimal_actions(b, b.returns.G) == "aD"
        and optimal_actions(b, b.returns.G_obs) == "aV"
        and np.allclose((seen.E_minus, best.E_minus), (0.0, 2.25), rtol=0, atol=1e-12)
        and v.overjustification
        and not v.deceptive_inflation,
        f"J_obs* by aV, E- {seen.E_minus:.4g} against {best.E_minus:.4g}: overjustification",
    )


def _table_1() -> Iterator[CheckResult]:
    rows = (
        ("A", "p=.5, pH=.5", hiding(HidingParameters(p=0.5, p_hide=0.5)), "aH", "aH"),
        ("A", "p=.1, pH=.9", hiding(HidingParameters(p=0.1, p_hide=0.9)), "aC", "aT"),
        ("B", "p=.5, pD=.9", verbose(VerboseParameters(p=0.5, p_default=0.9)), "aT", "aD"),
        ("B", "p=.5, pD=.1", verbose(VerboseParameters(p=0.5, p_default=0.1)), "aV", "aD"),
    )
    for letter, point, example, naive, aware in rows:
        found = (
            optimal_actions(example, naive_unrestricted(example.returns, state_choices(example.returns)).returns),
            optimal_actions(example, belief_aware(example.returns, observed_choices(example.returns)).returns),
        )
        detail = f"naive picks {found[0]}, belief-aware {found[1]}"
        yield CheckResult(f"Table 1, {letter} ({point})", found == (naive, aware), detail)


def _thresholds() -> Iterator[CheckResult]:
    """Each by the choice on both of its sides, `_STEP` away."""
    for r in (1.0, 2.0, 4.0):
        at = 5 / (5 + r)
        sides = [hiding(HidingParameters(p=0.5, p_hide=at + d, r=r)) for d in (-_STEP, _STEP)]
        yield _side_by_side(f"A: pH = 5/(5+r) = {at:.4f} at r={r:g}", "J_obs", sides, ("aH", "aC"))
    sides = [hiding(HidingParameters(p=1 / 3 + d)) for d in (-_STEP, _STEP)]
    yield _side_by_side("A: p = 1/3", "J", sides, ("aT", "aC"))
    for p, r in ((0.5, 1.0), (0.5, 2.0), (0.9, 4.0)):
        at = (p * (6 - r) - 1) / 5
        sides = [verbose(VerboseParameters(p=p, p_default=at + d, r=r)) for d in (-_STEP, _STEP)]
        yield _side_by_side(f"B: pD = q = (p(6-r)-1)/5 = {at:.4f} at p={p:g}, r={r:g}", "J_obs", sides, ("aV", "aT"))
    sides = [verbose(VerboseParameters(p=1 / 6 + d)) for d in (-_STEP, _STEP)]
    yield _side_by_side("B: p = 1/6", "J", sides, ("aT", "aD"))


def _side_by_side(name: str, maximised: str, sides: list[Example], expected: tuple[str, str]) -> CheckResult:
    found = tuple(optimal_actions(side, side.returns.G if maximised == "J" else side.returns.G_obs) for side in sides)
    return CheckResult(
        f"threshold {name}", found == expected, f"{maximised} optimum {found[0]} below, {found[1]} above"
    )


def _ambiguities() -> Iterator[CheckResult]:
    a, b = hiding().returns, verbose().returns
    other = hiding(HidingParameters(p_hide=0.9, p_works=0.2)).returns
    found = (
        ambiguity_dimension(a.Gamma, a.B),
        ambiguity_dimension(b.Gamma, b.B),
        ambiguity_dimension(a.Gamma, stack_beliefs([a.B, other.B])),
    )
    detail = f"A {found[0]}, B {found[1]}; A with a second evaluator (pH=.9, pW=.2) {found[2]}"
    yield CheckResult("ambiguous directions", found == (2, 0, 0), detail)


def _on_random_models(models: int, seed: int) -> Iterator[CheckResult]:
    """Half of them with deterministic observations, half sparse; all stationary policies of each."""
    rng = np.random.default_rng(seed)
    gap, pairs, broken, inflating, justifying = 0.0, 0, 0, 0, 0
    for n in range(models):
        returns = random_returns(
            rng, S=4, A=3, O=2, horizon=3, deterministic_observations=n % 2 == 0, density=1.0 if n % 4 < 2 else 0.4
        )
        rows = measures_table(returns, Tree.of(returns), "stationary", every_stationary(returns.pomdp))
        gap = max(gap, float(np.abs(rows[:, 2] - rows[:, 3] - rows[:, 1] + rows[:, 0]).max()))
        for v in solve(returns).verdicts.values():
            pairs += v.in_theorem
            broken += not theorem_holds(v)
            inflating += v.in_theorem and v.deceptive_inflation
            justifying += v.in_theorem and v.overjustification
    yield CheckResult(f"E+ - E- = J_obs - J, {models} random models", gap < 1e-9, f"largest gap {gap:.1e}")
    yield CheckResult(
        f"Theorem 4.5, {models} random models",
        broken == 0 and pairs > 0,
        f"{pairs} pairs in its scope: {inflating} inflating, {justifying} justifying, {broken} neither",
    )
