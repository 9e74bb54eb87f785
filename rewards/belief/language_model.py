"""The belief of a language model: it reads the view, reasons briefly, and gives probabilities."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Literal, Protocol

from pydantic import Field

from devnull.agents.agent import Message, Request
from devnull.rewards.belief.judge_prompt import (
    MalformedAnswer,
    ask_json,
    ask_letter,
    ask_reason,
    case,
    distribution,
    endings,
    read_json,
)
from devnull.rewards.belief.table import Belief
from devnull.rewards.costs import Ledger
from devnull.rewards.views import View
from devnull.sandbox.command import Frozen
from devnull.sandbox.task import Instance, Task


class ModelBelief(Frozen):
    """A language model as the evaluator: any local one, or one behind an OpenAI-compatible endpoint."""

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


class Voice(Protocol):
    """A language model as a judge needs it."""

    def say(self, request: Request) -> tuple[str, int]:
        """The answer and its tokens, those of the prompt included. Raises `InfrastructureError`."""
        ...

    def letters(self, messages: Sequence[Message], letters: Sequence[str]) -> Mapping[str, float]:
        """Probability of each letter as the next token, among all tokens."""
        ...


class Answer(Frozen):
    """What a model made of one view: kept, so that no view is paid for twice, in this run or the next."""

    question: str
    """Digest of the judge's config, the task's name and the view as the judge reads it."""
    belief: Belief | None
    """`None`: no answer could be read within the retries."""
    problem: str = ""
    reasoning: str = ""
    """All that it said, the last time it was asked."""


class ModelJudge:
    """Asks the model once for each view it has not met; counts what it cost and what could not be read."""

    def __init__(
        self,
        config: ModelBelief,
        ledger: Ledger,
        voice: Voice | None = None,
        answers: Iterable[Answer] = (),
        remember: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        """`answers`: of an earlier run. `remember` is called with each new one."""
        self.config, self.ledger, self.voice, self.remember = config, ledger, voice, remember
        self.lock = Lock()
        self.answers = {answer.question: answer for answer in answers}

    def __call__(self, task: Task, view: View) -> Belief:
        """Raises `MalformedAnswer` once the retries are spent, and again for the same view."""
        answer = self.answer(task, view)
        if answer.belief is None:
            raise MalformedAnswer(answer.problem)
        return answer.belief

    def answer(self, task: Task, view: View) -> Answer:
        """The belief with the reasoning that led to it."""
        question = self.digest(task, view)
        if question not in self.answers:
            answer = self.ask(question, task, view)
            with self.lock:
                self.answers[question] = answer
                self.remember(answer)
        return self.answers[question]

    def digest(self, task: Task, view: View) -> str:
        """Views that read the same are one question."""
        text = f"{self.config.model_dump_json()}{task.name}{case(task, view)}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def prepare(self, cases: Iterable[tuple[Task, View]], workers: int) -> Iterator[Answer]:
        """Answers to many views, each asked once, `workers` at a time (an endpoint serves several)."""
        with self.lock:
            if self.voice is None:
                self.voice = _opened(self.config)
        distinct = {self.digest(task, view): (task, view) for task, view in cases}
        with ThreadPoolExecutor(workers, thread_name_prefix="judge") as pool:
            yield from pool.map(lambda case: self.answer(*case), distinct.values())

    def ask(self, question: str, task: Task, view: View) -> Answer:
        """The first answer that can be read, or what was wrong with the last."""
        if self.voice is None:
            self.voice = _opened(self.config)
        tries = 1 + (self.config.retries if self.config.temperature > 0 else 0)
        problem, said = "", ""
        for attempt in range(tries):
            said, belief, problem = self.once(self.voice, task, view, attempt)
            if belief is not None:
                return Answer(question=question, belief=belief, reasoning=said)
        problem = f"judge {self.config.model!r}: {tries} answers that cannot be read, the last: {problem}"
        return Answer(question=question, belief=None, problem=problem, reasoning=said)

    def once(self, voice: Voice, task: Task, view: View, attempt: int) -> tuple[str, Belief | None, str]:
        """What it said, the belief in it, or what is wrong with it."""
        question = ask_json(task, view) if self.config.answer == "json" else ask_reason(task, view)
        digest = hashlib.sha256(f"{question}{attempt}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big") >> 1
        text, tokens = voice.say(Request(question, Instance(task=task, seed=seed), seed, attempt))
        self.count(tokens)
        try:
            if self.config.answer == "json":
                return text, read_json(task, text), ""
            return text, self.scored(voice, task, question, text), ""
        except MalformedAnswer as error:
            with self.lock:
                self.ledger.malformed += 1
            return text, None, str(error)

    def scored(self, voice: Voice, task: Task, question: Sequence[Message], reasoning: str) -> Belief:
        """By the scores of one letter for each stage."""
        stages = {}
        for stage in task.stages:
            letters = tuple(endings(stage))
            mass = voice.letters(ask_letter(question, reasoning, stage), letters)
            self.count(0)
            total = math.fsum(mass.values())
            if not total >= max(self.config.min_mass, 1e-12):
                raise MalformedAnswer(f"{stage.name}: the letters {', '.join(letters)} have {total:.2g} of the scores")
            stages[stage.name] = distribution(stage, {letter: p / total for letter, p in mass.items()}, slack=1e-6)
        return Belief(stages=stages)

    def count(self, tokens: int) -> None:
        with self.lock:
            self.ledger.judge_calls += 1
            self.ledger.judge_tokens += tokens


def _opened(config: ModelBelief) -> Voice:
    from devnull.rewards.belief.judge_client import open_voice  # torch and openai load only where a model judges

    return open_voice(config)
