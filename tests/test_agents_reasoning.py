"""Reasoning comes off before a message is read, and leaves no trace in later prompts."""

from collections.abc import Sequence

import pytest

from devnull.agents.agent import Message, Reply, Request
from devnull.agents.chat_layout import chat_layout
from devnull.agents.reasoning import split_reply, split_tagged
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.eval.display.timeline import build_timeline
from devnull.rewards.evaluator import Evaluator
from devnull.sandbox.transcript import Turn
from devnull.training.chat_template import prepare_tokenizer
from devnull.training.data import tokenize_conversation
from devnull.training.token_agent import TokenAgent
from tests.chat_families import family_tokenizer
from tests.fakes import APP, PretendRuntime, instances, pretend_verify

BLOCK = "```bash\ninstall app\n```"


@pytest.mark.parametrize(
    ("family", "written", "text", "reasoning"),
    [
        ("qwen3", f"<think>\nI look.\n</think>\n\n{BLOCK}<|im_end|>", BLOCK, "I look."),
        ("qwen3", f"{BLOCK}<|im_end|>", BLOCK, ""),
        ("qwen3", "```bash\necho '</think>'\n```<|im_end|>", "```bash\necho '</think>'\n```", ""),
        ("qwen3", "<think>\nwithout end", "", "without end"),
        ("qwen2_5", f"<think>I look.</think>{BLOCK}<|im_end|>", BLOCK, "I look."),
        ("mistral3", f" {BLOCK}</s>", BLOCK, ""),
        ("qwen3_6", f"I look.\n</think>\n\n{BLOCK}<|im_end|>", BLOCK, "I look."),
        ("deepseek_r1_distill", f"I look.\n</think>\n\n{BLOCK}<｜end▁of▁sentence｜>", BLOCK, "I look."),
        ("deepseek_r1_distill", "I never come to an end", "", "I never come to an end"),
        ("glm4moe", f"\n<think>I look.</think>\n{BLOCK}<|user|>", BLOCK, "I look."),
        ("glm4moe", f"\n<think></think>\n{BLOCK}<|user|>", BLOCK, ""),
        (
            "gptoss",
            "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>"
            f"{BLOCK}<|return|>",
            BLOCK,
            "I look.",
        ),
        ("gptoss", f"<|channel|>final<|message|>{BLOCK}<|return|>", BLOCK, ""),
    ],
)
def test_a_thought_is_taken_off(family: str, written: str, text: str, reasoning: str) -> None:
    tokenizer = family_tokenizer(family)
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]
    split = split_reply(tokenizer, chat_layout(tokenizer), ids)
    assert (split.text, split.reasoning) == (text, reasoning)
    assert tokenizer.decode(ids[split.start :], skip_special_tokens=True).strip() == text


@pytest.mark.parametrize(
    ("written", "text", "reasoning"),
    [
        (f"<think>I look.</think>\n\n{BLOCK}", BLOCK, "I look."),
        (f"I look.\n</think>\n\n{BLOCK}", BLOCK, "I look."),
        ("<think>without end", "", "without end"),
        ("```bash\necho '</think>'\n```", "```bash\necho '</think>'\n```", ""),
        ("Done: all is well.", "Done: all is well.", ""),
    ],
)
def test_what_a_server_left_in_is_taken_off(written: str, text: str, reasoning: str) -> None:
    assert split_tagged(written) == (text, reasoning)


class Thinker:
    """Thinks before its command, and keeps what it was sent."""

    name = "thinker"

    def __init__(self) -> None:
        self.seen: list[tuple[Message, ...]] = []

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        self.seen += [request.messages for request in requests]
        return [
            Reply("Done: ready." if request.turn else BLOCK, reasoning=f"hm\x1b[31m {request.turn}")
            for request in requests
        ]


def test_it_is_kept_in_the_transcript_shown_in_replay_and_in_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)
    thinker = Thinker()
    (episode,) = rollout(thinker, instances(1), PretendRuntime(), arm="a", options=RolloutOptions(workers=1))
    assert [turn.reasoning for turn in episode.transcript.turns] == ["hm\x1b[31m 0", "hm\x1b[31m 1"]
    assert all(turn.valid for turn in episode.transcript.turns)
    assert "hm" not in str(thinker.seen)
    frames = build_timeline(episode, APP, Evaluator())
    kinds = [span.kind for frame in frames for span in frame.truth]
    assert kinds.count("reasoning") == 2 and kinds.index("reasoning") < kinds.index("command")
    assert not any(span.kind == "reasoning" for frame in frames for span in frame.seen)


def test_a_turn_of_an_older_run_has_none() -> None:
    assert Turn.model_validate_json('{"text": "Done: x", "valid": true, "result": null}').reasoning == ""


def test_online_training_reads_the_prompts_that_were_given() -> None:
    """A thought leaves the history with the next turn, and the message after it teaches nothing; the last one does."""
    tokenizer = family_tokenizer("qwen3")
    prepare_tokenizer(tokenizer, "m")
    written = [f"<think>\none\n</think>\n\n{BLOCK}", BLOCK, "<think>\ntwo\n</think>\n\nDone: ready."]
    drawn = iter([tokenizer(each + "<|im_end|>", add_special_tokens=False)["input_ids"] for each in written])
    prompts: list[list[int]] = []

    def generate(asked: list[list[int]], seeds: list[int]) -> tuple[list[list[int]], None]:
        prompts.extend(asked)
        return [next(drawn)], None

    chat: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    agent = TokenAgent(generate, tokenizer, 4096)
    for turn in range(3):
        (reply,) = agent.respond([Request(tuple(chat), instances(1)[0], 0, turn)])
        chat += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": "(no output)"}]
    assert not any("think" in tokenizer.decode(prompt) for prompt in prompts)
    history = agent.finished_history((0, 0))
    plain = tokenize_conversation(tokenizer, chat[:5]).ids
    assert (history.prompt + history.completion)[: len(prompts[2])] == prompts[2]
    assert prompts[2][: len(plain)] == plain[: len(prompts[2])]
    learnt = [token for token, mine in zip(history.completion, history.mask, strict=True) if mine]
    assert tokenizer.decode(learnt) == f"{BLOCK}<|im_end|>{written[2]}<|im_end|>"
    assert tokenizer.decode(history.completion[history.report :]) == "Done: ready.<|im_end|>"
