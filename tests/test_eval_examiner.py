"""What happened alike is examined once, and nothing that is said of an episode differs for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnull.agents.episode import Episode, EpisodeError
from devnull.eval.scoring.examiner import Examiner, episode_content
from devnull.eval.scoring.score import score
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.views import TERMINAL_SENSORS, Sensors
from tests.fakes import DRIVER_CUDA, driver_cuda_episode

SPOT_CHECKS = EvaluatorConfig(name="spot checks", sensors=Sensors(name="spot checks", stderr=0.5))


def at_other_times(episode: Episode, seconds: float, pids: int) -> Episode:
    """The same episode, each moment later and each process id higher."""
    turns = []
    for turn in episode.transcript.turns:
        result = turn.result
        if result is not None:
            moved: dict[str, Any] = {
                "seconds": result.seconds + seconds,
                "timing": tuple((at + seconds, count) for at, count in result.timing),
                "stderr": tuple(
                    each.model_copy(update={"seconds": each.seconds + seconds, "pid": each.pid + pids})
                    for each in result.stderr
                ),
                "processes": tuple(each.model_copy(update={"pid": each.pid + pids}) for each in result.processes),
            }
            turn = turn.model_copy(update={"result": result.model_copy(update=moved)})
        turns.append(turn)
    return episode.model_copy(update={"transcript": episode.transcript.model_copy(update={"turns": tuple(turns)})})


def some_episodes() -> list[Episode]:
    """Each of six again and again under other names, at other times."""
    return [
        at_other_times(
            driver_cuda_episode(seed, arm, hide=hide, faulty=faulty, error="ERROR: CUDA 12.4 was not installed\n"),
            seed / 7,
            seed,
        )
        for seed in range(4)
        for arm, hide in (("sft", False), ("partial", True), ("full", False))
        for faulty in (True, False)
    ]


@pytest.mark.parametrize("config", [EvaluatorConfig(), SPOT_CHECKS], ids=lambda each: each.name)
def test_scores_are_those_of_each_episode_by_itself(config: EvaluatorConfig) -> None:
    examiner, episodes = Examiner(Evaluator(config)), some_episodes()
    found = [examiner.score(examiner.examine(each, DRIVER_CUDA), each) for each in episodes]
    assert found == [score(each, DRIVER_CUDA, Evaluator(config)) for each in episodes]


def test_what_happened_alike_is_examined_once_unless_something_is_drawn() -> None:
    episodes = some_episodes()
    alike = Examiner(Evaluator())
    assert len({alike.examine(each, DRIVER_CUDA).number for each in episodes}) == 4  # `sft` and `full` do the same
    drawn = Examiner(Evaluator(SPOT_CHECKS))
    assert len({drawn.examine(each, DRIVER_CUDA).number for each in episodes}) == 16  # `stream` is the seed


def test_a_box_that_died_keeps_the_names_of_its_episode_both_ways() -> None:
    died = {"outcome": None, "error": EpisodeError(kind="BoxDied", message="gone", undetermined=True)}
    episodes = [each.model_copy(update=died) for each in some_episodes()]
    examiner = Examiner(Evaluator())
    for each in episodes:
        found = examiner.score(examiner.examine(each, DRIVER_CUDA), each)
        assert found == score(each, DRIVER_CUDA, Evaluator())
        assert found.if_agents_doing is not None and found.if_agents_doing.seed == each.seed


@given(seconds=st.floats(0, 100), pids=st.integers(0, 10**6))
def test_times_and_ids_are_no_content(seconds: float, pids: int) -> None:
    episode = driver_cuda_episode(1, "a", hide=True, faulty=True, error="ERROR: CUDA\n")
    assert episode_content(at_other_times(episode, seconds, pids)) == episode_content(episode)


def test_what_is_written_run_or_found_is_content() -> None:
    episode = driver_cuda_episode(1, "a", hide=True, faulty=True, error="ERROR: CUDA 12.4 was not installed\n")
    *before, turn = [each for each in episode.transcript.turns if each.result is not None]
    result = turn.result
    assert result is not None and result.stderr and result.processes and episode.outcome is not None
    write, process = result.stderr[-1], result.processes[-1]
    others = [
        {"shown": result.shown + "x"},
        {"exit_code": 7},
        {"unrecorded_bytes": 1},
        {"stderr": (write.model_copy(update={"fate": "relayed"}),)},
        {"stderr": (write.model_copy(update={"pid": write.pid + 1}),)},  # another process wrote it
        {"processes": (process.model_copy(update={"exit_code": 9}),)},
    ]
    contents = {episode_content(episode)}
    for other in others:
        turns = (*before, turn.model_copy(update={"result": result.model_copy(update=other)}))
        transcript = episode.transcript.model_copy(update={"turns": turns, "report": episode.transcript.report})
        contents.add(episode_content(episode.model_copy(update={"transcript": transcript})))
    tampered = episode.outcome.model_copy(update={"tampered": ("clock",)})
    contents.add(episode_content(episode.model_copy(update={"outcome": tampered})))
    contents.add(episode_content(episode.model_copy(update={"faulty": not episode.faulty})))
    assert len(contents) == 1 + len(others) + 2


def test_an_evaluator_repeats_itself_unless_it_draws() -> None:
    assert Evaluator().repeats and TERMINAL_SENSORS.fixed
    assert not Evaluator(SPOT_CHECKS).repeats
    assert not Sensors(phone_book=1).fixed
    checked = EvaluatorConfig.model_validate({"detector": {"penalty": 1.0, "true_positive_rate": 0.5}})
    assert not Evaluator(checked).repeats
