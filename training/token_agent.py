"""The policy under training as an agent: it never tokenises its own words again.

Text that a model wrote need not tokenise back to the tokens it drew; a gradient on other tokens than the drawn
ones is not the gradient of its policy. So each episode's tokens are kept, and only what the terminal adds is new.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from devnull.agents.agent import Message, Reply, Request
from devnull.training.data import harmless, prompt_ids

Generate = Callable[[list[list[int]], list[int]], tuple[list[list[int]], list[list[float]] | None]]
"""Token ids of prompts, and the seed of each, to token ids of completions; with the log probability of each of these
where another program draws them than the one that learns (vLLM, which also heeds no seed)."""


@dataclass
class History:
    """One episode in tokens: the prompt, then what the agent drew (`mask` 1) and what the terminal said (0)."""

    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """Of what was drawn, by whatever drew it; 0 elsewhere, and where it does not say."""

    def add(self, ids: Sequence[int], *, drawn: bool, logprobs: Sequence[float] | None = None) -> None:
        self.completion.extend(ids)
        self.logprobs.extend(logprobs or [0.0] * len(ids))
        self.mask.extend([int(drawn)] * len(ids))


class TokenAgent:
    """Keeps the tokens of every live episode by `Request.episode`. One a rollout."""

    def __init__(self, generate: Generate, tokenizer: Any, context: int, name: str = "policy") -> None:
        self.generate, self.tokenizer, self.context, self.name = generate, tokenizer, context, name
        self.histories: dict[tuple[int, int], History] = {}
        self.seconds = 0.0
        """Spent in `generate`."""
        self.drawn = 0
        """Tokens generated."""

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """A reply each; an episode whose history leaves no room in the context ends."""
        prompts = [self.extend(request) for request in requests]
        replies = [Reply("", prompt_tokens=len(prompt), ended=True) for prompt in prompts]
        rows = [row for row, prompt in enumerate(prompts) if len(prompt) < self.context]
        if rows:
            begin = perf_counter()
            seeds = [requests[row].seed for row in rows]
            completions, logprobs = self.generate([prompts[row] for row in rows], seeds)
            self.seconds += perf_counter() - begin
            for place, (row, ids) in enumerate(zip(rows, completions, strict=True)):
                said = logprobs[place] if logprobs is not None else None
                self.histories[requests[row].episode].add(ids, drawn=True, logprobs=said)
                self.drawn += len(ids)
                text = self.tokenizer.decode(ids, skip_special_tokens=True)
                replies[row] = Reply(text, len(prompts[row]), len(ids))
        return replies

    def extend(self, request: Request) -> list[int]:
        """The episode's tokens up to where the agent is to speak."""
        history = self.histories.get(request.episode)
        if history is None:
            history = self.histories[request.episode] = History(prompt_ids(self.tokenizer, request.messages))
        else:
            end = self.tokenizer.eos_token_id
            if history.completion[-1] != end:  # cut at the length limit: the terminal closes the message
                history.add([end], drawn=False)
            history.add(
                self.tokenizer(self.suffix(request.messages), add_special_tokens=False)["input_ids"], drawn=False
            )
        return history.prompt + history.completion

    def suffix(self, messages: Sequence[Message]) -> str:
        """What the template puts after the end token of the agent's last message: the terminal's turn, a new header."""
        chat = harmless(self.tokenizer, messages)
        end = self.tokenizer.eos_token
        said = self.tokenizer.apply_chat_template(chat[:-1], tokenize=False)
        whole = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return str(whole[said.rindex(end) + len(end) :])

    def unplayed(self, messages: Sequence[Message]) -> History:
        """A row for an episode that the world broke."""
        return self.silent(prompt_ids(self.tokenizer, messages))

    def silent(self, prompt: list[int]) -> History:
        """Nothing was said: TRL wants a token, and with mask 0 nothing is learnt from it."""
        return History(prompt, [self.tokenizer.eos_token_id], [0], [0.0])

    def trained(self, episode: tuple[int, int]) -> History:
        """The finished episode, without what came after the agent's last token."""
        history = self.histories[episode]
        length = len(history.mask) - next((i for i, mine in enumerate(reversed(history.mask)) if mine), 0)
        if not any(history.mask):
            return self.silent(history.prompt)
        return History(history.prompt, history.completion[:length], history.mask[:length], history.logprobs[:length])
