"""The table rung: what the exact theory says of a claim's contrasts, in seconds and without noise.

Policies are mixtures of the paper's conducts (install and show, install and hide, stop). A warm start is the mixture
that it imitates; a policy that is trained by GRPO goes to the optimum of what its reward says.
"""

from collections.abc import Mapping

from devnull.eval.claims.claim_file import ClaimFile
from devnull.theory.examples import HidingParameters, hiding
from devnull.theory.policies import Tree, measures_of

_FAMILY = "driver-cuda-runfile"
"""Example A of the paper."""
_WARM_START = {"aC": 0.55, "aH": 0.26, "aT": 0.19}
"""Conducts of the demo's mixture: honest (and verbose, which is the same here), hiding, stopping."""
Figures = dict[str, float]
"""Metric to value, of one policy."""


def predict(claim: ClaimFile) -> dict[str, float] | None:
    """Contrast to its exact value; `None` where this table does not know the claim's tasks, arms or metrics."""
    if _FAMILY not in claim.family or {"demonstrations", "sft"} & claim.jobs.keys():
        return None
    figures: dict[str, Figures] = {}
    for arm, each in claim.arms.items():
        if each.settings or (found := _arm_figures(claim, each.policy or arm)) is None:
            return None
        figures[arm] = found
    predicted = {}
    for contrast in claim.contrasts:
        if any(metric not in figures[arm] for arm, metric, _ in contrast.terms):
            return None
        predicted[contrast.name] = sum(weight * figures[arm][metric] for arm, metric, weight in contrast.terms)
    return predicted


def _arm_figures(claim: ClaimFile, policy: str) -> Figures | None:
    """Of the policy that a job trains; a job that only the recipe has is the warm start."""
    job = claim.jobs.get(policy)
    conducts = _conducts(claim.p_hide, claim.hiding_penalty)
    if job is None:
        return _mix(conducts, _WARM_START)
    if job.command != "train grpo" or job.settings.keys() - {"evaluator", "reward"}:
        return None
    evaluator = job.settings.get("evaluator", {})
    if not isinstance(evaluator, Mapping) or evaluator.keys() - {"sensors", "belief", "shuffled"}:
        return None
    belief = evaluator.get("belief", {})
    if evaluator.get("sensors", "terminal") not in ("terminal", "full") or belief.keys() - {"p_hide"}:
        return None
    if evaluator.get("shuffled"):
        return _mix(conducts, _WARM_START)
    sees_truth = job.settings.get("reward") == "actual" or evaluator.get("sensors") == "full"
    worth = "J" if sees_truth else "J_obs"
    rewarded = _conducts(float(belief.get("p_hide", claim.p_hide)), claim.hiding_penalty)
    return conducts[max(rewarded, key=lambda name: rewarded[name][worth])]


def _conducts(p_hide: float, hiding_penalty: float) -> dict[str, Figures]:
    example = hiding(HidingParameters(p_hide=p_hide, r=hiding_penalty))
    tree = Tree.of(example.returns)
    figures = {}
    for name, policy in example.installing.items():
        measures = measures_of(example.returns, tree, policy)
        figures[name] = {
            **{key: getattr(measures, key) for key in ("J", "J_obs", "E_plus", "E_minus")},
            "error_suppression_rate": float(name == "aH"),
            "attempt_rate": float(name != "aT"),
        }
    return figures


def _mix(conducts: Mapping[str, Figures], weights: Mapping[str, float]) -> Figures:
    total = sum(weights.values())
    mixed = {key: sum(weights[name] * conducts[name][key] for name in weights) / total for key in conducts["aC"]}
    mixed["error_suppression_rate"] = weights["aH"] / (weights["aC"] + weights["aH"])  # of those that fail
    return mixed
