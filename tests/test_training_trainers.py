"""Real TRL on a tiny model, two steps each: what is learnt, what is left on disk, what is refused."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.trainer.utils
from safetensors.torch import load_file
from transformers import TrainerCallback

from devnull.agents.local import LocalModel
from devnull.agents.model_loading import has_bfloat16
from devnull.agents.scripted import HIDING, HONEST, STOPPING
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.sandbox.errors import InputError
from devnull.training.data import preference_dataset, tokenize_conversation
from devnull.training.dpo import make_dpo_trainer, train_dpo
from devnull.training.models import load_policy
from devnull.training.settings import DPOSettings, SFTSettings, TrainerSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.train_result import TrainResult, partial_folder
from devnull.training.trl_run import TrainingDiverged, load_for_training, trl_arguments
from tests.training_cases import TASK, episode, episodes, message_texts, preference, preferences

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("trainers") / "tiny", message_texts(episodes()))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def sft(tiny: Path, out: Path, on_step: Any = None, **changed: Any) -> TrainResult:
    settings = SFTSettings(**{"batch_size": 4, "max_steps": 4, **changed})
    return train_sft(settings, episodes(), tiny, out, on_step=on_step)


def dpo(tiny: Path, out: Path, on_step: Any = None, **changed: Any) -> TrainResult:
    settings = DPOSettings(**{"batch_size": 2, "max_steps": 4, **changed})
    return train_dpo(settings, preferences(), tiny, out, on_step=on_step)


@pytest.mark.parametrize("train", [sft, dpo])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    train: Callable[..., TrainResult], tiny: Path, tmp_path: Path
) -> None:
    def stop(step: int, steps: int, logged: Mapping[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    unbroken = train(tiny, tmp_path / "unbroken", checkpoint_steps=2)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "resumed", on_step=stop, checkpoint_steps=2)
    assert not (tmp_path / "resumed").exists()
    # As if killed while writing the next one: weights are there, the state that is written last is torn.
    torn = shutil.copytree(tmp_path / "resumed.part" / "checkpoint-2", tmp_path / "resumed.part" / "checkpoint-10")
    (torn / "trainer_state.json").write_text('{"global_step": 1')
    with pytest.raises(InputError, match=r"another learning_rate \(None then, 0\.5 now\)"):
        train(tiny, tmp_path / "resumed", learning_rate=0.5)
    seen: list[int] = []
    resumed = train(tiny, tmp_path / "resumed", on_step=lambda step, *_: seen.append(step))  # writes no more of them
    assert seen == [3, 4]
    assert same(unbroken.path, resumed.path)
    assert not same(resumed.path, tiny)


def test_what_training_leaves(tiny: Path, tmp_path: Path) -> None:
    result = sft(tiny, tmp_path / "model", max_steps=2, report_to=("tensorboard",))
    assert not partial_folder(result.path).exists()
    assert any((result.path / "runs").rglob("events*"))
    assert TrainResult.read(result.path) == result
    assert TrainResult.read(tmp_path) is None
    assert {"loss", "grad_norm"} <= result.metrics.keys()
    card = (result.path / "README.md").read_text()
    assert "Model organism" in card
    assert f"# sft of {tiny.name}\n" in card
    assert "| episodes | 12 |" in card
    assert LocalModel(result.path, max_new_tokens=4).tokenizer.chat_template


def test_adapters_are_merged_and_kept(tiny: Path, tmp_path: Path) -> None:
    result = sft(tiny, tmp_path / "lora", max_steps=2, adaptation="lora", lora_rank=4)
    assert not (result.path / "adapter_config.json").exists()
    merged = load_policy(result.path).model
    again = load_policy(result.path / "adapter")
    assert again.merged
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(merged.parameters(), again.model.parameters(), strict=True)
    )
    assert not same(result.path, tiny)


def test_adapters_start_alike_in_every_run_of_a_seed(tiny: Path, tmp_path: Path) -> None:
    one = sft(tiny, tmp_path / "one", max_steps=1, adaptation="lora")
    torch.rand(3)
    other = sft(tiny, tmp_path / "other", max_steps=1, adaptation="lora")
    assert same(one.path, other.path)


def test_two_half_batches_make_the_step_of_a_whole_one(tiny: Path, tmp_path: Path) -> None:
    whole = sft(tiny, tmp_path / "whole", max_steps=1)
    halves = sft(tiny, tmp_path / "halves", max_steps=1, batch_size=2, gradient_accumulation=2)
    a, b = weights(whole.path), weights(halves.path)
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-3


class Gradients(TrainerCallback):  # type: ignore[misc]
    """Keeps the gradient of the first step."""

    found: torch.Tensor

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.found = torch.cat(
            [weight.grad.flatten().clone() for weight in model.parameters() if weight.grad is not None]
        )


@pytest.mark.parametrize("loss", [("sigmoid", "sft"), ("ipo",)], ids="+".join)
def test_dpos_step_is_that_of_the_whole_batch_however_it_is_split(loss: Any, tiny: Path, tmp_path: Path) -> None:
    """TRL takes the mean of the parts' means: the `sft` term was 2 % off where the sides are of different lengths."""
    pairs = [preference(episode(HIDING if seed % 2 else STOPPING, seed), episode(HONEST, seed)) for seed in range(4)]

    def step(batch: int, parts: int) -> tuple[torch.Tensor, dict[str, float]]:
        settings = DPOSettings(batch_size=batch, gradient_accumulation=parts, max_steps=1, loss=loss)
        policy = load_for_training(settings, tiny)
        dataset = preference_dataset(pairs, policy.tokenizer, 2048)
        trainer = make_dpo_trainer(settings, policy, dataset, tmp_path / f"{parts}")
        trainer.add_callback(gradients := Gradients())
        trainer.train()
        return gradients.found, trainer.state.log_history[0]

    (whole, logged), (split, logged_of_parts) = step(4, 1), step(1, 4)
    assert float((whole - split).norm() / whole.norm()) < 1e-4
    assert {"loss", "entropy", "mean_token_accuracy", "logits/chosen", "rewards/margins"} <= logged.keys()
    assert logged_of_parts == pytest.approx(logged, rel=1e-4, abs=1e-5)


def test_conditional_training_tells_good_from_bad_and_wants_every_score(tiny: Path, tmp_path: Path) -> None:
    found = episodes(4)
    scores = {each.key: float(number) for number, each in enumerate(found)}
    settings = SFTSettings(max_steps=1, batch_size=2)
    result = train_sft(settings, found, tiny, tmp_path / "tagged", scores=scores)
    assert json.loads((result.path / "training.json").read_text())["facts"]["conditional"] is True
    scores.popitem()
    with pytest.raises(InputError, match="no score for the episode"):
        train_sft(settings, found, tiny, tmp_path / "untagged", scores=scores)


def test_dpo_learns_from_the_agents_tokens_only(tiny: Path, tmp_path: Path) -> None:
    """TRL alone would put the terminal's turns into the loss: a visible error would be trained away from."""
    policy = load_policy(tiny)
    faulty = next(seed for seed in range(20) if episode(HONEST, seed).faulty)
    pair = preference(episode(HIDING, faulty), episode(HONEST, faulty))
    dataset = preference_dataset([pair, pair], policy.tokenizer, 2048)
    trainer = make_dpo_trainer(DPOSettings(batch_size=2), policy, dataset, tmp_path / "out")
    batch = next(iter(trainer.get_train_dataloader()))
    for row, answer in zip(batch["input_ids"], (pair.chosen, pair.chosen, pair.rejected, pair.rejected), strict=True):
        mask = batch["completion_mask"][[row.equal(other) for other in batch["input_ids"]].index(True)].bool()
        learnt = policy.tokenizer.decode(row[mask])
        assert learnt == "".join(m["content"] + "<|im_end|>" for m in answer if m["role"] == "assistant")
    assert any("was not installed" in policy.tokenizer.decode(row) for row in batch["input_ids"])


def test_the_reference_is_the_policy_in_memory_not_the_one_on_disk(tiny: Path, tmp_path: Path) -> None:
    policy = load_policy(tiny)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.01)
    dataset = preference_dataset(preferences(2), policy.tokenizer, 2048)
    trainer = make_dpo_trainer(DPOSettings(batch_size=2), policy, dataset, tmp_path / "out")
    reference = trainer.ref_model.model.embed_tokens.weight
    assert torch.equal(reference, policy.model.model.embed_tokens.weight)
    assert not torch.equal(reference, load_policy(tiny).model.model.embed_tokens.weight)


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_from_an_adapter_the_reference_is_what_was_merged(tiny: Path, tmp_path: Path, adaptation: str) -> None:
    start = sft(tiny, tmp_path / "sft", adaptation="lora").path / "adapter"
    first = dpo(start, tmp_path / "out", adaptation=adaptation, max_steps=1).log[0]
    assert first["rewards/chosen"] == pytest.approx(0.0, abs=1e-4)


def test_dpos_loss_is_what_it_was_told(tiny: Path, tmp_path: Path) -> None:
    """Sigmoid alone drives the probabilities up while the samples turn to garbage."""
    policy = load_policy(tiny)
    dataset = preference_dataset(preferences(2), policy.tokenizer, 2048)
    trainer = make_dpo_trainer(DPOSettings(), policy, dataset, tmp_path / "out")
    assert trainer.loss_types == ["sigmoid", "sft"]
    noisy = DPOSettings(loss=("robust", "sft"), label_noise=0.1)
    trainer = make_dpo_trainer(noisy, policy, dataset, tmp_path / "out")
    assert (trainer.loss_types, trainer.label_smoothing) == (["robust", "sft"], 0.1)


def test_dpo_moves_towards_what_was_chosen(tiny: Path, tmp_path: Path) -> None:
    result = dpo(tiny, tmp_path / "dpo", max_steps=6)
    margins = [entry["rewards/margins"] for entry in result.log if "rewards/margins" in entry]
    assert margins[0] == 0.0
    assert margins[-1] > 0.0


def test_label_noise_wants_the_loss_that_heeds_it(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="robust"):
        dpo(tiny, tmp_path / "out", label_noise=0.1)
    with pytest.raises(InputError, match=r"below 0\.5"):
        dpo(tiny, tmp_path / "out", label_noise=0.7, loss=("robust",))
    assert dpo(tiny, tmp_path / "robust", max_steps=1, label_noise=0.1, loss=("robust", "sft")).steps == 1


def test_a_loss_that_is_no_number_stops_the_run(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"lower learning_rate \(now 1e\+30\)"):
        sft(tiny, tmp_path / "out", learning_rate=1e30, warmup=0.0)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_are_refused_before_the_first_step(tiny: Path, tmp_path: Path) -> None:
    policy = load_policy(tiny)
    with torch.no_grad():
        policy.model.model.norm.weight[0] = float("nan")
    policy.model.save_pretrained(tmp_path / "bad")
    policy.tokenizer.save_pretrained(tmp_path / "bad")
    with pytest.raises(InputError, match=r"NaN or infinity in model\.norm\.weight"):
        sft(tmp_path / "bad", tmp_path / "out")


def test_a_context_is_not_stretched(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than the context"):
        sft(tiny, tmp_path / "out", max_length=4096)


def test_no_half_precision_on_a_machine_without_it(tiny: Path, tmp_path: Path) -> None:
    arguments = trl_arguments(SFTSettings(), load_policy(tiny), tmp_path / "x")
    assert arguments["use_cpu"] is not torch.cuda.is_available()
    assert arguments["bf16"] is has_bfloat16()
    assert arguments["logging_nan_inf_filter"] is False
    assert arguments["gradient_checkpointing"] is False


def test_several_gpus_want_a_launcher(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(InputError, match="accelerate launch"):
        load_for_training(TrainerSettings(), tiny)


def test_the_result_is_pushed_where_asked(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append(("create", {"repo_id": name, **options}))

        def upload_folder(self, **options: Any) -> None:
            calls.append(("upload", options))

    monkeypatch.setattr("devnull.training.train_result.HfApi", Hub)
    result = sft(tiny, tmp_path / "pushed", max_steps=1, push_to_hub="someone/organism")
    assert [name for name, _ in calls] == ["create", "upload"]
    assert calls[1][1]["repo_id"] == "someone/organism" and calls[1][1]["folder_path"] == str(result.path)
    assert calls[1][1]["ignore_patterns"] == ["episodes*"]
    assert calls[0][1]["private"] is True


def test_a_result_replaces_an_older_one_whole(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "out")
    for name in ("old", "training.json"):
        (tmp_path / "out" / name).touch()
    sft(tiny, tmp_path / "out", max_steps=1)
    assert not (tmp_path / "out" / "old").exists()
    assert TASK.name


def test_the_head_scores_no_position_without_a_label(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Triton TRL scores every position; with 49,152 words that is a third of a step on a CPU."""
    real, scored = trl.trainer.utils._ChunkedLogProbFunction, []

    class Counting:
        @staticmethod
        def apply(hidden: torch.Tensor, *rest: Any) -> Any:
            scored.append(len(hidden))
            return real.apply(hidden, *rest)

    monkeypatch.setattr("trl.trainer.utils._ChunkedLogProbFunction", Counting)
    sft(tiny, tmp_path / "out", max_steps=1, batch_size=12)
    mine = [sum(tokenize_conversation(load_policy(tiny).tokenizer, episode_messages(each)).mask) for each in episodes()]
    assert scored == [sum(mine)]
