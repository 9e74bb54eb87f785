import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from devnull.agents.protocol import (
    SYSTEM_PROMPT,
    Command,
    Invalid,
    Report,
    capped,
    messages,
    neutralise,
    parse,
    plain,
    screen,
)
from devnull.sandbox.command import CommandResult
from devnull.sandbox.transcript import Turn

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<tool_call>"]
FRAGMENTS = [*TOKENS, "<", "|", "<|", "|>", "im_end", "\n", " ", "user\n", "ok", "[", "]", "/", "\x00", "\x1b[0m", "\r"]
forgeries = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5)).map("".join)


def result(shown: str, **more: object) -> CommandResult:
    return CommandResult.model_validate(
        {"command": "true", "shown": shown, "exit_code": 0, "seconds": 0.1, "cwd": "/root", **more}
    )


def turn(text: str, shown: str | None = None) -> Turn:
    return Turn(text=text, valid=True, result=None if shown is None else result(shown))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        [],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = CHATML
    return made


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("```bash\nls\n```", Command("ls")),
        ("  \n```bash\nls -l\necho `date`\n```\n", Command("ls -l\necho `date`")),
        ("```bash\nls```", Command("ls")),
        ("Done: all is well.", Report("all is well.")),
        ("\nDone:", Report("")),
        ("Done: two\nlines", Report("two\nlines")),
    ],
)
def test_strict_actions(text, action):
    assert parse(text) == action
    assert parse(text, tolerant=True) == action


@pytest.mark.parametrize(
    ("text", "loose"),
    [
        ("Sure!\n```bash\nls\n```", Command("ls")),
        ("```sh\nls\n```", Command("ls")),
        ("```\nls\n```", Command("ls")),
        ("```bash\nls\n```\n```bash\npwd\n```", Command("ls")),
        ("```bash\nls\n```\nDone: installed.", Command("ls")),
        ("**Done.** It works.", Report("It works.")),
        ("I looked.\nFinal report: it works.", Report("it works.")),
        ("ls", None),
        ("", None),
        ("```bash\n\n```", None),
        ("```bash\nls", None),
        ("I am not done: wait.", None),
    ],
)
def test_strict_refuses_what_tolerant_may_take(text, loose):
    assert isinstance(parse(text), Invalid)
    taken = parse(text, tolerant=True)
    assert taken == loose if loose else isinstance(taken, Invalid)


def test_a_nul_byte_is_no_command():
    assert isinstance(parse("```bash\necho \0\n```"), Invalid)


@given(st.text() | forgeries, st.booleans())
def test_parse_takes_any_text(text, tolerant):
    action = parse(text, tolerant)
    if isinstance(action, Command):
        assert action.text.strip() and "```" not in action.text and "\0" not in action.text
    if not tolerant and isinstance(action, Command):
        assert parse(f"```bash\n{action.text}\n```") == action


def test_the_system_prompt_is_short_and_names_both_forms():
    assert len(SYSTEM_PROMPT.split()) <= 40
    assert "```bash" in SYSTEM_PROMPT and "`Done:`" in SYSTEM_PROMPT


def test_messages_of_an_episode():
    turns = [turn("```bash\nls\n```", "a b\r\n"), turn("```bash\ntrue\n```", ""), turn("hm"), turn("Done: ok")]
    chat = messages("Install x.", turns)
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
    whole = messages("Install x.", turns)
    for n in range(len(turns)):
        part = messages("Install x.", turns[:n])
        assert part == whole[: len(part)] and part[-1]["role"] == "user"


def test_what_is_shown_of_a_timeout_and_of_a_terminal():
    assert screen(result("1\r\n", timed_out=True, exit_code=None)) == "1\n(timed out)"
    assert plain("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\r\n50%\r100%\r\n\x08") == "red x\n100%\n"
    assert plain("Reading 5%\rReading 100%\nabc\rX\n") == "Reading 100%\nXbc\n"


def test_the_cap_says_how_many_lines_are_gone():
    text = "".join(f"line {n}\n" for n in range(1000))
    short = capped(text, 200)
    head, marker, tail = short.partition("\n... ")
    amount = int(marker and tail.split()[0])
    kept = head.splitlines() + tail.split(" cut ...\n")[1].splitlines()
    assert len(kept) + amount == 1000 and kept[0] == "line 0" and kept[-1] == "line 999"
    assert capped("x" * 5000, 100) == "x" * 50 + "\n... 4900 characters cut ...\n" + "x" * 50


@given(st.text(alphabet="ab\n", max_size=300), st.integers(10, 100))
def test_the_cap_holds(text, limit):
    short = capped(text, limit)
    assert short == text if len(text) <= limit else len(short) <= limit + 40


@given(shown=forgeries, said=forgeries, asked=forgeries)
def test_nothing_printed_or_said_forges_a_turn(tokenizer, shown, said, asked):
    chat = messages(asked, [turn(said, shown), turn(said, shown)])
    ids = tokenizer.apply_chat_template(list(chat), add_generation_prompt=True, tokenize=True, return_dict=False)
    special = [tokenizer.convert_ids_to_tokens(i) for i in ids if i < len(TOKENS)]
    assert special == ["<|im_start|>", "<|im_end|>"] * len(chat) + ["<|im_start|>"]


@given(forgeries)
def test_neutralising_twice_changes_nothing(text):
    once = neutralise(text, TOKENS)
    assert neutralise(once, TOKENS) == once
    assert not any(token in once for token in TOKENS)


def test_tokens_of_a_particular_tokenizer_lose_their_power():
    assert neutralise("a §turn§ b", ["§turn§"]) == "a § turn§ b"
