"""What training holds in memory: logits in chunks, the old model freed, and the estimate before the first step."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from devnull.sandbox.errors import InputError
from devnull.training import kl, memory
from devnull.training.free_memory import cgroups_leave
from devnull.training.memory import StepSize, check_memory, check_weights_fit, checkpoints, step_bytes
from devnull.training.models import load_policy
from devnull.training.settings import GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.token_agent import TokenHistory
from devnull.training.trl_run import free_memory
from tests.training_cases import episodes, message_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]

SHAPE: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
    "pad_token_id": 0,
}


class _Policy:
    class tokenizer:
        pad_token_id = 0


def histories() -> list[TokenHistory]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for length in (30, 41, 12):
        ids = torch.randint(1, 90, (length + 5,), generator=draw).tolist()
        mask = torch.randint(2, (length,), generator=draw).tolist()
        found.append(TokenHistory(ids[:5], ids[5:], mask, report=length - 6))
    return found


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_divergence_puts_few_positions_through_the_head_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 2 caps its logits after the head: there the model itself is asked."""
    torch.manual_seed(0)
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**SHAPE))
        if kind == "llama"
        else Gemma2ForCausalLM(Gemma2Config(**SHAPE, final_logit_softcapping=2.0))
    ).eval()
    expected = []
    for history in histories():
        ids = torch.tensor([history.prompt + history.completion])
        with torch.no_grad():
            each = torch.log_softmax(model(ids).logits[0, :-1], -1).gather(-1, ids[0, 1:, None])[:, 0][4:]
        own = torch.tensor(history.mask) * each
        words = own[history.report_words].sum()
        expected.append([own.sum() - words, words])
    sizes: list[int] = []
    head, forward = model.get_output_embeddings(), torch.nn.Linear.forward

    def counted(layer: Any, states: torch.Tensor) -> torch.Tensor:
        if layer is head:
            sizes.append(states[..., 0].numel())
        return forward(layer, states)

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    monkeypatch.setattr(kl, "_CHUNK", 7)
    with torch.no_grad():
        ours = kl.split_log_probs(model, _Policy, histories())  # type: ignore[arg-type]
    assert torch.allclose(ours, torch.tensor(expected), atol=1e-4)
    assert (max(sizes) <= 7) == (kind == "llama")
    kl.split_log_probs(model, _Policy, histories()).sum().backward()  # type: ignore[arg-type]
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("memory") / "tiny", message_texts(episodes()))


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_a_trained_model_is_gone_before_the_next_is_loaded(adaptation: Any, tiny: Path, tmp_path: Path) -> None:
    def alive() -> int:
        return sum(issubclass(type(each), LlamaForCausalLM) for each in gc.get_objects())

    free_memory()
    before = alive()
    train_sft(SFTSettings(adaptation=adaptation, max_steps=1), episodes(8), tiny, tmp_path / "out")
    free_memory()
    assert alive() == before


def shaped(layers: int, width: int, feed_forward: int) -> LlamaForCausalLM:
    """A model that takes no memory: Qwen2.5's and Qwen3's widths."""
    config = LlamaConfig(
        vocab_size=151936,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


@pytest.mark.parametrize(
    ("shape", "measured", "with_checkpointing"),
    [((24, 896, 4864), 1.44, 0.14), ((28, 1536, 8960), 3.01, 0.26), ((36, 4096, 12288), 8.9, 2.2)],
    ids=["0.5B", "1.5B", "8B"],
)
def test_the_estimate_is_near_what_was_measured(
    shape: tuple[int, int, int], measured: float, with_checkpointing: float
) -> None:
    """MiB a token on a GPU, of the layers alone: docs/training.md and, of 8B, its first measurement in bfloat16."""
    model = shaped(*shape).requires_grad_(False)
    found = [
        step_bytes(model, SFTSettings(gradient_checkpointing=way), StepSize(1, 1000, 0)) / 1000 / 2**20 / 2  # float32
        for way in ("off", "on")
    ]
    assert 0.8 * measured < found[0] < 1.4 * measured
    assert found[1] < 0.3 * found[0] and found[1] > 0.8 * with_checkpointing * (0.2 if shape[0] < 30 else 1)


def test_checkpointing_is_on_from_a_billion_parameters() -> None:
    assert [checkpoints(SFTSettings(), count) for count in (5 * 10**8, 10**9)] == [False, True]
    assert checkpoints(SFTSettings(gradient_checkpointing="on"), 1)
    assert not checkpoints(SFTSettings(gradient_checkpointing="off"), 10**10)


def test_too_little_memory_names_the_settings_that_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shaped(24, 896, 4864)
    settings, step = SFTSettings(batch_size=8), StepSize(8, 2000, 300)
    need = step_bytes(model, settings, step)
    learnt = 4 * model.num_parameters()
    assert 3 * learnt < need
    monkeypatch.setattr(memory, "free_bytes", lambda device: need)
    check_memory(model, settings, step)
    monkeypatch.setattr(memory, "free_bytes", lambda device: need - learnt)
    with pytest.raises(InputError, match=r"8 conversations of 2000 tokens needs about .* GiB") as refused:
        check_memory(model, settings, step)
    for helps in ("gradient_checkpointing on (", "batch_size 1 and gradient_accumulation 8 (", "optimizer adafactor ("):
        assert helps in str(refused.value)
    monkeypatch.setattr(memory, "free_bytes", lambda device: need // 100)
    with pytest.raises(InputError, match=r"set several of these: .* a lower max_length, a smaller model"):
        check_memory(model, settings, step)
    with pytest.raises(InputError, match="batch_size 4 and gradient_accumulation 8, "):
        check_memory(model, GRPOSettings(batch_size=32), StepSize(32, 2000, 300))
    with pytest.raises(InputError, match=r"weights of big take .* take adaptation qlora, dtype bfloat16"):
        check_weights_fit("big", 10**12, 2, torch.device("cpu"))


def test_a_run_that_would_not_fit_is_refused_before_its_first_step(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnull.training.memory.free_bytes", lambda device: 10_000_000)
    with pytest.raises(InputError, match="besides the weights"):
        train_sft(SFTSettings(), episodes(8), tiny, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list((tmp_path / "out.part").glob("checkpoint*"))


def test_no_model_is_larger_than_what_is_free(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devnull.training.memory.free_bytes", lambda device: 1000)
    with pytest.raises(InputError, match="the weights of "):
        load_policy(tiny)


@pytest.mark.parametrize(
    ("membership", "folder", "files"),
    [
        ("0::/job", "job", {"memory.max": 3000, "memory.current": 2500, "memory.stat": "anon 1\ninactive_file 700\n"}),
        ("0::/host/scope", "", {"memory.max": 3000, "memory.current": 2500, "memory.stat": "inactive_file 700"}),
        ("0::/job/step", "job", {"memory.max": 3000, "memory.current": 1800}),
        (
            "5:devices:/\n4:memory,hugetlb:/job\n0::/",
            "memory/job",
            {"memory.limit_in_bytes": 3000, "memory.usage_in_bytes": 2000, "memory.stat": "total_inactive_file 200"},
        ),
    ],
)
def test_a_cgroups_limit_is_what_is_free(
    membership: str, folder: str, files: dict[str, object], tmp_path: Path
) -> None:
    mount, inner = tmp_path / "cgroup", tmp_path / "cgroup" / folder
    inner.mkdir(parents=True)
    for name, text in files.items():
        (inner / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(membership)
    assert [*cgroups_leave(tmp_path / "own", mount)] == [1200]
    (inner / next(iter(files))).write_text("max\n")
    assert [*cgroups_leave(tmp_path / "own", mount)] == []
    assert [*cgroups_leave(tmp_path / "none", mount)] == []
