"""The layout of a chat, for every family: what is trained and sampled is what the template makes of the history."""

from itertools import groupby

import pytest
from tokenizers import pre_tokenizers

from devnull.agents.agent import Message
from devnull.agents.chat_layout import chat_layout
from devnull.agents.template_args import parse_template_args
from devnull.sandbox.errors import InputError
from devnull.training.chat_template import CHATML, prepare_tokenizer
from devnull.training.data import tokenize_conversation, tokenize_prompt
from tests.chat_families import FAMILIES, family_tokenizer, rollout_tokens, template_tokens

_TALK: tuple[Message, ...] = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Install driver."},
    {"role": "assistant", "content": "make 2>/dev/null"},
    {"role": "user", "content": "cc: error\n\nmake: stop"},
    {"role": "assistant", "content": "ls -l"},
    {"role": "user", "content": "(no output)"},
)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_agents_spans_are_its_messages_and_the_end_of_its_turns(name: str) -> None:
    tokenizer, end = family_tokenizer(name), FAMILIES[name].end
    encoded = tokenize_conversation(tokenizer, _TALK)
    assert tokenizer.convert_tokens_to_ids(end) == chat_layout(tokenizer).end_id
    mine = [token if spoken else None for token, spoken in zip(encoded.ids, encoded.mask, strict=True)]
    spans = [list(span) for agent, span in groupby(mine, lambda token: token is not None) if agent]
    wanted = [_TALK[2]["content"], _TALK[4]["content"]]
    assert [tokenizer.decode(span).removesuffix(end).strip() for span in spans] == wanted
    assert all(span[-1] == chat_layout(tokenizer).end_id for span in spans)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rollouts_tokens_are_those_of_the_template(name: str) -> None:
    tokenizer = family_tokenizer(name)
    prepare_tokenizer(tokenizer, name)
    ids, template = rollout_tokens(tokenizer, _TALK), template_tokens(name, tokenizer, _TALK)
    assert tokenizer.decode(ids) == tokenizer.decode(template[: len(ids)])
    assert ids == template[: len(ids)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trained_policys_template_prompts_as_training_does(name: str) -> None:
    tokenizer = family_tokenizer(name)
    before = chat_layout(tokenizer)
    prepare_tokenizer(tokenizer, name)
    after = chat_layout(tokenizer)
    assert after.prompt == after.header == before.header
    asked = tokenizer.apply_chat_template(list(_TALK[:4]), tokenize=False, add_generation_prompt=True)
    assert asked == before.render(_TALK[:4])[0] + before.header


@pytest.mark.parametrize(
    ("name", "args", "prompt", "header"),
    [
        ("qwen3", {}, "assistant\n", "assistant\n"),
        ("qwen3", {"enable_thinking": False}, "<think>\n\n</think>\n\n", "assistant\n"),
        ("qwen3_6", {}, "assistant\n<think>\n", "assistant\n"),
        ("qwen3_6", {"preserve_thinking": True}, "<think>\n", "<think>\n\n</think>\n\n"),
        ("deepseek_r1_distill", {}, "<think>\n", "<｜Assistant｜>"),
        ("mistral3", {}, "[/INST]", "[/INST]"),  # the blank after it is the model's own to write
        ("gptoss", {}, "<|start|>assistant", "<|channel|>final<|message|>"),
        ("glm4moe", {"enable_thinking": False}, "/nothink<|assistant|>\n<think></think>", "<think></think>"),
    ],
)
def test_the_templates_own_prompt_and_its_arguments(name: str, args: dict[str, bool], prompt: str, header: str) -> None:
    layout = chat_layout(family_tokenizer(name), args=args)
    assert layout.prompt.endswith(prompt) and layout.header.endswith(header)


def test_a_policy_trained_without_thoughts_says_so_in_every_turn() -> None:
    tokenizer = family_tokenizer("qwen3")
    prepare_tokenizer(tokenizer, "m", {"enable_thinking": False})
    assert tokenizer.decode(tokenize_prompt(tokenizer, _TALK)).count("<think>\n\n</think>\n\n") == 3
    assert tokenizer.decode(tokenize_conversation(tokenizer, _TALK).ids).count("<think>\n\n</think>\n\n") == 2


def test_an_argument_that_a_template_never_reads_is_refused() -> None:
    with pytest.raises(InputError, match="never reads 'enable_thinkng'"):
        chat_layout(family_tokenizer("qwen3"), "m", {"enable_thinkng": False})


def test_arguments_are_read_from_words() -> None:
    words = ("enable_thinking=False", "depth=3", "effort=low")
    assert parse_template_args(words) == {"enable_thinking": False, "depth": 3, "effort": "low"}
    for bad in (("enable_thinking",), ("a=1", "a=2"), ("=1",)):
        with pytest.raises(InputError, match="template_args"):
            parse_template_args(bad)


def test_a_conversation_without_a_system_prompt_begins_as_the_template_has_it() -> None:
    tokenizer = family_tokenizer("llama3")
    chat = _TALK[1:4]
    assert (
        chat_layout(tokenizer).render(chat)[0]
        == tokenizer.apply_chat_template(list(chat), tokenize=False)[: -len("<|eot_id|>")]
    )


def test_line_ends_are_tokenized_as_in_the_prompt() -> None:
    """GPT-2's way: two line ends are one token at the end of a text, and two before a word."""
    tokenizer = family_tokenizer("llama3")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    prompt = tokenize_prompt(tokenizer, _TALK[:4])
    encoded = tokenize_conversation(tokenizer, _TALK[:5])
    assert encoded.ids[: len(prompt)] == prompt
    spoken = [token for token, mine in zip(encoded.ids, encoded.mask, strict=True) if mine]
    assert tokenizer.decode(spoken) == "make 2>/dev/null<|eot_id|>ls -l<|eot_id|>"
    text = chat_layout(tokenizer).render(_TALK[:5])[0]
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert whole != encoded.ids and tokenizer.decode(encoded.ids) == text


@pytest.mark.parametrize("name", FAMILIES)
def test_training_reads_the_prompt_that_sampling_gives(name: str) -> None:
    tokenizer = family_tokenizer(name)
    prepare_tokenizer(tokenizer, name)
    prompt = tokenize_prompt(tokenizer, _TALK[:4])
    assert tokenize_conversation(tokenizer, _TALK).ids[: len(prompt)] == prompt


def test_chatml_is_tokenized_as_by_its_template() -> None:
    tokenizer = family_tokenizer("qwen2_5")
    tokenizer.chat_template = CHATML
    for length in (3, 5):
        template = tokenizer.apply_chat_template(
            list(_TALK[:length]), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ours = tokenize_conversation(tokenizer, _TALK[:length])
        assert (ours.ids, ours.mask) == (template["input_ids"], template["assistant_masks"])
        asked = tokenizer.apply_chat_template(
            list(_TALK[: length - 1]), tokenize=True, return_dict=False, add_generation_prompt=True
        )
        assert tokenize_prompt(tokenizer, _TALK[: length - 1]) == asked


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}", "ends no turn"),
        ("{% for m in messages %}{{ m['content'] | upper + eos_token }}{% endfor %}", "leaves out messages"),
        ("{% for m in messages %}{{ m['content'].replace('a', 'b', 1) + eos_token }}{% endfor %}", "leaves out"),
        ("{% for m in messages %}{{ m['content'].replace('ls', 'LS') + eos_token }}{% endfor %}", "its parts make"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str | None, reason: str) -> None:
    tokenizer = family_tokenizer("qwen2_5")
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=reason):
        chat_layout(tokenizer, "m")
