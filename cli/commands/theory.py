"""The exact theory: the paper's two examples, any small problem, its results re-verified, its regions drawn."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from devnull.cli.commands.theory_solution import print_example, print_solution
from devnull.sandbox.atomic_file import replace_when_whole
from devnull.sandbox.errors import InputError
from devnull.sandbox.extras import require
from devnull.theory.check import run_checks
from devnull.theory.errors import TheoryInputError
from devnull.theory.examples import HidingParameters, VerboseParameters, hiding, verbose
from devnull.theory.model_file import write_model
from devnull.theory.policies import PolicyClass
from devnull.theory.regions import regions


@dataclass(frozen=True)
class ExampleAArgs:
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
class ExampleBArgs:
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
class SolveTheoryArgs:
    """Optimal sets, verdicts and ambiguity of a problem in an .npz file (format: docs/theory.md)."""

    file: tyro.conf.Positional[Path]
    """T, P0, R, PO, gamma, horizon, seqs, oseqs and B, written with numpy.savez."""
    policies: PolicyClass = "stationary"
    """What a policy may look at: the state; state and time; all states so far."""
    json: bool = False
    """Print JSON only."""


@dataclass(frozen=True)
class CheckTheoryArgs:
    """Re-verify the paper's results, a line each; exit status 1 if one fails."""

    models: int = 200
    """Random models for the identity and the theorem."""
    seed: int = 0
    """Of the random models."""
    json: bool = False
    """Print JSON only."""


@dataclass(frozen=True)
class PlotRegionsArgs:
    """Draw which policy is best, which one feedback picks, and what that is, over an example's two probabilities."""

    out: Path
    """Image to write; its ending (.png, .svg, .pdf) decides the format."""
    example: Literal["a", "b"] = "a"
    """a: p against pH; b: p against pD."""
    r: float = 1.0
    """Penalty of a hidden failure (a), cost of verbose output (b)."""
    steps: int = 199
    """Cells along each axis (by default no centre lies on a threshold, where two policies tie)."""


@dataclass(frozen=True)
class BridgeRunsArgs:
    """Estimate the table of a problem from the episodes of runs, solve it, and compare what the arms did with that."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders; the more ways of dealing with a stage their arms show, the more complete the table is."""
    evaluator: Path | None = None
    """The evaluator: a TOML file, or the name of one in the package (`shuffled`); without one, it sees the terminal
    and is as paranoid as the runs say."""
    arms: tuple[str, ...] = ()
    """Only these arms; none: all."""
    out: Path | None = None
    """Also write the problem to this .npz file, for `theory solve`."""
    json: bool = False
    """Print JSON only."""


# A further subcommand is a dataclass of its own, one more line here, and one more in `main`.
Args = (
    Annotated[ExampleAArgs, tyro.conf.subcommand("example-a")]
    | Annotated[ExampleBArgs, tyro.conf.subcommand("example-b")]
    | Annotated[SolveTheoryArgs, tyro.conf.subcommand("solve")]
    | Annotated[CheckTheoryArgs, tyro.conf.subcommand("check")]
    | Annotated[PlotRegionsArgs, tyro.conf.subcommand("plot")]
    | Annotated[BridgeRunsArgs, tyro.conf.subcommand("bridge")]
)


def main(
    args: ExampleAArgs | ExampleBArgs | SolveTheoryArgs | CheckTheoryArgs | PlotRegionsArgs | BridgeRunsArgs,
) -> int:
    try:
        match args:
            case ExampleAArgs():
                a = HidingParameters(args.p, args.p_hide, args.p_hide_without, args.p_works, args.r)
                example = hiding(a)
            case ExampleBArgs():
                example = verbose(VerboseParameters(args.p, args.p_default, args.r))
            case SolveTheoryArgs():
                print_solution(args.file, args.policies, args.json)
                return 0
            case CheckTheoryArgs():
                return _check_results(args)
            case PlotRegionsArgs():
                return _plot_regions(args)
            case BridgeRunsArgs():
                # it alone imports the rooms of agents and rewards
                from devnull.cli.commands.theory_bridge import bridge_runs

                return bridge_runs(args.runs, args.evaluator, args.arms, args.out, args.json)
        if args.out is not None:
            with replace_when_whole(args.out) as part:
                write_model(part, example.returns)
        print_example(example, args.json)
        return 0
    except TheoryInputError as error:
        raise InputError(str(error)) from None


def _check_results(args: CheckTheoryArgs) -> int:
    if args.models < 1:
        raise InputError(f"--models is {args.models}; at least 1 is needed")
    results = []
    for result in run_checks(args.models, args.seed):
        results.append(result)
        if not args.json:
            print(f"{'ok  ' if result.holds else 'FAIL'} {result.name}: {result.detail}", flush=True)
    holds = all(result.holds for result in results)
    if args.json:
        lines = [{"name": r.name, "holds": r.holds, "detail": r.detail} for r in results]
        print(json.dumps({"holds": holds, "checks": lines}, indent=2))
    return 0 if holds else 1


def _plot_regions(args: PlotRegionsArgs) -> int:
    parameters = HidingParameters(r=args.r) if args.example == "a" else VerboseParameters(r=args.r)
    require("matplotlib", "plot", "theory plot")
    from devnull.cli.commands.theory_plot import draw_regions  # matplotlib takes a while to load

    draw_regions(regions(parameters, args.steps), "pH" if args.example == "a" else "pD", args.r, args.out)
    print(f"wrote {args.out}")
    return 0
