"""Prints what `devnull theory example-a`, `example-b` and `solve` find."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from devnull.cli.terminal.console import print_error
from devnull.theory.ambiguity import ambiguous_directions, describe_indistinguishable, robustness
from devnull.theory.check import optimal_actions
from devnull.theory.examples import Example
from devnull.theory.learning import (
    belief_aware,
    naive_statewise,
    naive_unrestricted,
    observed_choices,
    state_choices,
)
from devnull.theory.measures import Measures
from devnull.theory.model_file import read_model
from devnull.theory.policies import Policy, PolicyClass, Tree, behaviour, measures_of
from devnull.theory.returns import Returns
from devnull.theory.solve import Solved, solve
from devnull.theory.verdicts import Verdict, verdict


def print_example(example: Example, as_json: bool) -> None:
    """Prints an example's policies, optima, verdicts, what reward learning picks, and what feedback leaves open."""
    returns = example.returns
    tree = Tree.of(returns)
    measured = {name: measures_of(returns, tree, policy) for name, policy in example.policies.items()}
    solved = solve(returns)
    names = {behaviour(tree, policy): name for name, policy in example.policies.items()}
    best, picked = (
        [names[behaviour(tree, p)] for p in solved.distinct(optimal)]
        for optimal in (solved.J_optimal, solved.J_obs_optimal)
    )
    verdicts = {
        (name, reference): verdict(
            measured[name], measured[reference], name not in best and reference not in picked, returns.tolerance
        )
        for name in picked
        for reference in best
    }
    compared = state_choices(returns)
    learners = {
        "naive, unrestricted": optimal_actions(example, naive_unrestricted(returns, compared).returns),
        "naive, state-wise": optimal_actions(example, naive_statewise(returns, compared).returns),
        "belief-aware": optimal_actions(example, belief_aware(returns, observed_choices(returns)).returns),
    }
    directions = ambiguous_directions(returns.Gamma, returns.B)
    meanings = tuple(example.meanings.values())
    open_questions = [
        describe_indistinguishable(d, [returns.B], returns.sequences.states, meanings) for d in directions
    ]
    if as_json:
        document = {
            "policies": {name: _measures_json(m) for name, m in measured.items()},
            "J_star": solved.J_star,
            "Jobs_star": solved.J_obs_star,
            "J_optimal": [{"policy": name, **_measures_json(measured[name])} for name in best],
            "Jobs_optimal": [{"policy": name, **_measures_json(measured[name])} for name in picked],
            "verdicts": [
                {"policy": name, "reference": reference, **_verdict_json(v)}
                for (name, reference), v in verdicts.items()
            ],
            "learners": learners,
            "ambiguity_dim": solved.ambiguity,
            "ambiguous": open_questions,
        }
        print(json.dumps(document, indent=2))
        return
    rows = {
        name: (m, "J*" * (name in best) + " " * (name in best and name in picked) + "J_obs*" * (name in picked))
        for name, m in measured.items()
    }
    console = Console()
    console.print(_measure_table(rows))
    for (name, reference), v in verdicts.items():
        if name != reference:
            console.print(f"{name} against {reference}: {_format_theory_verdict(v)}", highlight=False, soft_wrap=True)
    for learner, choice in learners.items():
        console.print(f"reward learning, {learner}: picks {choice}", highlight=False)
    _print_ambiguity(console, returns, open_questions)


def print_solution(file: Path, policies: PolicyClass, as_json: bool) -> None:
    """Solves the problem of an .npz file and prints optimal behaviours, verdicts and what feedback leaves open.

    Args:
        policies: What a policy may look at.

    Raises `TheoryInputError` for a file that is no problem.
    """
    returns = read_model(file)
    impossible = returns.impossible()
    if impossible:
        seen, states, mass = impossible[0]
        print_error(
            f"{file}: B believes in what cannot have been, {len(impossible)} time(s): "
            f"after observations {list(seen)}, states {list(states)} have {mass:.3g} (solved as it stands)"
        )
    solved = solve(returns, policies)
    if as_json:
        print(json.dumps(solved.as_json()))
        return
    console = Console()
    optimal: dict[Policy, str] = {}
    for name, policies_found in (("J*", solved.J_optimal), ("J_obs*", solved.J_obs_optimal)):
        for policy in solved.distinct(policies_found):
            key = behaviour(solved.tree, policy)
            optimal[key] = f"{optimal.get(key, '')} {name}".strip()
    measured = {behaviour(solved.tree, p): m for p, m in (solved.J_optimal | solved.J_obs_optimal).items()}
    console.print(_measure_table({_format_policy(solved, p): (measured[p], label) for p, label in optimal.items()}))
    console.print("one row for each behaviour; · where it never acts", highlight=False)
    favoured, best = solved.distinct(solved.J_obs_optimal), solved.distinct(solved.J_optimal)
    for (policy, reference), v in solved.verdicts.items():
        if policy != reference and policy in favoured and reference in best:
            pair = (_format_policy(solved, behaviour(solved.tree, p)) for p in (policy, reference))
            console.print(f"{' against '.join(pair)}: {_format_theory_verdict(v)}", highlight=False, soft_wrap=True)
    directions = ambiguous_directions(returns.Gamma, returns.B)
    open_questions = [
        describe_indistinguishable(d, [returns.B], returns.sequences.states, returns.pomdp.states) for d in directions
    ]
    _print_ambiguity(console, returns, open_questions)


def _measure_table(rows: dict[str, tuple[Measures, str]]) -> Table:
    table = Table("policy", box=None, pad_edge=False)
    for name in ("J", "J_obs", "E+", "E-"):
        table.add_column(name, justify="right")
    table.add_column("optimal")
    for name, (m, label) in rows.items():
        table.add_row(name, *(f"{value:.4f}" for value in (m.J, m.J_obs, m.E_plus, m.E_minus)), label)
    return table


def _format_policy(solved: Solved, policy: Policy) -> str:
    """Actions by name; `·` where the policy never acts."""
    names = solved.tree.pomdp.actions

    def action_name(action: int | None) -> str:
        return "·" if action is None else names[action]

    if policy.kind == "stationary":
        return " ".join(action_name(action) for action in policy.actions)
    if policy.kind == "time":
        S = solved.tree.pomdp.S
        rows = [policy.actions[t : t + S] for t in range(0, len(policy.actions), S)]
        return " | ".join(" ".join(action_name(action) for action in row) for row in rows)
    histories = [level for prefixes in solved.tree.prefixes[:-1] for level in prefixes.tolist()]
    states = solved.tree.pomdp.states
    return ", ".join(
        f"{'>'.join(states[s] for s in history)}:{action_name(action)}"
        for history, action in zip(histories, policy.actions, strict=True)
        if action is not None
    )


def _print_ambiguity(console: Console, returns: Returns, open_questions: list[str]) -> None:
    if open_questions:
        console.print(f"feedback leaves {len(open_questions)} direction(s) of the return open:", highlight=False)
        for line in open_questions:
            console.print(f"  {line}", highlight=False, soft_wrap=True)
        return
    bound = robustness(returns.Gamma, returns.B)
    console.print(
        f"feedback leaves no direction of the return open; a belief off by rho <= {bound.radius:.3g} "
        f"costs at most rho |G| {bound.factor:.3g} in the learnt return, twice that in regret",
        highlight=False,
        soft_wrap=True,
    )


def _measures_json(m: Measures) -> dict[str, float]:
    return {"J": m.J, "J_obs": m.J_obs, "E_plus": m.E_plus, "E_minus": m.E_minus}


def _verdict_json(v: Verdict) -> dict[str, object]:
    return {
        "deceptive_inflation": v.deceptive_inflation,
        "overjustification": v.overjustification,
        "in_theorem": v.in_theorem,
        "overestimation": v.quadrant.overestimation,
        "underestimation": v.quadrant.underestimation,
    }


def _format_theory_verdict(v: Verdict) -> str:
    scope = "" if v.in_theorem else " (outside Theorem 4.5: one of them is optimal in both senses)"
    return f"{name_verdicts(v)}{scope}; {v.quadrant}"


def name_verdicts(v: Verdict) -> str:
    """`deceptive inflation and overjustification`, one of them, or `neither verdict`."""
    both = (("deceptive inflation", v.deceptive_inflation), ("overjustification", v.overjustification))
    return " and ".join(name for name, holds in both if holds) or "neither verdict"
