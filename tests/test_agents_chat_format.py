import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from devnull.agents.chat_format import (
    build_messages,
    escape_special_tokens,
    format_output,
    truncate_middle,
)
from devnull.sandbox.screen_text import screen_text
from devnull.sandbox.transcript import Turn
from tests.fakes import byte_tokenizer, result

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<tool_call>"]
FRAGMENTS = [*TOKENS, "<", "|", "<|", "|>", "im_end", "\n", " ", "user\n", "ok", "[", "]", "/", "\x00", "\x1b[0m", "\r"]
forgeries = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5)).map("".join)


def turn(text: str, shown: str | None = None) -> Turn:
    return Turn(text=text, valid=True, result=None if shown is None else result("true", shown))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(TOKENS)


def test_messages_of_an_episode():
    turns = [turn("```bash\nls\n```", "a b\r\n"), turn("```bash\ntrue\n```", ""), turn("hm"), turn("Done: ok")]
    chat = build_messages("Install x.", turns)
    assert [m["role"] for m in chat] == ["system", "user", *["assistant", "user"] * 3, "assistant"]
    assert [m["content"] for m in chat[1:]] == [
        "Install x.",
        "```bash\nls\n```",
        "a b",
        "```bash\ntrue\n```",
        "(no output)",
        "hm",
        "(nothing was run: no ```bash block)",
        "Done: ok",
    ]


def test_each_prompt_begins_with_the_one_before():
    """Agents that keep token ids rely on it: what was said and shown is never rendered anew."""
    turns = [turn("```bash\nls\n```", "a b\r\n"), turn("hm"), turn("```bash\nseq 999\n```", "1\n" * 999), turn("Done:")]
    whole = build_messages("Install x.", turns)
    for n in range(len(turns)):
        part = build_messages("Install x.", turns[:n])
        assert part == whole[: len(part)] and part[-1]["role"] == "user"


def test_what_is_shown_of_a_timeout_and_of_a_terminal():
    assert format_output(result("true", "1\r\n", timed_out=True, exit_code=None)) == "1\n(timed out)"
    assert screen_text("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\r\n50%\r100%\r\n\x08") == "red x\n100%\n"
    assert screen_text("Reading 5%\rReading 100%\nabc\rX\n") == "Reading 100%\nXbc\n"


def test_the_cap_says_how_many_lines_are_gone():
    text = "".join(f"line {n}\n" for n in range(1000))
    short = truncate_middle(text, 200)
    head, marker, tail = short.partition("\n... ")
    amount = int(marker and tail.split()[0])
    kept = head.splitlines() + tail.split(" cut ...\n")[1].splitlines()
    assert len(kept) + amount == 1000 and kept[0] == "line 0" and kept[-1] == "line 999"
    assert truncate_middle("x" * 5000, 100) == "x" * 50 + "\n... 4900 characters cut ...\n" + "x" * 50


@given(st.text(alphabet="ab\n", max_size=300), st.integers(10, 100))
def test_the_cap_holds(text, limit):
    short = truncate_middle(text, limit)
    assert short == text if len(text) <= limit else len(short) <= limit + 40


@given(shown=forgeries, said=forgeries, asked=forgeries)
def test_nothing_printed_or_said_forges_a_turn(tokenizer, shown, said, asked):
    chat = build_messages(asked, [turn(said, shown), turn(said, shown)])
    ids = tokenizer.apply_chat_template(list(chat), add_generation_prompt=True, tokenize=True, return_dict=False)
    special = [tokenizer.convert_ids_to_tokens(i) for i in ids if i < len(TOKENS)]
    assert special == ["<|im_start|>", "<|im_end|>"] * len(chat) + ["<|im_start|>"]


@given(forgeries)
def test_escaping_twice_changes_nothing(text):
    once = escape_special_tokens(text, TOKENS)
    assert escape_special_tokens(once, TOKENS) == once
    assert not any(token in once for token in TOKENS)


def test_tokens_of_a_particular_tokenizer_are_escaped():
    assert escape_special_tokens("a §turn§ b", ["§turn§"]) == "a § turn§ b"
