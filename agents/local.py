"""A Hugging Face causal language model as an agent: batched decoding over the live episodes.

Every request draws from its own generator, so what an episode is does not depend on who shares its batch,
up to float noise: padding and batch size change the logits in the last digits (about 1e-6 relative in
float32, 1e-2 in bfloat16), and a draw that falls that close to the border between two tokens may flip. With
`batch_size=1` each request is decoded alone and repeats exactly, whatever the workers.
"""

import random
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn.functional import pad
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from devnull.agents.agent import Message, Reply, Request
from devnull.agents.protocol import neutralise
from devnull.sandbox.errors import InputError

_SMALL = 10_000_000
"""Parameters below which a step is decoded on one core: several gain nothing, and while boxes keep the machine busy
they wait for each other (2 cores, load 10: 17 tokens/s against 209)."""


_BFLOAT16 = re.compile(r"\b(?:avx512_bf16|amx_bf16|bf16)\b")
"""How /proc/cpuinfo names instructions that multiply bfloat16 (x86, Arm)."""


@dataclass(frozen=True)
class Past:
    """Tokens that were read once, with each layer's keys and values of them, shape (heads, tokens, dimensions)."""

    ids: list[int]
    layers: list[tuple[torch.Tensor, torch.Tensor]]

    def shared(self, prompt: Sequence[int]) -> int:
        """With how many of these tokens the prompt begins; its last one is always left to read."""
        most = min(len(self.ids), len(prompt) - 1)
        return next((i for i in range(most) if self.ids[i] != prompt[i]), most)


class LocalModel:
    """Temperature sampling with a key-value cache, left padding, and finished rows leaving the batch."""

    def __init__(
        self,
        name_or_path: str | Path,
        adapter: str | Path | None = None,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 96,
        batch_size: int = 32,
        device: str | None = None,
        load_in_4bit: bool = False,
    ) -> None:
        """Loads the weights. `adapter`: a PEFT folder. `device`: a GPU where there is one.

        Raises `InputError` for what cannot be loaded.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model, tokenizer = _load(name_or_path, adapter, device, load_in_4bit)
        self._use(model, tokenizer, str(name_or_path), temperature, max_new_tokens, batch_size)

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        temperature: float = 1.0,
        max_new_tokens: int = 96,
        batch_size: int = 32,
    ) -> Self:
        """An agent of a model that is already in memory, whose weights stay as they are while the agent is used; its
        training mode is put back after each call."""
        agent = cls.__new__(cls)
        agent._use(model, tokenizer, name, temperature, max_new_tokens, batch_size)
        return agent

    def _use(
        self, model: Any, tokenizer: Any, name: str, temperature: float, max_new_tokens: int, batch_size: int
    ) -> None:
        if temperature < 0:
            raise InputError(f"temperature is {temperature}; it must be 0 (greedy) or more")
        if min(max_new_tokens, batch_size) < 1:
            raise InputError("max_new_tokens and batch_size must be at least 1")
        if tokenizer.chat_template is None:
            raise InputError(f"{name}: its tokenizer has no chat template; use an instruct model")
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.temperature, self.max_new_tokens, self.batch_size = temperature, max_new_tokens, batch_size
        self.ends = _end_ids(model, tokenizer)
        self.special = tuple(tokenizer.all_special_tokens)
        self.small = model.device.type == "cpu" and model.num_parameters() < _SMALL
        # On a CPU reading a conversation again costs several times what its next message does; a GPU reads it at once,
        # and has no memory to spare. Alone in its batch a request must repeat exactly, so nothing is shared.
        keeps = model.device.type == "cpu" and not self.small and batch_size > 1
        self.pasts: deque[Past] = deque(maxlen=2 * batch_size if keeps else 0)
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Longest prompts together, so that little is padded; a prompt that leaves no room ends its episode."""
        prompts = [self.encode(request.messages) for request in requests]
        order = sorted(range(len(requests)), key=lambda row: -len(prompts[row]))
        order = [row for row in order if len(prompts[row]) < self.context]
        replies = [Reply("", prompt_tokens=len(prompt), ended=True) for prompt in prompts]
        for first in range(0, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            decoded = self.decode([prompts[row] for row in rows], [requests[row].seed for row in rows])
            for row, tokens in zip(rows, decoded, strict=True):
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                replies[row] = Reply(text, len(prompts[row]), len(tokens))
        return replies

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's token ids, the header of the agent's turn included."""
        chat = [{"role": m["role"], "content": neutralise(m["content"], self.special)} for m in messages]
        ids: list[int] = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids

    def decode(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        """The completion of each prompt, its end-of-turn token included."""
        training, threads = self.model.training, torch.get_num_threads()
        self.model.eval()
        if self.small:
            torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return self._decode(prompts, seeds)
        finally:
            torch.set_num_threads(threads)
            self.model.train(training)

    def _decode(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        logits, mask, cache = self._read(prompts)
        draws = [random.Random(seed) for seed in seeds]
        completions: list[list[int]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))  # which completion each row of the batch belongs to
        while True:
            drawn = self.draw(logits, [draws[row] for row in rows])
            keep = []
            for place, (row, token) in enumerate(zip(rows, drawn, strict=True)):
                completions[row].append(token)
                length = len(completions[row])
                room = length < self.max_new_tokens and len(prompts[row]) + length < self.context
                if token not in self.ends and room:
                    keep.append(place)
            for place in set(range(len(rows))).difference(keep):
                self._keep(cache, place, mask, prompts[rows[place]] + completions[rows[place]])
            if not keep:
                return completions
            if len(keep) < len(rows):
                chosen = torch.tensor(keep, device=mask.device)
                cache.batch_select_indices(chosen)
                mask, rows = mask[chosen], [rows[place] for place in keep]
            tokens = torch.tensor([[drawn[place]] for place in keep], device=mask.device)
            mask = torch.cat([mask, mask.new_ones(len(keep), 1)], dim=1)
            logits = self._forward(tokens, mask, mask.sum(1, keepdim=True) - 1, cache)

    def _read(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
        """Logits after each prompt (rows, vocabulary), the padding mask (rows, width), the keys and values.

        Equal prompts, as at the first turn of a group, are read once, and what was kept is not read again.
        """
        device = self.model.device
        different = list(dict.fromkeys(map(tuple, prompts)))
        place = {ids: row for row, ids in enumerate(different)}
        cache, known = self._recall(different)
        new = [ids[length:] for ids, length in zip(different, known, strict=True)]
        filler = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        tokens = _left_padded(new, filler).to(device)
        masks = [_left_padded([[1] * length for length in part], 0) for part in (known, list(map(len, new)))]
        mask = torch.cat(masks, dim=1).to(device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        logits = self._forward(tokens, mask, positions, cache)
        spread = torch.tensor([place[tuple(ids)] for ids in prompts], device=device)
        cache.batch_select_indices(spread)
        return logits[spread], mask[spread], cache

    def _recall(self, prompts: Sequence[Sequence[int]]) -> tuple[DynamicCache, list[int]]:
        """The keys and values of what was read before, and how many tokens of each prompt that is."""
        cache = DynamicCache(config=self.model.config)
        if not self.pasts:
            return cache, [0] * len(prompts)
        found = [max(((past.shared(ids), past) for past in self.pasts), key=lambda pair: pair[0]) for ids in prompts]
        width = max(length for length, _ in found)
        for number in range(len(self.pasts[0].layers) if width else 0):
            keys, values = (
                torch.stack(
                    [pad(past.layers[number][i][:, :length], (0, 0, width - length, 0)) for length, past in found]
                )
                for i in (0, 1)
            )
            cache.update(keys, values, number)
        return cache, [length for length, _ in found]

    def _keep(self, cache: DynamicCache, place: int, mask: torch.Tensor, ids: Sequence[int]) -> None:
        """Remembers a finished row: its last token was drawn and never read."""
        if self.pasts.maxlen and all(layer.is_croppable for layer in cache.layers):
            read = mask[place].bool()
            layers = [(layer.keys[place][:, read], layer.values[place][:, read]) for layer in cache.layers]
            self.pasts.append(Past(list(ids[: int(read.sum())]), layers))

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

    def draw(self, logits: torch.Tensor, draws: Sequence[random.Random]) -> list[int]:
        """One token a row, by inverting the distribution function at one uniform number of the row's own.

        logits: (rows, vocabulary).
        """
        if self.temperature == 0:
            greedy: list[int] = logits.argmax(-1).tolist()
            return greedy
        uniform = torch.tensor([draw.random() for draw in draws], dtype=torch.float64, device=logits.device)
        cumulated = torch.softmax(logits.double() / self.temperature, -1).cumsum(-1)
        places = torch.searchsorted(cumulated, uniform[:, None] * cumulated[:, -1:], right=True)
        drawn: list[int] = places[:, 0].clamp(max=logits.shape[-1] - 1).tolist()
        return drawn


def _left_padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """(rows, width of the longest)."""
    width = max(map(len, rows))
    return torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)


def _load(
    name_or_path: str | Path, adapter: str | Path | None, device: str, load_in_4bit: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    options: dict[str, Any] = {"dtype": torch.float32 if device == "cpu" else torch.bfloat16}
    if load_in_4bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=options["dtype"]
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        model = AutoModelForCausalLM.from_pretrained(name_or_path, device_map=device, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"model {str(name_or_path)!r} cannot be loaded: {reason}; name a folder or a model") from error
    if device == "cpu" and not load_in_4bit and model.num_parameters() >= _SMALL and bfloat16_is_faster(device):
        model = model.to(torch.bfloat16)
    if adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, str(adapter))
        except (OSError, ValueError) as error:
            raise InputError(f"adapter {str(adapter)!r} cannot be loaded on {name_or_path}: {error}") from error
    return model, tokenizer


def bfloat16_is_faster(device: str) -> bool:
    """Than float32: on a GPU, and on a CPU with instructions for it (SmolLM2 on Zen 4: 1.8 times in decoding)."""
    cpu = Path("/proc/cpuinfo")
    return device != "cpu" or (cpu.exists() and _BFLOAT16.search(cpu.read_text()) is not None)


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a turn, by the tokenizer and by the model's generation settings."""
    ends = {tokenizer.eos_token_id}
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends |= set(configured) if isinstance(configured, list) else {configured}
    return frozenset(end for end in ends if end is not None)
