"""Models and tokenizers: what can be trained, and what is refused with a reason."""

import copy
from pathlib import Path

import pytest
import torch

from sandbox.errors import InputError
from tests.training_cases import episodes, texts
from training.models import load_policy, make_tiny, save
from training.template import CHATML, fit_tokenizer
from training.tiny import tiny as tiny_of

pytestmark = pytest.mark.filterwarnings("ignore:.*(gradient_checkpointing|is_gradient_checkpointing).*:FutureWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("models") / "tiny", texts(episodes()))


def test_tiny_is_small_repeatable_and_trains_all_its_weights(tiny: Path, tmp_path: Path) -> None:
    again = make_tiny(tmp_path / "tiny", texts(episodes()))
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


def test_template_renders_prefixes_of_a_chat_as_prefixes_of_its_text(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    chat = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user", "assistant")]
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    for length in range(1, len(chat)):
        assert whole.startswith(tokenizer.apply_chat_template(chat[:length], tokenize=False))


def test_a_template_without_markers_is_swapped_for_one_that_renders_the_same(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    tokenizer.chat_template = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    fit_tokenizer(tokenizer, "x")
    assert tokenizer.chat_template == CHATML


@pytest.mark.parametrize(
    ("template", "said"), [("{{ messages[0]['content'] }}", "generation"), (None, "has no chat template")]
)
def test_a_template_that_cannot_mark_the_agent_is_refused(tiny: Path, template: str | None, said: str) -> None:
    tokenizer = load_policy(tiny).tokenizer
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=said):
        fit_tokenizer(tokenizer, "x")


def test_padding_with_the_end_token_is_mended_or_refused(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    mended = copy.deepcopy(tokenizer)
    mended.pad_token = mended.eos_token
    fit_tokenizer(mended, "x")
    assert mended.pad_token == "<|endoftext|>"
    tokenizer.add_special_tokens(
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    )
    tokenizer.bos_token = "<|im_start|>"
    with pytest.raises(InputError, match="pads with its end token"):
        fit_tokenizer(tokenizer, "x")


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "nobody-at-all/nothing-at-all"])
def test_an_unknown_model_is_one_clear_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("training.models.urlopen", no_network)
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
    model, tokenizer = tiny_of(texts(episodes(2)), 0)
    save(model, tokenizer, tmp_path / "model")

    def types() -> list[torch.dtype]:
        return [load_policy(tmp_path / "model", adaptation=way).model.dtype for way in ("lora", "full")]

    monkeypatch.setattr("training.models.bfloat16_is_faster", lambda device: True)
    assert types() == [torch.float32, torch.float32]
    monkeypatch.setattr("training.models.TINY_PARAMETERS", 1000)
    assert types() == [torch.bfloat16, torch.float32]
    monkeypatch.setattr("training.models.bfloat16_is_faster", lambda device: False)
    assert types() == [torch.float32, torch.float32]
