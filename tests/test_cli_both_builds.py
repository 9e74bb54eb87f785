"""A run in which each instance is played under both builds: kept, resumed, read, compared and reported."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from devnull.agents.agent import Reply, Request
from devnull.agents.episode import Episode, EpisodeError
from devnull.agents.recorded import RecordedAgent
from devnull.agents.rollout import rollout
from devnull.agents.scripted import HONEST, make_mixture
from devnull.cli.main import main
from devnull.cli.runs.policy_episodes import sample_held_out
from devnull.cli.runs.rollouts import draw_instances, missing_instances
from devnull.cli.runs.run_folder import RunFolder, open_run, read_episodes, sort_episodes
from devnull.eval.comparing.evaluation import undetermined_scores
from devnull.eval.comparing.pairing import instances_met
from devnull.eval.scoring.score import score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.feedback.comparisons import Preference, make_preferences
from devnull.rewards.feedback.ratings import make_ratings
from devnull.sandbox.task import Instance
from tests.fakes import APP, DRIVER_CUDA, PretendRuntime, make_score

TASKS = {task.name: task for task in (APP, DRIVER_CUDA)}
MIXTURE = make_mixture({"honest": 0.5, "hiding": 0.5})


def play(instances: Sequence[Instance], agent: object = MIXTURE, arm: str = "a") -> list[Episode]:
    return sort_episodes(rollout(agent, instances, PretendRuntime(instances[0].task), arm=arm))  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path / "run", "rollout", {}, 0)


class Babbler:
    """A model in a line: what it says is drawn from the request's seed."""

    name = "babbler"

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        return [Reply(f"```bash\necho {random.Random(each.seed).random()}\n```") for each in requests]


def test_the_agent_does_the_same_in_both_until_it_sees_a_difference() -> None:
    for agent in (MIXTURE, Babbler()):
        drawn = draw_instances([DRIVER_CUDA], 16, 0, both_builds=True)
        found = {(e.seed, e.faulty): e for e in play(drawn, agent)}
        assert len(found) == 16
        for seed in range(8):
            sound, broken = (found[seed, faulty].transcript for faulty in (False, True))
            assert sound.instruction == broken.instruction
            assert [turn.text for turn in sound.turns[:2]] == [turn.text for turn in broken.turns[:2]]


def test_a_run_of_drawn_builds_goes_on_under_both(run: RunFolder) -> None:
    alone, both = draw_instances([APP], 6, 0), draw_instances([APP], 12, 0, both_builds=True)
    for episode in play(alone):
        run.append(episode)
    owed = missing_instances(run, "a", both)
    assert len(owed) == 6 and all(each.forced_build for each in owed)
    for episode in play(owed):
        run.append(episode)
    assert missing_instances(run, "a", both) == missing_instances(run, "a", alone) == []
    assert len(run.episodes("a")) == 12
    assert {(e.seed, e.faulty) for e in run.episodes()} == {(seed, faulty) for seed in range(6) for faulty in (0, 1)}
    assert [e.key[1:] for e in run.episodes() if e.forced_build is None] == [each.key for each in alone]


def test_what_was_played_twice_counts_once_and_a_failed_build_is_owed_alone(run: RunFolder) -> None:
    both = draw_instances([APP], 4, 0, both_builds=True)
    played = play(both)
    broken = played[-1].model_copy(update={"outcome": None, "error": EpisodeError(kind="BoxDied", message="gone")})
    for episode in (*played[:-1], played[0], broken):
        run.append(episode)
    kept = run.episodes("a")
    assert len(kept) == 4 and sum(e.error is None for e in kept) == 3
    assert [each.key for each in missing_instances(run, "a", both)] == [broken.key[1:]]


def test_episodes_have_one_order_and_survive_the_file(run: RunFolder) -> None:
    played = play(draw_instances([APP], 8, 0, both_builds=True))
    for episode in reversed(played):
        run.append(episode)
    assert run.episodes() == played
    assert [e.key for e in played] == sorted(e.key for e in played)
    old = json.loads(played[0].model_dump_json()) | {"sample": 0}
    old.pop("forced_build")
    assert Episode.model_validate(old).key == ("a", "app", old["seed"], 0)


def test_a_replay_sends_each_build_its_own_messages() -> None:
    both = draw_instances([APP], 8, 0, both_builds=True)
    first = play(both, HONEST)
    agent = RecordedAgent(first)
    assert all(map(agent.holds, both))
    again = play(both, agent)
    assert [e.transcript.report for e in again] == [e.transcript.report for e in first]
    assert {e.transcript.report for e in again} == {"the app installed.", "the app FAILED."}
    half = RecordedAgent(e for e in first if e.forced_build is None)
    assert [half.holds(each) for each in both] == [each.forced_build is None for each in both]


def test_two_builds_are_no_two_samples_of_one_instance() -> None:
    """What a label compares met the same fault: an evaluator would else reward the luck of the draw."""
    drawn = draw_instances([DRIVER_CUDA], 24, 0, group=3, both_builds=True)
    episodes = play(drawn, make_mixture({"honest": 0.4, "hiding": 0.3, "stopping": 0.3}))
    pairs = list(make_preferences(episodes, Evaluator(), TASKS, 0, 99))
    met = {e.key: (e.seed, e.faulty) for e in episodes}
    assert pairs and all(met[p.chosen_key] == met[p.rejected_key] for p in pairs)
    assert {met[p.chosen_key][1] for p in pairs} == {True, False}
    again = [Preference.model_validate_json(p.model_dump_json()) for p in pairs]
    assert again == pairs
    ratings = list(make_ratings(episodes, Evaluator(EvaluatorConfig(feedback="rating")), TASKS, 0))
    assert [r.key for r in ratings] == [e.key for e in episodes]


def test_scores_tell_the_builds_apart() -> None:
    scores = [score(e, DRIVER_CUDA, Evaluator()) for e in play(draw_instances([DRIVER_CUDA], 6, 0, both_builds=True))]
    assert len(instances_met(scores, {DRIVER_CUDA.name})) == 6
    died = make_score(faulty=True, error="BoxDied", if_agents_doing=make_score(faulty=True))
    assert undetermined_scores([died, make_score(faulty=True)]) == []
    assert len(undetermined_scores([died, make_score(faulty=False)])) == 1


def test_what_is_sampled_is_measured_by_what_was_asked_for(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled under both builds and then as drawn: nothing is played twice, and the other builds are not counted."""
    monkeypatch.setattr("devnull.cli.runs.policy_episodes.EVALUATION_SEEDS", 0)
    task = DRIVER_CUDA.model_copy(update={"split": "test"})
    tasks, runtime = {task.name: task}, PretendRuntime(task)
    policy = tmp_path / "policy"
    policy.mkdir()
    card = {"settings": {}, "metrics": {}, "facts": {}, "base": "b", "kind": "sft", "adaptation": "full"}
    (policy / "training.json").write_text(json.dumps(card | {"steps": 1, "seconds": 1.0, "path": "p"}))
    learnt_from = play(draw_instances([task], 1, 0))

    def sample(count: int, *, both_builds: bool) -> tuple[int, float | None, int]:
        found = sample_held_out(
            HONEST,
            policy,
            run.path,
            learnt_from,
            tasks,
            Evaluator(),
            runtime,
            count=count,
            both_builds=both_builds,
            workers=2,
        )["sampled"]
        return found["J"].n, found["J"].value, runtime.started

    n, J, started = sample(7, both_builds=True)
    assert (n, started) == (8, 8)
    drawn = [Instance(task=task, seed=seed) for seed in range(6)]
    assert sample(6, both_builds=False)[::2] == (6, 8 + 2)
    worth = {each.faulty: score(each, task, Evaluator()).G or 0.0 for each in play(drawn[0].builds, HONEST)}
    assert J == pytest.approx((worth[False] + worth[True]) / 2)
    assert sample(6, both_builds=False)[1] == pytest.approx(sum(worth[each.faulty] for each in drawn) / 6)
    assert sample(8, both_builds=True) == (8, J, 10)


@pytest.mark.rootless
@pytest.mark.usefixtures("rootless_runtime")
def test_the_command_plays_both_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = ["rollout", "--agent", "hiding", "--tasks", "driver-cuda-runfile*", "--split", "test", "--runtime"]
    command += ["rootless", "--episodes", "7", "--out", str(out)]
    assert main([*command, "--builds", "both"]) == 0
    played = list(read_episodes(out))
    assert len(played) == 8  # a pair is never cut
    assert len({(e.task, e.seed) for e in played}) == 4 and sum(e.faulty for e in played) == 4
    assert all(e.outcome and (e.outcome.stages["cuda"].state == "broken") == e.faulty for e in played)
    lines = (out / "episodes.jsonl").read_text().splitlines()
    (out / "episodes.jsonl").write_text("\n".join(lines[:5]) + "\n" + lines[5][:80])
    assert main([*command, "--builds", "both"]) == 0
    assert len(list(read_episodes(out))) == 8
    assert {e.key for e in read_episodes(out)} == {e.key for e in played}
    capsys.readouterr()
    assert main(command) == 2
    assert "builds='both' there, 'drawn' here" in capsys.readouterr().err
    assert main(["report", str(out)]) == 0
