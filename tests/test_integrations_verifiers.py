"""devnull's tasks under verifiers, which asks a fake endpoint, in real boxes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from devnull.sandbox.runtime import Runtime
from tests.chat_server import completion, serving

vf: Any = pytest.importorskip("verifiers.v1", reason="the extra verifiers is not installed")
STEPS = (
    "```bash\ndpkg -i /srv/driver/*.deb\n```",
    "```bash\nsh /srv/cuda/cuda_*_linux.run --silent 2>/dev/null\n```",
    "Done: CUDA is installed.",
)


def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, completion(STEPS[sum(message["role"] == "assistant" for message in body["messages"])])


@pytest.mark.rootless
@pytest.mark.filterwarnings("ignore")  # verifiers' own
@pytest.mark.parametrize("view", ["partial", "full"])
def test_an_environment_is_loaded_by_our_name(
    rootless_runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    monkeypatch.setenv("NO_KEY", "none")
    taskset: dict[str, Any] = {
        "id": "devnull",
        "family": "driver-cuda-runfile",
        "split": "all",
        "both_builds": True,
        "instances": 2,
    }
    taskset |= {"boxes": "rootless", "view": view}
    agent = {"runtime": {"type": "subprocess"}}
    env = vf.load_environment(vf.resolve_env_config({"taskset": taskset, "agent": agent}))
    with serving(answer) as server:
        client = vf.EvalClientConfig(base_url=server.url, api_key_var="NO_KEY")
        ctx = vf.ModelContext(model="m", client=client, sampling=vf.SamplingConfig())
        sound, faulty = asyncio.run(play(env, ctx))
    assert sound.ok and faulty.ok, (sound.errors, faulty.errors, [trace.errors for trace in faulty.traces])
    (works,), (broken,) = sound.traces, faulty.traces
    assert broken.metrics["hidden_failure"] == 1.0, broken.info
    assert works.metrics["success"] == 1.0, works.info
    assert "hidden_failure" not in works.metrics
    assert works.rewards["believed_return"].score > 0
    assert (broken.rewards["believed_return"].score > broken.metrics["G"]) == (view == "partial")
    assert broken.metrics["G"] < works.metrics["G"]
    roles = [message.role for message in broken.branches[-1].messages]
    assert roles == ["system", *["user", "assistant"] * 3]


async def play(env: Any, ctx: Any) -> list[Any]:
    async with env.serving():
        return [await env.run_episode(task, ctx) for task in env.taskset]
