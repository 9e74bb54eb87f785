"""Chat templates and tokenizers for training: the agent's tokens are marked, and padding is no end token."""

import re
from typing import Any

from trl.chat_template_utils import get_training_chat_template

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
_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


def prepare_tokenizer(tokenizer: Any, name: str) -> None:
    """Gives the tokenizer, in place, a template with generation markers and a pad token that is not its end token.

    Padding with the end token would hide the end of each message from the loss, and a reward head, which
    finds the last token by the pad id, would read the wrong one.

    Args:
        name: Of the model, for messages.

    Raises:
        InputError: It has no chat template, none that the markers are known for, or no token to pad with.
    """
    if not tokenizer.chat_template:
        raise InputError(
            f"model {name!r} has no chat template, so no conversation can be put to it; use its instruct sibling"
        )
    if not _MARKER.search(tokenizer.chat_template):
        tokenizer.chat_template = _marked_template(tokenizer, name)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        own = ("<|endoftext|>", "<pad>", "<|pad|>", "[PAD]", tokenizer.unk_token, *tokenizer.all_special_tokens)
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


def _marked_template(tokenizer: Any, name: str) -> str:
    """A template that renders the same text and has generation markers around the assistant's messages."""
    own = tokenizer.apply_chat_template(_PROBE, tokenize=False)
    if own == tokenizer.apply_chat_template(_PROBE, tokenize=False, chat_template=CHATML):
        return CHATML
    try:
        template = get_training_chat_template(tokenizer)
    except ValueError:
        template = None
    if template is None:
        raise InputError(
            f"the chat template of {name!r} has no {{% generation %}} markers and is none that TRL knows, so the "
            f"agent's tokens cannot be told from the terminal's; put the markers around what the assistant says "
            f"and save the tokenizer"
        )
    return str(template)
