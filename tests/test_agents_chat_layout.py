"""The layout of a chat, for every family: what is trained and sampled is what the template makes of the history."""

from itertools import groupby

import pytest

from devnull.agents.agent import Message, Request
from devnull.agents.chat_layout import chat_layout
from devnull.sandbox.errors import InputError
from devnull.training.chat_template import CHATML
from devnull.training.data import tokenize_conversation, tokenize_prompt
from devnull.training.token_agent import TokenAgent
from tests.chat_families import FAMILIES, family_tokenizer
from tests.fakes import instances
from tests.training_cases import TASK

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
    tokenizer, family = family_tokenizer(name), FAMILIES[name]
    layout, answers = chat_layout(tokenizer), [_TALK[2]["content"], _TALK[4]["content"]]
    drawn = iter([tokenizer(each + layout.end, add_special_tokens=False)["input_ids"] for each in answers])
    agent = TokenAgent(lambda prompts, seeds: ([next(drawn)], None), tokenizer, 4096)
    for turn in range(2):
        agent.respond([Request(_TALK[: 2 + 2 * turn], instances(1, TASK)[0], 0, turn)])
    history = agent.finished_history((0, 0))
    chat: list[Message] = list(_TALK)
    if family.folds:
        chat[:2] = [{"role": "user", "content": f"{_TALK[0]['content']}\n\n{_TALK[1]['content']}"}]
    template = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    ids = history.prompt + history.completion
    assert tokenizer.decode(ids) == tokenizer.decode(template[: len(ids)])
    assert ids == template[: len(ids)]


@pytest.mark.parametrize("name", FAMILIES)
def test_training_reads_the_prompt_that_sampling_gives(name: str) -> None:
    tokenizer = family_tokenizer(name)
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
