"""Tiny tokenizers with the real chat templates (TRL's own folder, or written as the family has it) and special tokens
of public model families."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trl
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from devnull.agents.agent import Message, Request
from devnull.agents.chat_layout import chat_layout
from devnull.training.models import save_model
from devnull.training.tiny import build_tiny_model
from devnull.training.token_agent import TokenAgent
from tests.fakes import instances

_TEMPLATES = Path(trl.__file__).parent / "chat_templates"
_ZEPHYR = (
    "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n' + m['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
_MISTRAL_1 = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
_MISTRAL_3 = (
    "{%- set rest = messages[1:] if messages[0]['role'] == 'system' else messages %}{{- bos_token }}"
    "{%- for m in rest %}{%- if m['role'] == 'user' %}{%- if loop.last and messages[0]['role'] == 'system' %}"
    "{{- '[INST] ' + messages[0]['content'] + '\n\n' + m['content'] + '[/INST]' }}{%- else %}"
    "{{- '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}{%- else %}{{- ' ' + m['content'] + eos_token }}"
    "{%- endif %}{%- endfor %}"
)


@dataclass(frozen=True)
class Family:
    """A template and the tokens that it needs."""

    template: str
    """A file of TRL's folder, or the template itself."""
    special: str
    """Special tokens, by blanks."""
    eos: str
    end: str
    """What ends a turn."""
    bos: str | None = None
    folds: bool = False
    """The system prompt has no place of its own at the beginning."""


_CHATML = "<|endoftext|> <|im_start|> <|im_end|>"
_LLAMA = "<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|>"
_GEMMA = "<pad> <eos> <bos> <start_of_turn> <end_of_turn>"
_PHI = "<|endoftext|> <|end|> <|user|> <|assistant|> <|system|>"
_R1 = "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> <pad>"
_R1_BEGIN, _R1_END = _R1.split()[:2]
_HARMONY = "<|startoftext|> <|endoftext|> <|start|> <|end|> <|message|> <|channel|> <|return|> <|call|>"

FAMILIES = {
    **{
        name: Family(name, _CHATML, "<|im_end|>", "<|im_end|>")
        for name in ("qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_5_nothink", "qwen3_6")
    },
    **{
        name: Family(name, _LLAMA, "<|eot_id|>", "<|eot_id|>", "<|begin_of_text|>")
        for name in ("llama3", "llama3_1", "llama3_2")
    },
    "gemma": Family("gemma", _GEMMA, "<eos>", "<end_of_turn>", "<bos>", folds=True),
    "gemma3": Family("gemma3", _GEMMA, "<eos>", "<end_of_turn>", "<bos>"),
    "phi3": Family("phi3", _PHI, "<|endoftext|>", "<|end|>"),
    "phi3_5": Family("phi3_5", _PHI, "<|endoftext|>", "<|end|>"),
    "deepseek_r1_distill": Family("deepseek_r1_distill", _R1, _R1_END, _R1_END, _R1_BEGIN),
    "zephyr": Family(_ZEPHYR, "<unk> <s> </s>", "</s>", "</s>", "<s>"),
    "mistral1": Family(_MISTRAL_1, "<unk> <s> </s>", "</s>", "</s>", "<s>", folds=True),
    "mistral3": Family(_MISTRAL_3, "<unk> <s> </s> [INST] [/INST]", "</s>", "</s>", "<s>", folds=True),
    "gptoss": Family("gptoss", _HARMONY, "<|return|>", "<|end|>", "<|startoftext|>"),
    "lfm2": Family("lfm2", f"<|pad|> <|startoftext|> {_CHATML}", "<|im_end|>", "<|im_end|>", "<|startoftext|>"),
    "glm4moe": Family(
        "glm4moe", "<|endoftext|> [gMASK] <sop> <|system|> <|user|> <|assistant|>", "<|endoftext|>", "<|user|>"
    ),
}


def family_tokenizer(name: str, texts: Sequence[str] = (), vocabulary: int = 300) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of a few hundred tokens, trained on the texts, with the family's template."""
    family = FAMILIES[name]
    tokens = family.special.split()
    core = Tokenizer(models.BPE())
    lines = pre_tokenizers.Split(Regex(r"\n+"), "isolated")  # as Llama and Qwen do: what follows splits no line ends
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([lines, digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, show_progress=False, initial_alphabet=alphabet, special_tokens=tokens
    )
    core.train_from_iterator([*texts, "system user assistant model\n\n"], trainer)
    core.add_tokens([AddedToken(each, special=False, normalized=False) for each in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=family.eos,
        bos_token=family.bos,
        additional_special_tokens=[each for each in tokens if each not in (family.eos, family.bos)],
        chat_template=family_template(name),
    )


def family_template(name: str) -> str:
    """The family's chat template."""
    template = FAMILIES[name].template
    return (_TEMPLATES / f"{template}.jinja").read_text() if len(template) < 40 else template


def family_model(name: str, folder: Path, texts: Sequence[str]) -> Path:
    """A tiny model, untrained, that spells as the family does; its folder."""
    tokenizer = family_tokenizer(name, texts, vocabulary=560)
    model, _ = build_tiny_model(None, seed=0)
    assert len(tokenizer) <= model.config.vocab_size
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    return save_model(model, tokenizer, folder)


def template_tokens(name: str, tokenizer: PreTrainedTokenizerFast, chat: Sequence[Message]) -> list[int]:
    """What the family's own template makes of a conversation, the system prompt folded where it must be."""
    messages = list(chat)
    if FAMILIES[name].folds:
        messages[:2] = [Message(role="user", content=f"{chat[0]['content']}\n\n{chat[1]['content']}")]
    text = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=family_template(name))
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def rollout_tokens(tokenizer: PreTrainedTokenizerFast, chat: Sequence[Message]) -> list[int]:
    """The history that online training keeps of a policy which says the chat's own messages."""
    layout = chat_layout(tokenizer)
    said = [message["content"] for message in chat if message["role"] == "assistant"]
    drawn = iter([tokenizer(layout.lead + each + layout.end, add_special_tokens=False)["input_ids"] for each in said])
    agent = TokenAgent(lambda prompts, seeds: ([next(drawn)], None), tokenizer, 1 << 20)
    for turn in range(len(said)):
        agent.respond([Request(tuple(chat[: 2 + 2 * turn]), instances(1)[0], 0, turn)])
    history = agent.finished_history((0, 0))
    return history.prompt + history.completion
