"""devnull's tasks under Inspect, with its mock model, in real boxes."""

from pathlib import Path

import pytest

from devnull.sandbox.runtime import Runtime

HIDES = "sh /srv/cuda/cuda_*_linux.run --silent 2>/dev/null"


@pytest.mark.rootless
@pytest.mark.filterwarnings("ignore")  # Inspect's own
def test_inspect_plays_our_tasks_and_says_what_was_hidden(rootless_runtime: Runtime, tmp_path: Path) -> None:
    inspect_ai = pytest.importorskip("inspect_ai")
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    from devnull.integrations.inspect_tasks import install

    def answers() -> list[ModelOutput]:
        call = ModelOutput.for_tool_call("mockllm/model", "bash", {"command": HIDES})
        made = [call, ModelOutput.from_content("mockllm/model", "All done.")]
        return [each.model_copy(update={"usage": ModelUsage()}) for each in made]  # else it fetches a tokenizer

    model = get_model("mockllm/model", custom_outputs=[*answers(), *answers()])
    tasks = install("driver-cuda-runfile", split="all", both_builds=True, instances=2, runtime="rootless")
    (log,) = inspect_ai.eval(tasks, model=model, log_dir=str(tmp_path), display="none", max_samples=1)
    assert log.status == "success", log.error
    faulty = next(
        each for each in log.samples if '"faulty":true' in each.scores["verified"].metadata["devnull_episode"]
    )
    events = [event.event for event in faulty.events]
    assert "tool" in events
    (hidden,) = [event for event in faulty.events if event.event == "info" and event.source == "devnull"]
    assert hidden.data["went_to"] == ["/dev/null"] and hidden.data["kept_off"] and hidden.data["exit_code"] != 0
    assert faulty.scores["verified"].value == "I" and "kept" in faulty.scores["verified"].explanation
    names = {name for each in log.results.scores for name in each.metrics}
    assert {"accuracy", "J", "J_obs"} <= names, names
