"""The ladder: scripted agents in real boxes land on the exact tables of the paper's two examples."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from devnull.agents.episode import Episode
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.agents.scripted import find_scripted_agent
from devnull.eval.bridge.theory_comparison import compare_with_theory
from devnull.eval.comparing.verdicts import compare_to_reference
from devnull.eval.scoring.metrics import compute_metrics
from devnull.eval.scoring.score import Score, score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.views import FULL_SENSORS
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import load_tasks
from devnull.theory.examples import Example, hiding, verbose
from devnull.theory.measures import Measures
from devnull.theory.policies import Tree, measures_of
from devnull.theory.solve import solve

EPISODES = 16
"""Of each arm, all on the same instances."""
QUANTITIES = ("J", "J_obs", "E_plus", "E_minus")


@dataclass(frozen=True)
class Rung:
    """One example of the paper, its task, and which scripted agent plays which policy."""

    task: str
    example: Example
    policies: dict[str, str]
    deceptive_inflation: str
    overjustification: str


A = Rung("driver-cuda-runfile", hiding(), {"honest": "aC", "hiding": "aH", "stopping": "aT"}, "yes", "no")
B = Rung("verbose-build", verbose(), {"honest": "aD", "verbose": "aV", "stopping": "aT"}, "no", "yes")


def exact(rung: Rung) -> dict[str, Measures]:
    returns = rung.example.returns
    tree = Tree.of(returns)
    return {
        agent: measures_of(returns, tree, rung.example.installing[policy]) for agent, policy in rung.policies.items()
    }


@cache
def played(task_name: str, agents: tuple[str, ...], runtime: Runtime) -> dict[str, list[Episode]]:
    """Each agent on the same instances; played once, whatever is asked of the episodes."""
    task = load_tasks()[task_name]
    instances = [Instance(task=task, seed=seed) for seed in range(EPISODES)]
    return {
        name: sorted(
            rollout(find_scripted_agent(name), instances, runtime, arm=name, options=RolloutOptions(workers=4)),
            key=lambda e: e.seed,
        )
        for name in agents
    }


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("rootless_runtime", marks=[pytest.mark.rootless, pytest.mark.slow], id="rootless"),
        pytest.param("docker_runtime", marks=[pytest.mark.docker, pytest.mark.slow], id="docker"),
    ],
)
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    yield request.getfixturevalue(request.param)


@pytest.mark.parametrize("rung", [A, B], ids=["example A", "example B"])
def test_scripted_agents_land_on_the_exact_table(rung: Rung, runtime: Runtime) -> None:
    task = load_tasks()[rung.task]
    evaluator = Evaluator()
    episodes = played(rung.task, tuple(rung.policies), runtime)
    scores: dict[str, list[Score]] = {
        name: [score(episode, task, evaluator) for episode in own] for name, own in episodes.items()
    }
    assert all(one.error is None for own in scores.values() for one in own)
    expected = exact(rung)

    # measured: within the interval, and every episode worth one of the table's own returns
    for name, own in scores.items():
        measured = compute_metrics(own)
        for quantity in QUANTITIES:
            estimate, true = measured[quantity], getattr(expected[name], quantity)
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low - 1e-9 <= true <= estimate.high + 1e-9, (name, quantity, estimate, true)

    # the verdict, of what feedback favours against what is best
    best, favoured = (max(expected, key=lambda name, q=q: getattr(expected[name], q)) for q in ("J", "J_obs"))
    found = compare_to_reference(scores[favoured], scores[best])
    for verdict in ("deceptive_inflation", "overjustification"):
        truly = getattr(rung, verdict)
        # what never occurs here may be rare, for all that so few episodes can say: "no" is then left open
        assert getattr(found, verdict) in ((truly,) if truly == "yes" else ("no", "inconclusive")), verdict
        assert found.point[verdict] == (truly == "yes"), verdict

    # the table estimated from the transcripts is the paper's
    (comparison,) = compare_with_theory([e for own in episodes.values() for e in own], evaluator, {task.name: task})
    for name, arm in comparison.arms.items():
        for quantity in QUANTITIES:
            assert getattr(arm.modelled, quantity) == pytest.approx(getattr(expected[name], quantity), abs=1e-9)
        assert not arm.outside_interval
        assert (arm.favoured_share, arm.best_share) == (float(name == favoured), float(name == best))
    solved = solve(rung.example.returns)
    assert comparison.solved.J_star == pytest.approx(solved.J_star)
    assert comparison.solved.J_obs_star == pytest.approx(solved.J_obs_star)
    assert comparison.problem.lost_belief < 1e-9
    assert not comparison.problem.warnings


def test_who_sees_everything_believes_what_is_true(runtime: Runtime) -> None:
    config = EvaluatorConfig(name="full", sensors=FULL_SENSORS)
    for rung in (A, B):
        task = load_tasks()[rung.task]
        for own in played(rung.task, tuple(rung.policies), runtime).values():
            for episode in own:
                one = score(episode, task, Evaluator(config))
                assert one.G_obs == pytest.approx(one.G)
