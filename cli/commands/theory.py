"""The exact theory: the paper's two examples, any small problem, its results re-verified, its regions drawn."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from devnull.cli.terminal.console import complain
from devnull.sandbox.errors import InputError
from devnull.theory.ambiguity import ambiguous_directions, in_words, robustness
from devnull.theory.check import checks, picks
from devnull.theory.errors import TheoryInputError
from devnull.theory.examples import Example, HidingParameters, VerboseParameters, hiding, verbose
from devnull.theory.learning import (
    belief_aware,
    naive_statewise,
    naive_unrestricted,
    observed_choices,
    state_choices,
)
from devnull.theory.measures import Measures
from devnull.theory.model_file import read_model, write_model
from devnull.theory.policies import Kind, Policy, Tree, behaviour, measures_of
from devnull.theory.regions import regions
from devnull.theory.returns import Returns
from devnull.theory.solve import Solved, solve
from devnull.theory.verdicts import Verdict, verdict


@dataclass(frozen=True)
class ExampleA:
    """Hiding a failure: policies, optima, errors, verdicts."""

    p: float = 0.5
    """Probability that CUDA installs."""
    p_hide: float = 0.5
    """pH: the evaluator's P(failed and hid | driver shown, then silence)."""
    p_hide_without: float | None = None
    """pH': the same where no driver was shown; as --p-hide where not given."""
    p_works: float = 0.5
    """pW: the evaluator's P(worked with the default log | success shown)."""
    r: float = 1.0
    """How much worse a hidden failure is than a shown one."""
    out: Path | None = None
    """Also write the problem to this .npz file, for `theory solve`."""
    json: bool = False
    """Print JSON only."""


@dataclass(frozen=True)
class ExampleB:
    """Logging too much: policies, optima, errors, verdicts."""

    p: float = 0.5
    """Probability that CUDA installs."""
    p_default: float = 0.1
    """pD: the evaluator's P(worked with the default log | driver shown, then silence)."""
    r: float = 1.0
    """What verbose output costs where it worked."""
    out: Path | None = None
    """Also write the problem to this .npz file, for `theory solve`."""
    json: bool = False
    """Print JSON only."""


@dataclass(frozen=True)
class Solve:
    """Optimal sets, verdicts and ambiguity of a problem in an .npz file (format: docs/theory.md)."""

    file: tyro.conf.Positional[Path]
    """T, P0, R, PO, gamma, horizon, seqs, oseqs and B, written with numpy.savez."""
    policies: Kind = "stationary"
    """What a policy may look at: the state; state and time; all states so far."""
    json: bool = False
    """Print JSON only."""


@dataclass(frozen=True)
class Check:
    """Re-verify the paper's results, a line each; exit status 1 if one fails."""

    models: int = 200
    """Random models for the identity and the theorem."""
    seed: int = 0
    """Of the random models."""
    json: bool = False
    """Print JSON only."""


@dataclass(frozen=True)
class Plot:
    """Draw which conduct is best, which one feedback picks, and what that is, over an example's two probabilities."""

    out: Path
    """Image to write; its ending (.png, .svg, .pdf) decides the format."""
    example: Literal["a", "b"] = "a"
    """a: p against pH; b: p against pD."""
    r: float = 1.0
    """Penalty of a hidden failure (a), cost of verbose output (b)."""
    steps: int = 199
    """Cells along each axis (by default no centre lies on a threshold, where two conducts tie)."""


@dataclass(frozen=True)
class Bridge:
    """Runs as a table: estimated from their episodes, solved, and held against what the arms did."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders; the more ways of dealing with a stage their arms show, the more the table knows."""
    evaluator: Path | None = None
    """TOML file of the evaluator; without one, it sees the terminal and is as paranoid as the runs say."""
    arms: tuple[str, ...] = ()
    """Only these arms; none: all."""
    out: Path | None = None
    """Also write the problem to this .npz file, for `theory solve`."""
    json: bool = False
    """Print JSON only."""


# A further subcommand is a dataclass of its own, one more line here, and one more in `main`.
Args = (
    Annotated[ExampleA, tyro.conf.subcommand("example-a")]
    | Annotated[ExampleB, tyro.conf.subcommand("example-b")]
    | Annotated[Solve, tyro.conf.subcommand("solve")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Bridge, tyro.conf.subcommand("bridge")]
)


def main(args: ExampleA | ExampleB | Solve | Check | Plot | Bridge) -> int:
    try:
        match args:
            case ExampleA():
                a = HidingParameters(args.p, args.p_hide, args.p_hide_without, args.p_works, args.r)
                return _show_example(hiding(a), args)
            case ExampleB():
                return _show_example(verbose(VerboseParameters(args.p, args.p_default, args.r)), args)
            case Solve():
                return _show_solved(args)
            case Check():
                return _run_checks(args)
            case Plot():
                return _draw(args)
            case Bridge():
                from devnull.cli.commands.theory_bridge import (
                    cross,  # the rooms of agents and rewards, for this one only
                )

                return cross(args.runs, args.evaluator, args.arms, args.out, args.json)
    except TheoryInputError as error:
        raise InputError(str(error)) from None


def _show_example(example: Example, args: ExampleA | ExampleB) -> int:
    if args.out is not None:
        write_model(args.out, example.returns)
    returns = example.returns
    tree = Tree.of(returns)
    measured = {name: measures_of(returns, tree, policy) for name, policy in example.policies.items()}
    solved = solve(returns)
    conduct = {behaviour(tree, policy): name for name, policy in example.policies.items()}
    best, picked = (
        [conduct[behaviour(tree, p)] for p in solved.distinct(found)]
        for found in (solved.J_optimal, solved.J_obs_optimal)
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
        "naive, unrestricted": picks(example, naive_unrestricted(returns, compared).returns),
        "naive, state-wise": picks(example, naive_statewise(returns, compared).returns),
        "belief-aware": picks(example, belief_aware(returns, observed_choices(returns)).returns),
    }
    directions = ambiguous_directions(returns.Gamma, returns.B)
    meanings = tuple(example.meanings.values())
    open_questions = [in_words(d, [returns.B], returns.sequences.states, meanings) for d in directions]
    if args.json:
        document = {
            "policies": {name: _as_dict(m) for name, m in measured.items()},
            "J_star": solved.J_star,
            "Jobs_star": solved.J_obs_star,
            "J_optimal": best,
            "Jobs_optimal": picked,
            "verdicts": [
                {"policy": name, "reference": reference, **_verdict_dict(v)}
                for (name, reference), v in verdicts.items()
            ],
            "learners": learners,
            "ambiguity_dim": solved.ambiguity,
            "ambiguous": open_questions,
        }
        print(json.dumps(document, indent=2))
        return 0
    rows = {
        name: (m, "J*" * (name in best) + " " * (name in best and name in picked) + "J_obs*" * (name in picked))
        for name, m in measured.items()
    }
    console = Console()
    console.print(_measure_table(rows))
    for (name, reference), v in verdicts.items():
        if name != reference:
            console.print(f"{name} against {reference}: {_verdict_words(v)}", highlight=False, soft_wrap=True)
    for learner, choice in learners.items():
        console.print(f"reward learning, {learner}: picks {choice}", highlight=False)
    _print_ambiguity(console, returns, open_questions)
    return 0


def _show_solved(args: Solve) -> int:
    returns = read_model(args.file)
    impossible = returns.impossible()
    if impossible:
        seen, states, mass = impossible[0]
        complain(
            f"{args.file}: B believes in what cannot have been, {len(impossible)} time(s): "
            f"after observations {list(seen)}, states {list(states)} have {mass:.3g} (solved as it stands)"
        )
    solved = solve(returns, args.policies)
    if args.json:
        print(json.dumps(solved.as_json()))
        return 0
    console = Console()
    optimal: dict[Policy, str] = {}
    for name, found in (("J*", solved.J_optimal), ("J_obs*", solved.J_obs_optimal)):
        for policy in solved.distinct(found):
            key = behaviour(solved.tree, policy)
            optimal[key] = f"{optimal.get(key, '')} {name}".strip()
    everywhere = {behaviour(solved.tree, p): m for p, m in (solved.J_optimal | solved.J_obs_optimal).items()}
    console.print(_measure_table({_spelt(solved, p): (everywhere[p], words) for p, words in optimal.items()}))
    console.print("one row for each behaviour; · where it never acts", highlight=False)
    shown = solved.distinct(solved.J_obs_optimal), solved.distinct(solved.J_optimal)
    for (policy, reference), v in solved.verdicts.items():
        if policy != reference and policy in shown[0] and reference in shown[1]:
            pair = (_spelt(solved, behaviour(solved.tree, p)) for p in (policy, reference))
            console.print(f"{' against '.join(pair)}: {_verdict_words(v)}", highlight=False, soft_wrap=True)
    directions = ambiguous_directions(returns.Gamma, returns.B)
    words = [in_words(d, [returns.B], returns.sequences.states, returns.pomdp.states) for d in directions]
    _print_ambiguity(console, returns, words)
    return 0


def _run_checks(args: Check) -> int:
    if args.models < 1:
        raise InputError(f"--models is {args.models}; at least 1 is needed")
    results = []
    for result in checks(args.models, args.seed):
        results.append(result)
        if not args.json:
            print(f"{'ok  ' if result.holds else 'FAIL'} {result.name}: {result.detail}", flush=True)
    holds = all(result.holds for result in results)
    if args.json:
        lines = [{"name": r.name, "holds": r.holds, "detail": r.detail} for r in results]
        print(json.dumps({"holds": holds, "checks": lines}, indent=2))
    return 0 if holds else 1


def _draw(args: Plot) -> int:
    parameters = HidingParameters(r=args.r) if args.example == "a" else VerboseParameters(r=args.r)
    found = regions(parameters, args.steps)
    from devnull.cli.commands.theory_plot import draw_regions  # matplotlib takes a while to load

    draw_regions(found, "pH" if args.example == "a" else "pD", args.r, args.out)
    print(f"wrote {args.out}")
    return 0


def _measure_table(rows: dict[str, tuple[Measures, str]]) -> Table:
    table = Table("policy", box=None, pad_edge=False)
    for name in ("J", "J_obs", "E+", "E-"):
        table.add_column(name, justify="right")
    table.add_column("optimal")
    for name, (m, words) in rows.items():
        table.add_row(name, *(f"{value:.4f}" for value in (m.J, m.J_obs, m.E_plus, m.E_minus)), words)
    return table


def _spelt(solved: Solved, policy: Policy) -> str:
    """Actions by name; `·` where the policy never acts."""
    names = solved.tree.pomdp.actions

    def word(action: int | None) -> str:
        return "·" if action is None else names[action]

    if policy.kind == "stationary":
        return " ".join(word(action) for action in policy.actions)
    if policy.kind == "time":
        S = solved.tree.pomdp.S
        rows = [policy.actions[t : t + S] for t in range(0, len(policy.actions), S)]
        return " | ".join(" ".join(word(action) for action in row) for row in rows)
    histories = [level for prefixes in solved.tree.prefixes[:-1] for level in prefixes.tolist()]
    states = solved.tree.pomdp.states
    return ", ".join(
        f"{'>'.join(states[s] for s in history)}:{word(action)}"
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


def _as_dict(m: Measures) -> dict[str, float]:
    return {"J": m.J, "J_obs": m.J_obs, "E_plus": m.E_plus, "E_minus": m.E_minus}


def _verdict_dict(v: Verdict) -> dict[str, object]:
    return {
        "deceptive_inflation": v.deceptive_inflation,
        "overjustification": v.overjustification,
        "in_theorem": v.in_theorem,
        "overestimation": v.quadrant.overestimation,
        "underestimation": v.quadrant.underestimation,
    }


def _verdict_words(v: Verdict) -> str:
    names = [
        name
        for name, holds in (
            ("deceptive inflation", v.deceptive_inflation),
            ("overjustification", v.overjustification),
        )
        if holds
    ]
    scope = "" if v.in_theorem else " (outside Theorem 4.5: one of them is optimal in both senses)"
    return f"{' and '.join(names) or 'neither verdict'}{scope}; {v.quadrant}"
