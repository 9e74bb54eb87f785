"""Language models for the judge: the agents' own, local or behind an endpoint, with the scores of their next token."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch

from devnull.agents.agent import Message, Request
from devnull.agents.local import LocalModel
from devnull.rewards.belief.language_model import ModelBelief, Voice
from devnull.sandbox.errors import InfrastructureError, InputError


@lru_cache(maxsize=2)
def _local_model(name: str, temperature: float, tokens: int) -> LocalModel:
    return LocalModel(name, temperature=temperature, max_new_tokens=tokens, batch_size=1)


def open_voice(config: ModelBelief) -> Voice:
    """Loads the model, or opens the endpoint. Raises `InputError`."""
    if config.endpoint is None:
        return LocalVoice(_local_model(config.model, config.temperature, config.reasoning_tokens))
    if importlib.util.find_spec("openai") is None:
        raise InputError("a judge behind an endpoint wants the package openai; pip install 'devnull[api]'")
    return EndpointVoice(config)


class LocalVoice:
    """A Hugging Face causal language model in this process."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model

    def say(self, request: Request) -> tuple[str, int]:
        reply = self.model.respond([request])[0]
        if reply.ended:
            raise InputError(
                f"judge {self.model.name}: a view of {reply.prompt_tokens} tokens fills its context of "
                f"{self.model.context}; use a model with more, or sensors with tail_lines"
            )
        return reply.text, reply.prompt_tokens + reply.completion_tokens

    def letters(self, messages: Sequence[Message], letters: Sequence[str]) -> Mapping[str, float]:
        model, tokenizer = self.model.model, self.model.tokenizer
        ids = self.model.encode(messages)[-self.model.context :]
        training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                scores = model(torch.tensor([ids], device=model.device), logits_to_keep=1).logits[0, -1]
        finally:
            model.train(training)
        chances = torch.softmax(scores.double(), -1)
        found = {}
        for letter in letters:
            forms = {tuple(tokenizer.encode(form, add_special_tokens=False)) for form in (letter, f" {letter}")}
            found[letter] = sum(float(chances[form[0]]) for form in forms if len(form) == 1)
        return found


class EndpointVoice:
    """An OpenAI-compatible endpoint that gives log probabilities, where scores are wanted."""

    def __init__(self, config: ModelBelief) -> None:
        from devnull.agents.endpoint import Endpoint

        self.agent = Endpoint(
            config.model, config.endpoint, temperature=config.temperature, max_new_tokens=config.reasoning_tokens
        )

    def say(self, request: Request) -> tuple[str, int]:
        reply = self.agent.reply(request)
        if reply.error is not None:
            raise reply.error
        if reply.ended:
            raise InputError(f"judge {self.agent.name}: the view does not fit its context; use sensors with tail_lines")
        return reply.text, reply.prompt_tokens + reply.completion_tokens

    def letters(self, messages: Sequence[Message], letters: Sequence[str]) -> Mapping[str, float]:
        import openai

        try:
            completion = self.agent.client.chat.completions.create(
                model=self.agent.model,
                messages=list(messages),
                temperature=0,
                logprobs=True,
                top_logprobs=20,
                **{self.agent.limit_name: 1},
            )
        except openai.BadRequestError as error:
            raise InputError(
                f"{self.agent.url} gives no log probabilities: {error.message}; set answer = 'json'"
            ) from None
        except openai.APIError as error:
            raise InfrastructureError(f"{self.agent.url}: {error.message}") from error
        scores = completion.choices[0].logprobs if completion.choices else None
        if scores is None or not scores.content:
            raise InputError(f"{self.agent.url} gives no log probabilities; set answer = 'json'")
        found = dict.fromkeys(letters, 0.0)
        for entry in scores.content[0].top_logprobs:
            if entry.token.strip() in found:
                found[entry.token.strip()] += math.exp(entry.logprob)
        return found
