"""An episode whose commands come as calls of a tool: what other frameworks' models type goes on, whatever it holds."""

import pytest

from devnull.integrations.tool_episode import ToolEpisode
from devnull.sandbox.errors import BoxDied
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance
from devnull.sandbox.tasks import load_tasks
from tests.fakes import PretendRuntime, instances, result


@pytest.mark.rootless
def test_what_no_shell_takes_is_typed_escaped(rootless_runtime: Runtime) -> None:
    episode = ToolEpisode(Instance(task=load_tasks()["driver-cuda-runfile"], seed=0))
    episode.open(rootless_runtime)
    assert episode.bash("echo 'a\0b'").strip() == "a\\0b"
    assert episode.bash("echo 'c\ud800d'").strip() == "c\\ud800d"
    made = episode.conclude("Done.\ud800", arm="grpo", agent="policy")
    assert made.error is None and made.outcome is not None
    assert [turn.result.command for turn in made.transcript.turns if turn.result] == [
        "echo 'a\\0b'",
        "echo 'c\\ud800d'",
    ]
    assert type(made).model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize("by_agent", ["its own processes ended it", None])
def test_a_command_after_the_agent_ended_its_box(by_agent: str | None) -> None:
    """The one that ended it is kept as far as it came; a further one reaches no box, and is no error of its own."""
    world, typed = PretendRuntime(), []

    def kill(box: object, command: str) -> None:
        typed.append(command)
        if "kill" in command:
            death = BoxDied("the box is gone")
            death.by_agent, death.unfinished = by_agent, result(command, "half\n", exit_code=None)
            raise death

    world.on_run = kill
    episode = ToolEpisode(instances(1)[0])
    episode.open(world)
    assert "half" in episode.bash("echo half; kill -9 1")
    assert episode.bash("echo more") == "The terminal is gone."
    assert "echo more" not in typed and episode.failure is None
    made = episode.conclude(None, arm="grpo", agent="policy")
    assert [each.command for each in made.transcript.results] == ["echo half; kill -9 1"]
    assert (made.error is None) == (by_agent is not None) and not world.open
