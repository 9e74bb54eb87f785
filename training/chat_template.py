"""Chat templates and tokenizers for training: the layout is checked, and padding is no end token."""

from typing import Any

from jinja2.exceptions import TemplateError

from devnull.agents.chat_layout import chat_layout
from devnull.sandbox.errors import InputError

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with the generation markers that a loss mask needs. Every prefix of a conversation renders to a prefix of
its text, on which `training.token_agent` relies; given a system message it renders as SmolLM2's own template does."""

_PROBE = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "u"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "v"},
    {"role": "assistant", "content": "b"},
]


def prepare_tokenizer(tokenizer: Any, name: str) -> None:
    """Checks the tokenizer's chat template and gives it, in place, a pad token that is not its end token.

    Padding with the end token would hide the end of each message from the loss, and a reward head, which
    finds the last token by the pad id, would read the wrong one.

    Args:
        name: Of the model, for messages.

    Raises:
        InputError: It has no chat template, one whose layout cannot be found, or no token to pad with.
    """
    chat_layout(tokenizer, name)
    if _renders_as_chatml(tokenizer):
        tokenizer.chat_template = CHATML
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        own = ("<|endoftext|>", "<pad>", "<|pad|>", "[PAD]", tokenizer.unk_token, "<|finetune_right_pad_id|>")
        own += ("<|end_of_text|>", *tokenizer.all_special_tokens)
        vocabulary = tokenizer.get_vocab()
        free = [
            token for token in own if token in vocabulary and token not in (tokenizer.eos_token, tokenizer.bos_token)
        ]
        if not free:
            raise InputError(
                f"model {name!r} pads with its end token {tokenizer.eos_token!r} and has no other special token: "
                f"add a pad token to its tokenizer and save it"
            )
        tokenizer.pad_token = free[0]


def _renders_as_chatml(tokenizer: Any) -> bool:
    """Whether its own template gives the same text."""
    try:
        own = tokenizer.apply_chat_template(_PROBE, tokenize=False)
    except (TemplateError, ValueError):  # refuses a system prompt
        return False
    return bool(own == tokenizer.apply_chat_template(_PROBE, tokenize=False, chat_template=CHATML))
