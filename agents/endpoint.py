"""A model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, Ollama, or a hosted one."""

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from devnull.agents.agent import Reply, Request
from devnull.agents.reasoning import split_tagged
from devnull.agents.tool_calls import BASH_TOOL, as_fenced_block, with_tool_calls
from devnull.sandbox.errors import InfrastructureError, InputError

Protocol = Literal["fenced", "tools"]
"""How a model says what to run: in a ```bash block, or by a call of the tool `bash`."""
_CONTEXT_FULL = ("context_length_exceeded", "context length", "context size")
"""How servers say that the conversation no longer fits (OpenAI, vLLM, llama.cpp)."""


class EndpointError(InfrastructureError):
    """The endpoint did not answer, after the client's own retries."""


class Endpoint:
    """Agent that asks for all replies of a batch at once, each with its request's seed; how far the server honours
    the seed is the server's affair, so same seed, same episode holds only as far as it does.

    Args:
        model: Its name at the endpoint.
        base_url: Ends in `/v1` as a rule; without one, the hosted service of OpenAI.
        api_key: By default the variable `OPENAI_API_KEY`, which local servers ignore.
        temperature: Of sampling; 0 is greedy.
        max_new_tokens: Of one message.
        protocol: How the model says what to run.
        price: Dollars for a million tokens read and for a million generated, where the server names no cost itself.
        timeout: Seconds to wait for one reply.
        retries: How often the client asks again before the request counts as failed: after a time that doubles, or
            that a rate limit's `Retry-After` names.
        concurrency: Requests at once.

    Raises `InputError` where the hosted service has no key.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        temperature: float = 1.0,
        max_new_tokens: int = 4096,
        protocol: Protocol = "fenced",
        price: tuple[float, float] = (0.0, 0.0),
        timeout: float = 600.0,
        retries: int = 8,
        concurrency: int = 32,
    ) -> None:
        try:
            self.client = openai.OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=retries)
        except openai.OpenAIError:
            if base_url is None:
                raise InputError("no OPENAI_API_KEY for the hosted endpoint; set it, or give a URL") from None
            self.client = openai.OpenAI(base_url=base_url, api_key="none", timeout=timeout, max_retries=retries)
        weakref.finalize(self, self.client.close)
        self.url = str(self.client.base_url).rstrip("/")
        self.model, self.temperature, self.max_new_tokens = model, temperature, max_new_tokens
        self.protocol, self.price = protocol, price
        self.limit_name = "max_tokens"
        """The request's key that limits new tokens."""
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="endpoint")

    @property
    def name(self) -> str:
        """`openai:` and the model."""
        return f"openai:{self.model}"

    def respond(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """A request that fails for good carries its `EndpointError`; what the user must mend raises `InputError`."""
        return list(self._pool.map(self._reply, requests))

    def _reply(self, request: Request) -> Reply:
        limit = self.limit_name
        try:
            completion = self._complete(request, limit)
        except openai.BadRequestError as error:
            if limit == "max_tokens" and "max_completion_tokens" in error.message:
                self.limit_name = "max_completion_tokens"  # what hosted reasoning models want instead
                return self._reply(request)
            if any(sign in str(error) for sign in _CONTEXT_FULL):
                return Reply("", ended=True)
            raise InputError(f"{self.url} refuses the request for {self.model!r}: {error.message}") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise InputError(f"{self.url} refuses the key: {error.message}; set OPENAI_API_KEY") from error
        except openai.NotFoundError as error:
            raise InputError(f"{self.url} has no model {self.model!r}{self._offered_models()}") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            return Reply("", error=EndpointError(f"{self.url} does not answer ({cause}); is the server running?"))
        except openai.APIError as error:
            return Reply("", error=EndpointError(f"{self.url}: {error.message}"))
        if not completion.choices:
            return Reply("", error=EndpointError(f"{self.url}: a completion without choices"))
        text, reasoning = self._read(completion.choices[0].message)
        usage = completion.usage
        if usage is None:
            return Reply(text, reasoning=reasoning)
        read, written = usage.prompt_tokens, usage.completion_tokens
        return Reply(text, read, written, reasoning=reasoning, dollars=self._dollars(usage))

    def _read(self, message: ChatCompletionMessage) -> tuple[str, str]:
        """The message as a transcript holds it, and the reasoning, in whichever of its places the server put it."""
        text, tagged = split_tagged(message.content or "")
        beside = message.model_extra or {}
        thoughts = [beside.get("reasoning_content") or beside.get("reasoning") or "", tagged]
        if self.protocol == "tools" and message.tool_calls:
            calls = [call.function for call in message.tool_calls if call.type == "function"]
            thoughts.append(text)  # said beside the call
            text = "\n".join(as_fenced_block(call.name, call.arguments) for call in calls)
        return text, "\n\n".join(str(thought).strip() for thought in thoughts if thought)

    def _dollars(self, usage: CompletionUsage) -> float:
        named = (usage.model_extra or {}).get("cost")
        if isinstance(named, int | float):
            return float(named)
        read, written = self.price
        dollars: float = (usage.prompt_tokens * read + usage.completion_tokens * written) / 1e6
        return dollars

    def _complete(self, request: Request, limit: str) -> ChatCompletion:
        asked: dict[str, Any] = {"messages": list(request.messages), limit: self.max_new_tokens}
        if self.protocol == "tools":
            asked |= {"messages": with_tool_calls(request.messages), "tools": [BASH_TOOL]}
        completion: ChatCompletion = self.client.chat.completions.create(
            model=self.model, temperature=self.temperature, seed=request.seed, **asked
        )
        return completion

    def _offered_models(self) -> str:
        """The end of an error message: the models that the endpoint lists, or what to check."""
        try:
            names = [model.id for model in self.client.models.list()]
        except openai.OpenAIError:
            return "; check the model's name and the URL, which ends in /v1 as a rule"
        return f"; it offers {', '.join(names) or 'none'}"
