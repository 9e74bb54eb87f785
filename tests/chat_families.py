"""Tiny tokenizers with the real chat templates (TRL's own folder, or written as the family has it) and special tokens
of public model families."""

from dataclasses import dataclass
from pathlib import Path

import trl
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

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


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of a few hundred tokens with the family's template."""
    family = FAMILIES[name]
    tokens = family.special.split()
    core = Tokenizer(models.BPE())
    lines = pre_tokenizers.Split(Regex(r"\n+"), "isolated")  # as Llama and Qwen do: what follows splits no line ends
    core.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, initial_alphabet=alphabet, special_tokens=tokens)
    core.train_from_iterator(["system user assistant model\n\n"], trainer)
    core.add_tokens([AddedToken(each, special=False, normalized=False) for each in ("<think>", "</think>")])
    file = _TEMPLATES / f"{family.template}.jinja" if len(family.template) < 40 else None
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=family.eos,
        bos_token=family.bos,
        additional_special_tokens=[each for each in tokens if each not in (family.eos, family.bos)],
        chat_template=file.read_text() if file else family.template,
    )
