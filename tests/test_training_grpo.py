"""Online training on a runtime without boxes: groups of one instance, the loss on the agent's tokens, resuming."""

import json
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOTrainer

from devnull.agents.chat_format import build_messages
from devnull.agents.episode import Episode
from devnull.agents.local import LocalModel
from devnull.cli.main import main
from devnull.cli.runs.policy_episodes import batch_metrics, episode_recorder
from devnull.cli.runs.run_folder import open_run
from devnull.eval.scoring.metrics import headlines
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.views import FULL_SENSORS
from devnull.sandbox.errors import BoxDied, InfrastructureError, InputError
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Transcript
from devnull.training import grpo_rollout
from devnull.training.data import tokenize_prompt
from devnull.training.grpo import grpo_config, train_grpo
from devnull.training.grpo_rollout import RolloutFunction
from devnull.training.kl import episode_log_probs, split_log_probs
from devnull.training.kl_limit import KEPT_FILE, KLLimit
from devnull.training.models import LoadedPolicy, load_policy
from devnull.training.reward_functions import believed_return_reward, true_return_reward
from devnull.training.settings import GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.token_agent import TokenHistory
from devnull.training.train_result import TrainResult, last_checkpoint
from tests.fakes import PretendRuntime, instances, pretend_verify
from tests.training_cases import (
    TASK,
    episodes,
    message_texts,
    record_loss_inputs,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
TASKS = {TASK.name: TASK}
SMALL = {"max_steps": 2, "batch_size": 4, "group": 2, "max_new_tokens": 24, "workers": 4, "max_turns": 2, "kl_every": 1}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpo")
    base = make_tiny_model(folder / "base", message_texts(episodes()))
    return train_sft(SFTSettings(max_steps=12), episodes(24), base, folder / "sft").path


@pytest.fixture(scope="module")
def policy(tiny: Path) -> LoadedPolicy:
    return load_policy(tiny)


@pytest.fixture(autouse=True)
def pretend_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    return record_loss_inputs(monkeypatch, GRPOTrainer)


def online(tiny: Path, out: Path, reward: Any = None, count: int = 2, on_episode: Any = None, **changed: Any) -> Any:
    settings = GRPOSettings(**SMALL | {"max_steps": 1, "kl_every": 0} | changed)  # type: ignore[arg-type]
    boxes: Any = PretendRuntime(TASK)
    return train_grpo(
        settings, instances(count, TASK), reward or true_return_reward(TASKS), boxes, tiny, out, on_episode=on_episode
    )


def test_the_loss_covers_what_the_agent_drew_and_nothing_else(
    tiny: Path, policy: LoadedPolicy, tmp_path: Path, batches: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "```bash\nls\n```<|im_end|>"
    ids = policy.tokenizer(message, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(LocalModel, "open_decoder", lambda _: None)
    monkeypatch.setattr(LocalModel, "generate", lambda self, prompts, seeds: [ids for _ in prompts])
    online(tiny, tmp_path / "out")
    masks = (batches[0]["completion_mask"] * batches[0].get("tool_mask", 1)).bool()
    rows = zip(batches[0]["completion_ids"], masks, strict=True)
    assert [policy.tokenizer.decode(row[mask]) for row, mask in rows] == [message * 2] * 4


def test_an_episode_that_never_ended_teaches_nothing(
    tiny: Path, tmp_path: Path, batches: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it count in the mean that the others of its group are compared with."""

    def second_breaks(session: Any, instance: Instance, transcript: Transcript) -> Any:
        if instance.sample == 1:
            raise BoxDied("gone")
        return pretend_verify(session, instance, transcript)

    def reward(played: Sequence[Episode]) -> list[float]:
        return [{0: 5.0, 2: 6.0, 3: 7.0}[each.sample] for each in played]

    monkeypatch.setattr("devnull.agents.live_episode.verify", second_breaks)
    online(tiny, tmp_path / "out", reward, 1, group=4, invalid_cost=0.0)
    learnt = (batches[0]["completion_mask"] * batches[0]["tool_mask"]).any(1)
    advantages = batches[0]["advantages"]
    assert learnt.sum() == 3 and advantages[~learnt].tolist() == [0.0]
    assert sorted(advantages.sign().tolist()) == [-1.0, 0.0, 0.0, 1.0]


def test_a_batch_without_a_reward_stops_the_run(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="none of 4 episodes"):
        online(tiny, tmp_path / "out", lambda found: [None] * len(found))


def test_each_row_of_a_group_is_a_sample_of_its_own_of_one_instance(tiny: Path, tmp_path: Path) -> None:
    seen: list[Episode] = []
    online(tiny, tmp_path / "out", count=4, on_episode=seen.append, max_steps=2)
    assert sorted(each.sample for each in seen) == list(range(8))
    assert len({(each.sample // 2, each.seed) for each in seen}) == 4


def test_builds_are_dealt_out_to_each_batch(tiny: Path, tmp_path: Path) -> None:
    """Half of the groups of every batch fail, each group as one; without it, how many do is the luck of the draw."""
    size = {"batch_size": 8, "max_steps": 4, "count": 16}
    drawn: list[Episode] = []
    dealt: list[Episode] = []
    online(tiny, tmp_path / "drawn", on_episode=drawn.append, **size)
    online(tiny, tmp_path / "dealt", on_episode=dealt.append, stratify_builds=True, **size)
    assert [sum(each.faulty for each in dealt if each.sample // 8 == batch) for batch in range(4)] == [4] * 4
    assert [sum(each.faulty for each in drawn if each.sample // 8 == batch) for batch in range(4)] != [4] * 4
    assert len({(each.sample // 2, each.seed, each.faulty) for each in dealt}) == 16
    assert {(each.seed, each.sample) for each in dealt} == {(each.seed, each.sample) for each in drawn}
    assert len({each.key for each in dealt}) == len(dealt) == 32
    again: list[Episode] = []
    online(tiny, tmp_path / "again", on_episode=again.append, stratify_builds=True, **size)
    assert {each.key for each in again} == {each.key for each in dealt}


@pytest.mark.parametrize(("baseline", "scale", "loss"), [("group", "batch", "dapo"), ("rloo", "none", "dr_grpo")])
def test_what_a_baseline_is_to_trl(baseline: Any, scale: str, loss: str, policy: LoadedPolicy, tmp_path: Path) -> None:
    made = grpo_config(GRPOSettings(baseline=baseline), policy, tmp_path / "out", 2048)
    assert (made.scale_rewards, made.loss_type) == (scale, loss)


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_from_an_adapter_the_reference_is_what_was_merged(tiny: Path, tmp_path: Path, adaptation: str) -> None:
    """TRL would read the adapter's base again, and the first step would be far from it."""
    start = train_sft(SFTSettings(max_steps=4, adaptation="lora"), episodes(8), tiny, tmp_path / "sft").path / "adapter"
    result = online(start, tmp_path / "out", adaptation=adaptation, beta=0.1)
    assert result.metrics["kl"] == pytest.approx(0.0, abs=1e-5)


def test_training_online(tiny: Path, tmp_path: Path) -> None:
    seen: list[Episode] = []
    evaluator = Evaluator()
    open_run(tmp_path / "run", "rollout", {"p_hide": 0.2, "hiding_penalty": 4.0}, 0)
    result = train_grpo(
        GRPOSettings(**SMALL),  # type: ignore[arg-type]
        instances(8, TASK),
        believed_return_reward(evaluator, TASKS),
        PretendRuntime(TASK),  # type: ignore[arg-type]
        tiny,
        tmp_path / "grpo",
        on_episode=seen.append,
        measure=batch_metrics(tmp_path / "run"),
    )
    assert len(seen) == 8
    groups = [each.seed for each in seen]
    assert sorted(groups.count(seed) for seed in set(groups)) == [2, 2, 2, 2]
    assert {
        "kl_episode",
        "valid_action_share",
        "attempt_rate",
        "time/generation",
        "time/boxes",
        "pay",
    } <= result.metrics.keys()
    first = next(entry["kl_episode"] for entry in result.log if "kl_episode" in entry)
    assert abs(first) < 1e-4
    assert json.loads((result.path / "training.json").read_text())["facts"]["runtime"] == "pretend"


def test_what_is_logged_of_a_batch_is_what_eval_says_of_it(tiny: Path, tmp_path: Path) -> None:
    """One name, one definition. The evaluator is the run's own, and not the one that gives the reward."""
    run, out = tmp_path / "run", tmp_path / "grpo"
    open_run(run, "rollout", {"p_hide": 0.2, "hiding_penalty": 3.0}, 0)
    result = train_grpo(
        GRPOSettings(**SMALL | {"max_steps": 1, "batch_size": 8, "max_turns": 3, "max_new_tokens": 96}),  # type: ignore[arg-type]
        instances(4, TASK),
        believed_return_reward(Evaluator(EvaluatorConfig(sensors=FULL_SENSORS)), TASKS),
        PretendRuntime(TASK),  # type: ignore[arg-type]
        tiny,
        out,
        on_episode=episode_recorder(out, run, 0),
        measure=batch_metrics(run),
    )
    assert main(["eval", str(out / "episodes")]) == 0
    table = json.loads((out / "episodes" / "metrics.json").read_text())["arms"]["grpo"]
    defined = {name for name in (metric.name for metric in headlines("card")) if table[name]["value"] is not None}
    assert {"attempt_rate", "valid_action_share", "J", "J_obs"} <= defined
    assert {name: result.log[0].get(name) for name in defined} == pytest.approx(
        {name: table[name]["value"] for name in defined}
    )
    assert not ({metric.name for metric in headlines("card")} - defined) & result.log[0].keys()


def test_adapters_are_merged_while_it_plays_and_learn_apart(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, merged = LocalModel._forward, []

    def spied(self: LocalModel, *rest: Any) -> Any:
        merged.append(any(getattr(layer, "merged", False) for layer in self.model.modules()))
        return forward(self, *rest)

    monkeypatch.setattr(LocalModel, "_forward", spied)
    words: list[set[str]] = []
    for name, weights in (("merged", grpo_rollout.decoding_weights), ("apart", lambda _: nullcontext())):
        monkeypatch.setattr(grpo_rollout, "decoding_weights", weights)
        seen: list[Episode] = []
        online(tiny, tmp_path / name, on_episode=seen.append, adaptation="lora", max_steps=2, learning_rate=1e-3)
        words.append({turn.text for each in seen for turn in each.transcript.turns})
    assert any(merged) and not all(merged) and words[0] == words[1]
    files = [tmp_path / name / "adapter" / "adapter_model.safetensors" for name in ("merged", "apart")]
    ours, theirs = map(load_file, files)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


def test_a_batch_of_episodes_serves_several_steps(tiny: Path, tmp_path: Path) -> None:
    seen: list[Episode] = []
    settings = GRPOSettings(**SMALL | {"max_steps": 4, "iterations": 2, "kl_every": 0})  # type: ignore[arg-type]
    result = train_grpo(
        settings,
        instances(4, TASK),
        true_return_reward(TASKS),
        PretendRuntime(TASK),  # type: ignore[arg-type]
        tiny,
        tmp_path / "twice",
        on_episode=seen.append,
    )
    assert result.steps == 4 and len(seen) == 2 * settings.batch_size


def message_length(found: Sequence[Episode]) -> list[float]:
    return [float(len(each.transcript.turns[0].text)) for each in found]


def test_accumulated_gradients_are_of_one_batch_of_episodes(tiny: Path, tmp_path: Path) -> None:
    """Half as many go through the model at once, in half the memory; as many are played together: the same weights."""

    def train(name: str, **changed: int) -> tuple[list[int], Path]:
        sizes: list[int] = []

        def reward(played: Sequence[Episode]) -> list[float]:
            sizes.append(len(played))
            return message_length(played)

        settings = GRPOSettings(**SMALL | {"max_steps": 1, "kl_every": 0} | changed)  # type: ignore[arg-type]
        boxes: Any = PretendRuntime(TASK)
        return sizes, train_grpo(settings, instances(8, TASK), reward, boxes, tiny, tmp_path / name).path

    (at_once, whole), (together, halves) = train("whole"), train("halves", batch_size=2, gradient_accumulation=2)
    assert at_once == together == [4]
    first, second = (load_file(path / "model.safetensors") for path in (whole, halves))
    before = load_file(tiny / "model.safetensors")
    assert all(torch.allclose(first[name], second[name], atol=2e-5) for name in first)
    assert not all(torch.allclose(first[name], before[name], atol=2e-5) for name in first)


class Hesitant(PretendRuntime):
    """Boxes that come when they please."""

    def on_start(self) -> None:
        time.sleep(random.SystemRandom().uniform(0, 0.05))


def test_what_is_learnt_does_not_depend_on_which_box_answers_first(tiny: Path, tmp_path: Path) -> None:
    """Nor on whether the run was broken off: the second one stops in its second batch and goes on."""

    class Enough(Exception):
        pass

    def stop(step: int, *_: object) -> None:
        if step == 3:
            raise Enough

    def train(name: str, **more: Any) -> Path:
        settings = GRPOSettings(**SMALL | {"max_steps": 4, "iterations": 2, "checkpoint_steps": 2, "kl_every": 0})  # type: ignore[arg-type]
        boxes: Any = Hesitant(TASK)
        return train_grpo(settings, instances(8, TASK), message_length, boxes, tiny, tmp_path / name, **more).path

    once = load_file(train("once") / "model.safetensors")
    with pytest.raises(Enough):
        train("again", on_step=stop)
    again = load_file(train("again") / "model.safetensors")
    before = load_file(tiny / "model.safetensors")
    assert all(torch.allclose(once[name], again[name], atol=1e-6) for name in once)
    assert not all(torch.allclose(once[name], before[name], atol=1e-6) for name in once)


def test_rloo_and_a_divergence_in_the_loss(tiny: Path, tmp_path: Path) -> None:
    settings = GRPOSettings(**SMALL | {"baseline": "rloo", "beta": 0.1, "max_steps": 1, "adaptation": "lora"})  # type: ignore[arg-type]
    result = train_grpo(
        settings, instances(4, TASK), true_return_reward(TASKS), PretendRuntime(TASK), tiny, tmp_path / "rloo"
    )  # type: ignore[arg-type]
    assert result.steps == 1
    assert (result.path / "adapter").is_dir()


class Dying(PretendRuntime):
    """Every third box does not start."""

    asked = 0

    def on_start(self) -> None:
        self.asked += 1
        if self.asked % 3 == 0:
            raise BoxDied("gone")


class Dead(PretendRuntime):
    def on_start(self) -> None:
        raise BoxDied("gone")


def test_boxes_that_die_are_played_anew_and_counted(tiny: Path, tmp_path: Path) -> None:
    result = train_grpo(
        GRPOSettings(**SMALL | {"max_steps": 1}),  # type: ignore[arg-type]
        instances(4, TASK),
        true_return_reward(TASKS),
        Dying(TASK),  # type: ignore[arg-type]
        tiny,
        tmp_path / "dying",
    )
    assert result.metrics["infrastructure_failures"] >= 1


def test_a_dead_runtime_stops_the_run(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="gone"):
        train_grpo(
            GRPOSettings(**SMALL), instances(4, TASK), true_return_reward(TASKS), Dead(TASK), tiny, tmp_path / "dead"
        )  # type: ignore[arg-type]


def test_divergence_counts_the_agents_tokens_only(policy: LoadedPolicy) -> None:
    ids = policy.tokenizer("one two three four", add_special_tokens=False)["input_ids"]
    half = len(ids) // 2
    history = TokenHistory(ids[:2], ids[2:], [0] * (half - 2) + [1] * (len(ids) - half))
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([ids])).logits[0]
        ours = episode_log_probs(policy.model, policy, [history])[0]
    expected = sum(torch.log_softmax(logits[i - 1], -1)[ids[i]] for i in range(half, len(ids)))
    assert float(ours) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"group": 1}, "at least 2"),
        ({"batch_size": 9, "group": 8}, "not a multiple"),
        ({"iterations": 2, "checkpoint_steps": 5}, "middle of a batch"),
        ({"vllm": True}, "needs a GPU"),
        ({"vllm": True, "adaptation": "qlora"}, "no adapters on a base in 4 bits"),
        ({"vllm_gpu_memory_utilization": 1.5}, "above 0 and below 1"),
    ],
)
def test_settings_that_cannot_be(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    if changed == {"vllm": True} and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    runtime: Any = PretendRuntime(TASK)
    with pytest.raises(InputError, match=message):
        train_grpo(
            GRPOSettings(**changed), instances(1, TASK), true_return_reward(TASKS), runtime, tmp_path, tmp_path / "out"
        )
    none: Sequence[Instance] = []
    with pytest.raises(InputError, match="no instance"):
        train_grpo(GRPOSettings(), none, true_return_reward(TASKS), runtime, tmp_path, tmp_path / "out")


def test_an_episode_ends_at_the_length_that_was_set(tiny: Path, tmp_path: Path) -> None:
    """A message and then no room for another."""
    new = SMALL["max_new_tokens"]
    tokenizer = load_policy(tiny).tokenizer
    prompts = [len(tokenize_prompt(tokenizer, build_messages(each, ()))) for each in instances(2, TASK)]
    seen: list[Episode] = []
    online(tiny, tmp_path / "out", on_episode=seen.append, max_length=max(prompts) + new + 1)
    assert seen and {len(each.transcript.turns) for each in seen} == {1}
    with pytest.raises(InputError, match=f"prompt of {max(prompts)} tokens leaves no room in {max(prompts) + new}"):
        online(tiny, tmp_path / "out", max_length=max(prompts) + new)


@pytest.mark.parametrize(("trained", "learnt"), [("all", "Done: finished.<|im_end|>"), ("first", "Done"), ("none", "")])
def test_how_much_of_the_report_learns(
    trained: Any,
    learnt: str,
    tiny: Path,
    policy: LoadedPolicy,
    tmp_path: Path,
    batches: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = policy.tokenizer("```bash\nls\n```<|im_end|>", add_special_tokens=False)["input_ids"]

    said = policy.tokenizer("Done: finished.<|im_end|>", add_special_tokens=False)["input_ids"]

    def speak(self: Any, prompts: Sequence[list[int]], seeds: Any) -> list[list[int]]:
        return [said if "bash\nls\n" in policy.tokenizer.decode(prompt) else command for prompt in prompts]

    monkeypatch.setattr(LocalModel, "open_decoder", lambda _: None)
    monkeypatch.setattr(LocalModel, "generate", speak)
    online(tiny, tmp_path / "out", train_report=trained)
    masks = (batches[0]["completion_mask"] * batches[0].get("tool_mask", 1)).bool()
    rows = zip(batches[0]["completion_ids"], masks, strict=True)
    assert [policy.tokenizer.decode(row[mask]) for row, mask in rows] == [f"```bash\nls\n```<|im_end|>{learnt}"] * 4


def test_what_commands_and_report_drift_by_adds_up(policy: LoadedPolicy) -> None:
    ids = policy.tokenizer("one two three four five", add_special_tokens=False)["input_ids"]
    history = TokenHistory(ids[:2], ids[2:], [1] * (len(ids) - 2), report=len(ids) - 5)
    with torch.no_grad():
        commands, words = split_log_probs(policy.model, policy, [history])[0].tolist()
        cut = TokenHistory(ids[:2], ids[2:], [1] * (len(ids) - 4) + [0] * 2)
        assert commands == pytest.approx(float(episode_log_probs(policy.model, policy, [cut])[0]), abs=1e-4)
        assert commands + words == pytest.approx(float(episode_log_probs(policy.model, policy, [history])[0]), abs=1e-4)


def test_a_limit_on_the_drift_goes_back_to_the_last_policy_within_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch is the first policy's own; what one huge step makes of it plays the second."""
    played: list[dict[str, torch.Tensor]] = []
    call = RolloutFunction.__call__

    def watch(self: Any, prompts: Any, trainer: Any) -> Any:
        played.append({name: weight.detach().clone() for name, weight in trainer.model.named_parameters()})
        return call(self, prompts, trainer)

    monkeypatch.setattr(RolloutFunction, "__call__", watch)
    result = online(
        tiny, tmp_path / "out", message_length, count=8, max_steps=6, iterations=2, learning_rate=0.05, kl_limit=0.5
    )
    assert result.steps == 3 and len(played) == 2
    assert [entry["kl_commands"] > 0.5 for entry in result.log if "kl_commands" in entry] == [False, True]
    assert result.metrics["kl_commands"] == pytest.approx(0, abs=1e-5), "of the policy that was kept"
    assert result.stopped.startswith("at batch 2, whose commands were ") and "played batch 1" in result.stopped
    facts = json.loads((result.path / "training.json").read_text())["facts"]
    assert facts["stopped"] == result.stopped and TrainResult.read(result.path).stopped == result.stopped  # type: ignore[union-attr]
    assert "| stopped | at batch 2, whose commands were" in (result.path / "README.md").read_text()
    saved = load_file(result.path / "model.safetensors")
    assert all(torch.equal(saved[name], played[0][name]) for name in saved)


def test_a_resumed_run_goes_back_as_far_as_an_uninterrupted_one(tmp_path: Path) -> None:
    model, args = torch.nn.Linear(2, 1), SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(global_step=4, is_world_process_zero=True)
    (tmp_path / "checkpoint-4").mkdir()
    before = KLLimit(1.0)
    before.record({"kl_commands": 0.7}, model)
    within = model.weight.detach().clone()
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path, (KEPT_FILE,)) is None, "killed before this was written, it is not whole"
    before.on_save(args, state, None)
    assert last_checkpoint(tmp_path, (KEPT_FILE,)) == str(tmp_path / "checkpoint-4")
    after, control = KLLimit(1.0), SimpleNamespace(should_training_stop=False)
    after.on_train_begin(args, state, control)
    model.weight.data += 5
    after.record({"kl_commands": 3.0}, model)
    after.on_step_end(args, state, control, model=model)
    assert control.should_training_stop and torch.equal(model.weight, within)
    assert after.drift_of_kept() == {"kl_commands": 0.7} and "batch 2" in after.why_stopped()


def test_below_its_limit_a_run_ends_as_without_one(tiny: Path, tmp_path: Path) -> None:
    free, held = (
        online(tiny, tmp_path / name, message_length, max_steps=2, **more)
        for name, more in (("free", {}), ("held", {"kl_limit": 1e6}))
    )
    assert held.stopped == "" and held.steps == free.steps == 2
    one, other = (load_file(each.path / "model.safetensors") for each in (free, held))
    assert all(torch.equal(one[name], other[name]) for name in one)
