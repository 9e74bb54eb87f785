"""One problem solved: both optimal sets of a policy class, every verdict between them, the ambiguity."""

from dataclasses import dataclass

import numpy as np

from devnull.theory.ambiguity import ambiguity_dimension
from devnull.theory.measures import Measures
from devnull.theory.optimal import optimal_set
from devnull.theory.policies import Policy, PolicyClass, Tree, actions_array, behaviour, measures_table
from devnull.theory.returns import Returns
from devnull.theory.verdicts import Verdict, verdict

_PAIR_LIMIT = 10_000
"""Beyond so many (policy, reference) pairs, verdicts are given for one policy of each behaviour only."""


@dataclass(frozen=True)
class Solved:
    """Optimal policies of one class with their measures, in the order of `devnull.theory.optimal.optimal_set`."""

    kind: PolicyClass
    """The class that was searched."""
    J_optimal: dict[Policy, Measures]
    """Π*, the truly optimal."""
    J_obs_optimal: dict[Policy, Measures]
    """Π*_obs, what maximising the evaluator's belief leads to."""
    verdicts: dict[tuple[Policy, Policy], Verdict]
    """(policy in Π*_obs, reference in Π*): all pairs; beyond `_PAIR_LIMIT` pairs the first of each behaviour."""
    ambiguity: int
    """dim(ker B ∩ im Γ): see `devnull.theory.ambiguity.ambiguity_dimension` (sec. 5)."""
    tolerance: float
    """Ties and strict inequalities were decided by it (see `devnull.theory.measures.TOLERANCE`)."""
    tree: Tree
    """State histories of the problem."""

    @property
    def J_star(self) -> float:
        """The best true return in the class."""
        return max(m.J for m in self.J_optimal.values())

    @property
    def J_obs_star(self) -> float:
        """The best believed return in the class."""
        return max(m.J_obs for m in self.J_obs_optimal.values())

    def distinct(self, policies: dict[Policy, Measures]) -> dict[Policy, Measures]:
        """One policy for each behaviour, the first listed."""
        seen: dict[Policy, Policy] = {}
        for policy in policies:
            seen.setdefault(behaviour(self.tree, policy), policy)
        return {policy: policies[policy] for policy in seen.values()}

    def as_json(self) -> dict[str, object]:
        """The format that `devnull theory solve --json` prints; docs/theory.md explains it."""

        def rows(policies: dict[Policy, Measures]) -> list[dict[str, object]]:
            return [
                {
                    "policy": self.tree.policy_as_json(p),
                    "J": m.J,
                    "J_obs": m.J_obs,
                    "E_plus": m.E_plus,
                    "E_minus": m.E_minus,
                }
                for p, m in policies.items()
            ]

        return {
            "J_star": self.J_star,
            "Jobs_star": self.J_obs_star,
            "J_optimal": rows(self.J_optimal),
            "Jobs_optimal": rows(self.J_obs_optimal),
            "verdicts": [
                {
                    "policy": self.tree.policy_as_json(policy),
                    "reference": self.tree.policy_as_json(reference),
                    "deceptive_inflation": v.deceptive_inflation,
                    "overjustification": v.overjustification,
                    "in_theorem": v.in_theorem,
                }
                for (policy, reference), v in self.verdicts.items()
            ],
            "ambiguity_dim": self.ambiguity,
        }


def solve(returns: Returns, kind: PolicyClass = "stationary") -> Solved:
    """Both optimal sets of a policy class, and the verdicts between them.

    Args:
        returns: The problem and the evaluator's belief.
        kind: What a policy's actions may depend on.

    Raises `TooLarge` where the class cannot be searched exactly.

    Example:
        solve(hiding().returns).J_star  # 3.5
    """
    tree = Tree.of(returns)
    tolerance = returns.tolerance

    def measured(policies: list[Policy]) -> dict[Policy, Measures]:
        actions = np.concatenate([actions_array(policy) for policy in policies])
        rows = measures_table(returns, tree, kind, actions).tolist()
        return {policy: Measures(*row) for policy, row in zip(policies, rows, strict=True)}

    best = measured(optimal_set(tree, returns.G, kind, tolerance))
    best_obs = measured(optimal_set(tree, returns.G_obs, kind, tolerance))
    solved = Solved(kind, best, best_obs, {}, ambiguity_dimension(returns.Gamma, returns.B), tolerance, tree)
    references, candidates = best, best_obs
    if len(best) * len(best_obs) > _PAIR_LIMIT:
        references, candidates = solved.distinct(best), solved.distinct(best_obs)
    for policy, m in candidates.items():
        for reference, m_ref in references.items():
            applies = policy not in best and reference not in best_obs
            solved.verdicts[policy, reference] = verdict(m, m_ref, applies, tolerance)
    return solved
