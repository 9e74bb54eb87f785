"""A Hugging Face causal language model as an agent: batched decoding over the live episodes.

Every request draws from its own generator, so what an episode is does not depend on who shares its batch, up to float
noise: padding and batch size change the logits in the last digits (about 1e-6 relative in float32, 1e-2 in bfloat16),
and a draw that falls that close to the border between two tokens may flip. Of a small model on a CPU such a draw is
made again from the conversation read alone, so that it repeats exactly whichever box answers first; of others with
`batch_size=1`, where each request is decoded alone.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from devnull.agents.agent import Message, Reply, Request
from devnull.agents.chat_layout import NO_ARGS, TemplateArgs, chat_layout
from devnull.agents.chat_tokens import tokenize_chat
from devnull.agents.decoding import Decoder, DecodingFunctions
from devnull.agents.decoding_weights import merge_for_good
from devnull.agents.key_value_cache import BatchState, join_batches, keeps_all_tokens, roomy_cache
from devnull.agents.model_loading import SMALL_MODEL, load_model
from devnull.agents.prompt_format import PromptFormat, read_prompt_format
from devnull.agents.reasoning import split_reply
from devnull.sandbox.errors import InputError

ROUNDING = 1e-5
"""Further than float32's rounding moves a distribution function: in conversations of `tiny` by 1.2e-6 at most."""

TOKENS_READ_AT_ONCE = 4096
"""On a CPU: 64 conversations of 350 tokens at once took half as long again as eight at a time (SmolLM2)."""


@dataclass(frozen=True)
class _CachedPrefix:
    """Tokens that the model has read, with each layer's keys and values of them, shape (heads, tokens, dimensions)."""

    ids: list[int]
    layers: list[tuple[torch.Tensor, torch.Tensor]]

    def common_length(self, prompt: Sequence[int]) -> int:
        """With how many of these tokens the prompt begins; the prompt's last one is always left to read."""
        most = min(len(self.ids), len(prompt) - 1)
        return next((i for i in range(most) if self.ids[i] != prompt[i]), most)


_Asked = tuple[tuple[int, ...], int, _CachedPrefix | None]
"""A prompt, how many of its first tokens are known, and of which prefix."""


def _unread(asked: _Asked) -> int:
    """How many tokens of the prompt are still to be read."""
    return len(asked[0]) - asked[1]


class LocalModel:
    """Agent that samples from a causal language model: temperature sampling with a key-value cache, left padding, and
    finished rows leaving the batch.

    Args:
        name_or_path: A folder, or a name of the Hugging Face hub.
        adapter: A PEFT folder.
        temperature: 0 is greedy.
        max_new_tokens: Of one message.
        batch_size: Messages generated together; 1 repeats exactly, whatever the workers.
        device: As torch names it; by default a GPU where there is one.
        load_in_4bit: Hold the weights in 4 bits (NF4, bitsandbytes).
        template_args: What the chat template is told (`{"enable_thinking": False}`).

    Raises `InputError` for what cannot be loaded.
    """

    prompt: PromptFormat | None = None
    """What it was trained with, where its folder says so; the rollout engine prompts it so by default."""

    def __init__(
        self,
        name_or_path: str | Path,
        adapter: str | Path | None = None,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 96,
        batch_size: int = 64,
        device: str | None = None,
        load_in_4bit: bool = False,
        template_args: TemplateArgs = NO_ARGS,
    ) -> None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model, tokenizer = load_model(name_or_path, adapter, device, load_in_4bit)
        merge_for_good(model)
        self._set_up(model, tokenizer, str(name_or_path), temperature, max_new_tokens, batch_size, template_args)
        self.prompt = read_prompt_format(Path(adapter or name_or_path))

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        temperature: float = 1.0,
        max_new_tokens: int = 96,
        batch_size: int = 64,
    ) -> Self:
        """An agent of a model that is already in memory, whose weights stay as they are while the agent is used; its
        training mode is put back after each call."""
        agent = cls.__new__(cls)
        agent._set_up(model, tokenizer, name, temperature, max_new_tokens, batch_size)
        return agent

    def _set_up(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        temperature: float,
        max_new_tokens: int,
        batch_size: int,
        template_args: TemplateArgs = NO_ARGS,
    ) -> None:
        if temperature < 0:
            raise InputError(f"temperature is {temperature}; it must be 0 (greedy) or more")
        if min(max_new_tokens, batch_size) < 1:
            raise InputError("max_new_tokens and batch_size must be at least 1")
        self._layout = chat_layout(tokenizer, name, template_args)
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.temperature, self.max_new_tokens, self.batch_size = temperature, max_new_tokens, batch_size
        self._end_ids = _end_ids(model, tokenizer) | {self._layout.end_id}
        self._one_thread = model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL
        # On a CPU reading a conversation again costs several times what its next message does; a GPU reads it at once,
        # and has no memory to spare. Alone in its batch a request must repeat exactly, so nothing is shared.
        caches = model.device.type == "cpu" and not self._one_thread and batch_size > 1
        self.prefix_cache: deque[_CachedPrefix] = deque(maxlen=min(2 * batch_size, 64) if caches else 0)
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply a request. Longest prompts go together, so that little is padded; a prompt that leaves no room in
        the context ends its episode."""
        prompts = [self.read(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda row: -len(prompts[row]))
        order = [row for row in order if len(prompts[row]) < self.context]
        replies = [Reply("", prompt_tokens=len(prompt), ended=True) for prompt in prompts]
        for first in range(0, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            completions = self.generate([prompts[row] for row in rows], [requests[row].seed for row in rows])
            for row, tokens in zip(rows, completions, strict=True):
                replies[row] = self.reply(requests[row], prompts[row], tokens)
        return replies

    def read(self, request: Request) -> list[int]:
        """The prompt's token ids."""
        return self.encode(request.messages)

    def reply(self, request: Request, prompt: list[int], ids: list[int]) -> Reply:
        """The reply that the token ids spell."""
        text, reasoning, _ = split_reply(self.tokenizer, self._layout, ids)
        return Reply(text, len(prompt), len(ids), reasoning=reasoning)

    def encode(self, messages: Sequence[Message], *, at_once: bool = False) -> list[int]:
        """The prompt's token ids, the header of the agent's turn included.

        Args:
            at_once: The next token is the message's first, whatever the model would think before it.
        """
        layout = replace(self._layout, prompt=self._layout.header) if at_once else self._layout
        return tokenize_chat(self.tokenizer, layout, messages, prompt=True).ids

    def generate(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        """Token ids of each prompt's completion, the end-of-turn token included, from token ids and a seed each."""
        completions: dict[Hashable, list[int]] = {}
        decoder = self._decoder(len(prompts))
        decoder.add(range(len(prompts)), prompts, seeds)
        while len(decoder):
            completions |= dict(decoder.step())
        return [completions[row] for row in range(len(prompts))]

    def open_decoder(self) -> Decoder | None:
        """What generates for a rollout token by token; `None` where each request is to be decoded alone."""
        return self._decoder(self.batch_size) if self.batch_size > 1 else None

    def _decoder(self, rows: int) -> Decoder:
        asked = DecodingFunctions(
            self._prefill, self._forward, self.sample, self._unsure, self._is_over, self._cache_row, self._sampling
        )
        return Decoder(asked, rows)

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        training, threads = self.model.training, torch.get_num_threads()
        if training:
            self.model.eval()
        if self._one_thread:
            torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(threads)
            if training:
                self.model.train()

    def _is_over(self, prompt: Sequence[int], completion: Sequence[int]) -> bool:
        """Whether there is no room for more, or the last token ends the turn, and not only a thought that is closed by
        the same token (gpt-oss)."""
        if len(completion) >= self.max_new_tokens or len(prompt) + len(completion) >= self.context:
            return True
        if completion[-1] == self._layout.end_id and self._layout.ends_thoughts:
            written = self.tokenizer.decode(completion)
            return self._layout.message_start(written) < len(written)
        return completion[-1] in self._end_ids

    def _prefill(self, prompts: Sequence[list[int]]) -> BatchState:
        """The batch of these prompts, read.

        Equal prompts, as at the first turn of a group, are read once, and what is cached is not read again.
        """
        asked = sorted((self._known_part(ids) for ids in dict.fromkeys(map(tuple, prompts))), key=_unread)
        parts = [self._read(asked[rows]) for rows in self._read_at_once(asked)]
        state = parts[0] if len(parts) == 1 else join_batches(parts)
        if [ids for ids, _, _ in asked] != list(map(tuple, prompts)):
            place = {ids: row for row, (ids, _, _) in enumerate(asked)}
            spread = torch.tensor([place[tuple(ids)] for ids in prompts], device=self.model.device)
            state.cache.reorder_cache(spread)
            state = BatchState(state.logits[spread], state.mask[spread], state.cache)
        return state

    def _known_part(self, prompt: tuple[int, ...]) -> _Asked:
        """The prompt, with the longest beginning of it that is cached."""
        lengths = [(prefix.common_length(prompt), prefix) for prefix in self.prefix_cache]
        return prompt, *max(lengths, key=lambda pair: pair[0], default=(0, None))

    def _read_at_once(self, asked: Sequence[_Asked]) -> list[slice]:
        """The parts in which prompts are read, those with most to read last: on a CPU so many tokens at once as its
        memory takes without slowing down; on a GPU all, and all where rows of different parts could not be joined."""
        rows = len(asked)
        if self.model.device.type == "cpu" and keeps_all_tokens(roomy_cache(self.model.config)):
            rows = max(1, TOKENS_READ_AT_ONCE // _unread(asked[-1]))
        return [slice(first, first + rows) for first in range(0, len(asked), rows)]

    def _read(self, asked: Sequence[_Asked]) -> BatchState:
        """The batch of these prompts; of each, what is not known is read."""
        cache = self._known_parts(asked)
        filler = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        tokens = _left_padded([ids[length:] for ids, length, _ in asked], filler).to(self.model.device)
        lengths = [length for _, length, _ in asked], [_unread(each) for each in asked]
        masks = [_left_padded([[1] * length for length in part], 0) for part in lengths]
        mask = torch.cat(masks, dim=1).to(self.model.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        return BatchState(self._forward(tokens, mask, positions, cache), mask, cache)

    def _known_parts(self, asked: Sequence[_Asked]) -> DynamicCache:
        """The keys and values of what is known of each prompt."""
        cache = roomy_cache(self.model.config)
        width = max(length for _, length, _ in asked)
        known = [(length, prefix) for _, length, prefix in asked if prefix is not None]
        for number in range(len(known[0][1].layers) if width else 0):
            keys, values = (
                torch.stack(
                    [pad(prefix.layers[number][i][:, :length], (0, 0, width - length, 0)) for length, prefix in known]
                )
                for i in (0, 1)
            )
            cache.update(keys, values, number)
        return cache

    def _cache_row(self, cache: DynamicCache, place: int, mask: torch.Tensor, ids: Sequence[int]) -> None:
        """Caches what was read of a finished row: all but its last token, which was drawn and never read.
        Nothing of a model with layers that forget tokens (sliding windows) or hold no keys (linear attention)."""
        if self.prefix_cache.maxlen and keeps_all_tokens(cache):
            read = mask[place].bool()
            layers = [(layer.keys[place][:, read], layer.values[place][:, read]) for layer in cache.layers]
            self.prefix_cache.append(_CachedPrefix(list(ids[: int(read.sum())]), layers))

    def _forward(
        self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def sample(self, logits: torch.Tensor, numbers: Sequence[float]) -> list[int]:
        """One token id a row, by inverting the distribution function at the row's number.

        Args:
            logits: Shape (rows, vocabulary).
            numbers: One a row, between 0 and 1.
        """
        if self.temperature == 0:
            greedy: list[int] = logits.argmax(-1).tolist()
            return greedy
        cumulated, drawn = self._cumulated(logits, numbers)
        places = torch.searchsorted(cumulated, drawn, right=True)
        tokens: list[int] = places[:, 0].clamp(max=logits.shape[-1] - 1).tolist()
        return tokens

    def _unsure(self, logits: torch.Tensor, numbers: Sequence[float]) -> list[int]:
        """Places of the rows whose number falls so close to a border between two tokens that who shares the batch may
        decide. Of small models on a CPU only: elsewhere rounding is too coarse, or the vocabulary all borders."""
        if self.temperature == 0 or not self._one_thread:
            return []
        cumulated, drawn = self._cumulated(logits, numbers)
        close = (cumulated - drawn).abs().amin(-1) < ROUNDING * cumulated[:, -1]
        rows: list[int] = close.nonzero()[:, 0].tolist()
        return rows

    def _cumulated(self, logits: torch.Tensor, numbers: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """The distribution function, (rows, vocabulary), and where the numbers fall on its scale, (rows, 1)."""
        cumulated = torch.softmax(logits.double() / self.temperature, -1).cumsum(-1)
        return cumulated, torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None] * cumulated[:, -1:]


def _left_padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """(rows, width of the longest)."""
    width = max(map(len, rows))
    return torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a turn, by the tokenizer and by the model's generation settings."""
    ends = {tokenizer.eos_token_id}
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends |= set(configured) if isinstance(configured, list) else {configured}
    return frozenset(end for end in ends if end is not None)
