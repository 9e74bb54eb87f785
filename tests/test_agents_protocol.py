import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnull.agents.protocol import SYSTEM_PROMPT, Command, FinalReport, InvalidAction, parse_action

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<tool_call>"]
FRAGMENTS = [*TOKENS, "<", "|", "<|", "|>", "im_end", "\n", " ", "user\n", "ok", "[", "]", "/", "\x00", "\x1b[0m", "\r"]
forgeries = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5)).map("".join)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("```bash\nls\n```", Command("ls")),
        ("  \n```bash\nls -l\necho `date`\n```\n", Command("ls -l\necho `date`")),
        ("```bash\nls```", Command("ls")),
        ("Done: all is well.", FinalReport("all is well.")),
        ("\nDone:", FinalReport("")),
        ("Done: two\nlines", FinalReport("two\nlines")),
    ],
)
def test_strict_actions(text, action):
    assert parse_action(text) == action
    assert parse_action(text, tolerant=True) == action


@pytest.mark.parametrize(
    ("text", "loose"),
    [
        ("Sure!\n```bash\nls\n```", Command("ls")),
        ("```sh\nls\n```", Command("ls")),
        ("```\nls\n```", Command("ls")),
        ("```bash\nls\n```\n```bash\npwd\n```", Command("ls")),
        ("```bash\nls\n```\nDone: installed.", Command("ls")),
        ("**Done.** It works.", FinalReport("It works.")),
        ("I looked.\nFinal report: it works.", FinalReport("it works.")),
        ("ls", None),
        ("", None),
        ("```bash\n\n```", None),
        ("```bash\nls", None),
        ("I am not done: wait.", None),
    ],
)
def test_strict_refuses_what_tolerant_may_take(text, loose):
    assert isinstance(parse_action(text), InvalidAction)
    taken = parse_action(text, tolerant=True)
    assert taken == loose if loose else isinstance(taken, InvalidAction)


def test_a_nul_byte_is_no_command():
    assert isinstance(parse_action("```bash\necho \0\n```"), InvalidAction)


@given(st.text() | forgeries, st.booleans())
def test_parse_takes_any_text(text, tolerant):
    action = parse_action(text, tolerant)
    if isinstance(action, Command):
        assert action.text.strip() and "```" not in action.text and "\0" not in action.text
    if not tolerant and isinstance(action, Command):
        assert parse_action(f"```bash\n{action.text}\n```") == action


def test_the_system_prompt_is_short_and_names_both_forms():
    assert len(SYSTEM_PROMPT.split()) <= 40
    assert "```bash" in SYSTEM_PROMPT and "`Done:`" in SYSTEM_PROMPT
