"""Clients of the language model that judges: in this process, or behind an OpenAI-compatible endpoint.

torch and openai are imported only where a client is opened.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from devnull.agents.agent import Message, Request
from devnull.rewards.belief.language_model import ModelBelief
from devnull.sandbox.errors import InfrastructureError, InputError
from devnull.sandbox.extras import require

if TYPE_CHECKING:
    from devnull.agents.local import LocalModel


class JudgeClient(Protocol):
    """A language model as `ModelJudge` needs it."""

    def generate(self, request: Request) -> tuple[str, int]:
        """The reply and its tokens, those of the prompt included. Raises `InfrastructureError`; `InputError` where the
        prompt does not fit the context."""
        ...

    def letter_probabilities(self, messages: Sequence[Message], letters: Sequence[str]) -> Mapping[str, float]:
        """Probability of each letter as the next token, among all tokens. Raises as `generate`."""
        ...


@lru_cache(maxsize=2)
def _load_local_model(name: str, temperature: float, tokens: int) -> "LocalModel":
    from devnull.agents.local import LocalModel

    return LocalModel(name, temperature=temperature, max_new_tokens=tokens, batch_size=1)


def open_judge_client(config: ModelBelief) -> JudgeClient:
    """Loads the model, or connects to the endpoint. Raises `InputError` where the model or a package is missing."""
    if config.endpoint is None:
        return LocalJudgeClient(_load_local_model(config.model, config.temperature, config.reasoning_tokens))
    require("openai", "api", "a judge behind an endpoint")
    return EndpointJudgeClient(config)


class LocalJudgeClient:
    """A Hugging Face causal language model in this process. See `JudgeClient`."""

    def __init__(self, model: "LocalModel") -> None:
        self.model = model

    def generate(self, request: Request) -> tuple[str, int]:
        reply = self.model.respond([request])[0]
        if reply.ended:
            raise InputError(
                f"judge {self.model.name}: a view of {reply.prompt_tokens} tokens fills its context of "
                f"{self.model.context}; use a model with more, or sensors with tail_lines"
            )
        return reply.text, reply.prompt_tokens + reply.completion_tokens

    def letter_probabilities(self, messages: Sequence[Message], letters: Sequence[str]) -> Mapping[str, float]:
        import torch

        model, tokenizer = self.model.model, self.model.tokenizer
        ids = self.model.encode(messages, at_once=True)[-self.model.context :]
        training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                scores = model(torch.tensor([ids], device=model.device), logits_to_keep=1).logits[0, -1]
        finally:
            model.train(training)
        chances = torch.softmax(scores.double(), -1)
        probabilities = {}
        for letter in letters:
            forms = {tuple(tokenizer.encode(form, add_special_tokens=False)) for form in (letter, f" {letter}")}
            probabilities[letter] = sum(float(chances[form[0]]) for form in forms if len(form) == 1)
        return probabilities


class EndpointJudgeClient:
    """A model behind an OpenAI-compatible endpoint; letters need its log probabilities. See `JudgeClient`."""

    def __init__(self, config: ModelBelief) -> None:
        from devnull.agents.endpoint import Endpoint

        self.endpoint = Endpoint(
            config.model, config.endpoint, temperature=config.temperature, max_new_tokens=config.reasoning_tokens
        )

    def generate(self, request: Request) -> tuple[str, int]:
        reply = self.endpoint.respond([request])[0]
        if reply.error is not None:
            raise reply.error
        if reply.ended:
            raise InputError(
                f"judge {self.endpoint.name}: the view does not fit its context; use sensors with tail_lines"
            )
        return reply.text, reply.prompt_tokens + reply.completion_tokens

    def letter_probabilities(self, messages: Sequence[Message], letters: Sequence[str]) -> Mapping[str, float]:
        import openai

        try:
            completion = self.endpoint.client.chat.completions.create(
                model=self.endpoint.model,
                messages=list(messages),
                temperature=0,
                logprobs=True,
                top_logprobs=20,
                **{self.endpoint.limit_name: 1},
            )
        except openai.BadRequestError as error:
            raise InputError(
                f"{self.endpoint.url} gives no log probabilities: {error.message}; set answer = 'json'"
            ) from None
        except openai.APIError as error:
            raise InfrastructureError(f"{self.endpoint.url}: {error.message}") from error
        scores = completion.choices[0].logprobs if completion.choices else None
        if scores is None or not scores.content:
            raise InputError(f"{self.endpoint.url} gives no log probabilities; set answer = 'json'")
        probabilities = dict.fromkeys(letters, 0.0)
        for entry in scores.content[0].top_logprobs:
            if entry.token.strip() in probabilities:
                probabilities[entry.token.strip()] += math.exp(entry.logprob)
        return probabilities
