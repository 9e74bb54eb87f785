"""Settings of a language model that judges."""

from typing import Literal

from pydantic import Field

from devnull.sandbox.frozen import Frozen


class ModelBelief(Frozen):
    """A language model as the evaluator: a local one, or one behind an OpenAI-compatible endpoint.

    `devnull.rewards.belief.model_judge.ModelJudge` makes beliefs by it.

        ModelBelief(model="Qwen/Qwen2.5-0.5B-Instruct", answer="scores")
    """

    kind: Literal["model"] = "model"
    model: str
    """Hugging Face name or folder; with `endpoint`, the name the endpoint gives it."""
    endpoint: str | None = None
    """URL that ends in `/v1` as a rule; its key is `OPENAI_API_KEY`."""
    answer: Literal["json", "scores"] = "json"
    """Probabilities written as JSON, or read from the scores of one answer token a stage."""
    reasoning_tokens: int = Field(default=192, ge=1)
    """Most tokens of an answer in JSON, or of the reasoning before the scores."""
    temperature: float = Field(default=0.7, ge=0)
    """At 0 an answer that cannot be read is not asked for again: it would be the same."""
    retries: int = Field(default=2, ge=0)
    """How often it is asked again, with another seed, after an answer that cannot be read."""
    min_mass: float = Field(default=0.05, ge=0, le=1)
    """By scores: least probability that the letters must have among all tokens, else it is no answer."""
