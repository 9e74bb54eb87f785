"""A language model as the evaluator: it reads the view, reasons briefly, and gives probabilities."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from devnull.agents.agent import Message, Request
from devnull.rewards.belief.belief import Belief
from devnull.rewards.belief.judge_client import JudgeClient, open_judge_client
from devnull.rewards.belief.judge_prompt import (
    MalformedAnswer,
    describe_view,
    ending_letters,
    json_prompt,
    letter_prompt,
    parse_distribution,
    parse_json_belief,
    reasoning_prompt,
)
from devnull.rewards.belief.language_model import ModelBelief
from devnull.rewards.costs import FeedbackCosts
from devnull.rewards.views import View
from devnull.sandbox.frozen import Frozen
from devnull.sandbox.task import Instance, Task


class JudgeAnswer(Frozen):
    """A model's answer about one view. Kept on disk, so that no view is asked about twice, in this run or the next."""

    question: str
    """Digest of the judge's config, the task's name and the view as the judge reads it (`ModelJudge.digest`)."""
    belief: Belief | None
    """`None`: no answer could be read within the retries."""
    problem: str = ""
    """What was wrong with the last answer, where `belief` is `None`."""
    reasoning: str = ""
    """The whole reply to the last request."""


class ModelJudge:
    """Asks the model once about each view it has not met. Called with a task and a view, it gives the belief.

    Counts its calls, tokens and malformed answers in `costs`.

        judge = ModelJudge(ModelBelief(model="Qwen/Qwen2.5-0.5B-Instruct"), FeedbackCosts())
        belief = judge(task, view)
    """

    def __init__(
        self,
        config: ModelBelief,
        costs: FeedbackCosts,
        client: JudgeClient | None = None,
        answers: Iterable[JudgeAnswer] = (),
        save_answer: Callable[[JudgeAnswer], None] = lambda _: None,
    ) -> None:
        """`client`: the model; left out, the one that `config` names is opened when it is first needed. `answers`: of
        an earlier run. `save_answer` is called with each new one."""
        self.config, self.costs = config, costs
        self._client, self._save_answer = client, save_answer
        self._lock = Lock()
        self._answers = {answer.question: answer for answer in answers}

    def __call__(self, task: Task, view: View) -> Belief:
        """Raises `MalformedAnswer` once the retries are spent, and again for the same view."""
        answer = self.answer(task, view)
        if answer.belief is None:
            raise MalformedAnswer(answer.problem)
        return answer.belief

    def answer(self, task: Task, view: View) -> JudgeAnswer:
        """The belief with the reasoning that led to it; asks the model unless it was asked before."""
        question = self.digest(task, view)
        if question not in self._answers:
            answer = self._ask(question, task, view)
            with self._lock:
                self._answers[question] = answer
                self._save_answer(answer)
        return self._answers[question]

    def answer_all(self, cases: Iterable[tuple[Task, View]], workers: int) -> Iterator[JudgeAnswer]:
        """Answers about many views, each asked once, `workers` at a time (an endpoint serves several)."""
        self._open_client()
        distinct = {self.digest(task, view): (task, view) for task, view in cases}
        with ThreadPoolExecutor(workers, thread_name_prefix="judge") as pool:
            yield from pool.map(lambda case: self.answer(*case), distinct.values())

    def digest(self, task: Task, view: View) -> str:
        """Names the question that a view is: views that read the same have the same digest."""
        text = f"{self.config.model_dump_json()}{task.name}{describe_view(task, view)}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _open_client(self) -> JudgeClient:
        with self._lock:
            if self._client is None:
                self._client = open_judge_client(self.config)
            return self._client

    def _ask(self, question: str, task: Task, view: View) -> JudgeAnswer:
        """The first answer that can be read, or what was wrong with the last."""
        client = self._open_client()
        tries = 1 + (self.config.retries if self.config.temperature > 0 else 0)
        problem, reply = "", ""
        for attempt in range(tries):
            reply, belief, problem = self._ask_once(client, task, view, attempt)
            if belief is not None:
                return JudgeAnswer(question=question, belief=belief, reasoning=reply)
        problem = f"judge {self.config.model!r}: {tries} answers that cannot be read, the last: {problem}"
        return JudgeAnswer(question=question, belief=None, problem=problem, reasoning=reply)

    def _ask_once(self, client: JudgeClient, task: Task, view: View, attempt: int) -> tuple[str, Belief | None, str]:
        """The model's reply, and the belief in it or what is wrong with it."""
        prompt = json_prompt(task, view) if self.config.answer == "json" else reasoning_prompt(task, view)
        digest = hashlib.sha256(f"{prompt}{attempt}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big") >> 1
        reply, tokens = client.generate(Request(prompt, Instance(task=task, seed=seed), seed, attempt))
        self._count_call(tokens)
        try:
            if self.config.answer == "json":
                return reply, parse_json_belief(task, reply), ""
            return reply, self._belief_by_scores(client, task, prompt, reply), ""
        except MalformedAnswer as error:
            with self._lock:
                self.costs.malformed += 1
            return reply, None, str(error)

    def _belief_by_scores(self, client: JudgeClient, task: Task, prompt: Sequence[Message], reasoning: str) -> Belief:
        """By the probabilities of the answer letters as the next token, for each stage."""
        stages = {}
        for stage in task.stages:
            letters = tuple(ending_letters(stage))
            mass = client.letter_probabilities(letter_prompt(prompt, reasoning, stage), letters)
            self._count_call(0)
            total = math.fsum(mass.values())
            if not total >= max(self.config.min_mass, 1e-12):
                raise MalformedAnswer(f"{stage.name}: the letters {', '.join(letters)} have {total:.2g} of the scores")
            stages[stage.name] = parse_distribution(
                stage, {letter: p / total for letter, p in mass.items()}, slack=1e-6
            )
        return Belief(stages=stages)

    def _count_call(self, tokens: int) -> None:
        with self._lock:
            self.costs.judge_calls += 1
            self.costs.judge_tokens += tokens
