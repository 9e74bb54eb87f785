"""A reward model of whole episodes from preferences (Bradley-Terry), plain or marginalised over what was believed.

Belief-marginalised (Lang et al. 2024, sec. 5): an evaluator who compares what it believes happened has
P(a > b) = σ(β (Σ_h B(h|o_a) r(a, h) - Σ_h B(h|o_b) r(b, h))). The head scores the agent's messages with one
hypothesis h at the end, and must not see the terminal: if it sees the observation too, r is not identified
(r(worked) - r(failed) came out as +6.6 without it and -1.2 with it).
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from devnull.agents.agent import Message
from devnull.agents.episode import Episode
from devnull.agents.protocol import Report, parse
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.feedback.annotations import hypotheses, told
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task
from devnull.training.data import encode, keep_fitting
from devnull.training.models import Policy
from devnull.training.settings import RewardSettings as RewardSettings
from devnull.training.trl_run import (
    NOTHING,
    About,
    OnStep,
    TrainResult,
    Watch,
    context_limit,
    fit,
    prepare,
    trl_arguments,
)

_LEARNING_RATE = {"full": 1e-3, "lora": 5e-4}
_SIDES = ("chosen", "rejected")

Weighed = tuple[tuple[tuple[Message, ...], float], ...]
"""Conversations to score and the weight of each; the weights add up to 1."""


@dataclass(frozen=True)
class Comparison:
    """One preference as a reward model meets it."""

    chosen: Weighed
    rejected: Weighed
    preference: Preference


def plain(preferences: Iterable[Preference]) -> list[Comparison]:
    """Each side is its conversation, annotated or not, as the preference holds it."""
    return [Comparison((((*p.prompt, *p.chosen), 1.0),), (((*p.prompt, *p.rejected), 1.0),), p) for p in preferences]


def marginal(
    preferences: Iterable[Preference],
    episodes: Iterable[Episode],
    evaluator: Evaluator,
    tasks: Mapping[str, Task],
    least: float = 0.01,
) -> list[Comparison]:
    """Each side is what the agent said, once with each ending that the evaluator held for possible."""
    known = {episode.key: episode for episode in episodes}
    members = {member.name: member for member in evaluator.members}

    def side(preference: Preference, name: str) -> Weighed:
        key = preference.chosen_key if name == "chosen" else preference.rejected_key
        if key not in known:
            raise InputError(f"a preference speaks of the episode {key}, which the run does not hold")
        episode, task = known[key], tasks[known[key].task]
        member = members[preference.evaluator]
        judged = evaluator.judge(task, episode.transcript, seed=episode.stream, member=member, audit=preference.audited)
        chat = (*preference.prompt, *(preference.chosen if name == "chosen" else preference.rejected))
        return tuple(
            (with_hypothesis(chat, told(task, h.truths)), h.probability) for h in hypotheses(task, judged.belief, least)
        )

    return [Comparison(side(p, "chosen"), side(p, "rejected"), p) for p in preferences]


def with_hypothesis(chat: Sequence[Message], ending: str) -> tuple[Message, ...]:
    """The prompt, what the agent did and the ending; nothing that was shown, nor the report that repeats it."""
    said = [message for message in chat[2:] if message["role"] == "assistant"]
    said = [message for message in said if not isinstance(parse(message["content"], tolerant=True), Report)]
    return (*chat[:2], *said, Message(role="user", content=f"What happened: {ending}"))


@dataclass
class WeighedCollator(DataCollatorForPreference):  # type: ignore[misc]
    """Flattens the conversations of all sides into one batch: all chosen ones, then all rejected ones."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        flat: dict[str, list[list[int]]] = {side: [] for side in _SIDES}
        sides, weights = [], []
        for number, (side, example) in enumerate((side, example) for side in _SIDES for example in examples):
            flat[side] += example[f"{side}_ids"]
            weights += example[f"{side}_weights"]
            sides += [number] * len(example[f"{side}_ids"])
        rows = [torch.tensor(ids) for side in _SIDES for ids in flat[side]]
        return {
            "input_ids": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            "side": torch.tensor(sides),
            "weight": torch.tensor(weights, dtype=torch.float32),
        }


class WeighedRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """Bradley-Terry on each side's expected reward; one conversation of weight 1 a side is the plain model."""

    rationality = 1.0

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [f"{side}_{what}" for side in _SIDES for what in ("ids", "weights")]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        side, weight = inputs.pop("side"), inputs.pop("weight")
        outputs = model(**inputs, use_cache=False)
        scores = outputs.logits.squeeze(-1).float() * weight
        value = torch.zeros(int(side.max()) + 1, device=scores.device).index_add(0, side, scores)
        chosen, rejected = value.chunk(2)
        margin = chosen - rejected
        loss = -torch.nn.functional.logsigmoid(self.rationality * margin).mean()
        measured = self._metrics["train" if self.model.training else "eval"]
        measured["accuracy"].append((margin > 0).float().mean().item())
        measured["margin"].append(margin.mean().item())
        return (loss, outputs) if return_outputs else loss


def train_reward(
    settings: RewardSettings,
    comparisons: Sequence[Comparison],
    model_path: str | Path,
    out: Path,
    *,
    about: About = NOTHING,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Trains a reward model; `metrics` then holds what it got right on the pairs kept back.

    `held_out/accuracy`; `held_out/calibration`, the mean distance of its choice probabilities from the
    evaluator's own; `held_out/corr_G` and `held_out/corr_G_obs`, Pearson's with the true and the believed return.
    """
    if settings.adaptation == "qlora":
        raise InputError("a reward model trains with full weights or lora; its new head does not live in 4 bits")
    policy = prepare(settings, model_path, dtype="float32")  # the new head learns in it
    model = scoring_model(policy)
    limit = context_limit(settings, policy)
    rows, kept = _compare_rows(comparisons, policy.tokenizer, limit, settings)
    order = list(range(len(rows)))
    random.Random(settings.seed).shuffle(order)
    back = max(1, round(settings.held_out * len(rows))) if settings.held_out else 0
    if back >= len(rows):
        raise InputError(f"{len(rows)} pairs are too few to keep {settings.held_out:.0%} back for measuring")
    held, used = order[:back], order[back:]
    trainer = WeighedRewardTrainer(
        model=model,
        args=RewardConfig(
            **trl_arguments(settings, policy, out, _LEARNING_RATE[policy.adaptation]),
            max_length=None,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
        ),
        train_dataset=Dataset.from_list([rows[i] for i in used]),
        processing_class=policy.tokenizer,
        peft_config=None
        if policy.adaptation == "full"
        else LoraConfig(
            r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, target_modules="all-linear", task_type="SEQ_CLS"
        ),
        data_collator=WeighedCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[Watch(on_step)],
    )
    trainer.rationality = settings.rationality

    def measure() -> dict[str, float]:
        return _held_out_metrics(
            trainer.accelerator.unwrap_model(trainer.model), policy, [kept[i] for i in held], settings
        )

    facts = {
        **about,
        "pairs": len(used),
        "pairs kept back": back,
        "annotations": kept[0].preference.annotations,
        "marginalised": any(len(comparison.chosen) > 1 for comparison in kept),
    }
    return fit(trainer, settings, policy, out, kind="reward", facts=facts, measure=measure)


def scoring_model(policy: Policy) -> Any:
    """The policy's body with a new head that gives a number, read at the last token before the padding."""
    model = AutoModelForSequenceClassification.from_pretrained(
        policy.model.config._name_or_path, num_labels=1, dtype=policy.model.dtype
    )
    model.model.load_state_dict(policy.model.model.state_dict())
    model.config.pad_token_id = policy.tokenizer.pad_token_id
    return model


def _compare_rows(
    comparisons: Sequence[Comparison], tokenizer: Any, limit: int, settings: RewardSettings
) -> tuple[list[dict[str, Any]], list[Comparison]]:
    """Token rows, and the comparison of each, of the pairs that say something and fit."""
    rows: list[dict[str, Any]] = []
    for comparison in comparisons:
        row: dict[str, Any] = {"comparison": comparison}
        for side, weighed in ((name, getattr(comparison, name)) for name in _SIDES):
            row[f"{side}_ids"] = [encode(tokenizer, chat).ids for chat, _ in weighed]
            row[f"{side}_weights"] = [weight for _, weight in weighed]
        if row["chosen_ids"] != row["rejected_ids"] or row["chosen_weights"] != row["rejected_weights"]:
            rows.append(row)
    if not rows:
        raise InputError(
            f"none of the {len(comparisons)} preferences tells its two sides apart, so they say nothing; "
            f"make some with `devnull label`"
        )
    lengths = [max(map(len, row["chosen_ids"] + row["rejected_ids"])) for row in rows]
    rows = keep_fitting(rows, lengths, limit, settings.too_long, "pairs")
    return rows, [row.pop("comparison") for row in rows]


def expected_scores(model: Any, tokenizer: Any, sides: Sequence[Weighed], batch: int = 16) -> list[float]:
    """Σ weight · score of each side."""
    flat = [(number, weight, encode(tokenizer, chat).ids) for number, side in enumerate(sides) for chat, weight in side]
    values = [0.0] * len(sides)
    training = model.training
    model.eval()
    for first in range(0, len(flat), batch):
        some = flat[first : first + batch]
        rows = [torch.tensor(ids) for _, _, ids in some]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        with torch.no_grad():
            scores = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits[:, 0].tolist()
        for (number, weight, _), score in zip(some, scores, strict=True):
            values[number] += weight * score
    model.train(training)
    return values


def _held_out_metrics(
    model: Any, policy: Policy, comparisons: Sequence[Comparison], settings: RewardSettings
) -> dict[str, float]:
    """What the model makes of pairs it never saw. A correlation with something constant is left out."""
    if not comparisons:
        return {}
    chosen = np.array(expected_scores(model, policy.tokenizer, [c.chosen for c in comparisons]))
    rejected = np.array(expected_scores(model, policy.tokenizer, [c.rejected for c in comparisons]))
    said = 1 / (1 + np.exp(-settings.rationality * (chosen - rejected)))
    meant = np.array([c.preference.probability for c in comparisons])
    found = {
        "held_out/pairs": float(len(comparisons)),
        "held_out/accuracy": float(np.mean(chosen > rejected)),
        "held_out/calibration": float(np.mean(np.abs(said - meant))),
    }
    scores = np.concatenate([chosen, rejected])
    for name in ("G", "G_obs"):
        returns = np.array([getattr(c.preference, f"{side}_{name}") for side in _SIDES for c in comparisons])
        if scores.std() > 0 and returns.std() > 0:
            found[f"held_out/corr_{name}"] = float(np.corrcoef(scores, returns)[0, 1])
    return found


class RewardModel:
    """A trained reward model, for scoring."""

    def __init__(self, path: Path) -> None:
        """Raises `InputError` if `path` holds no reward model."""
        try:
            kinds = AutoConfig.from_pretrained(path).architectures or []
            if not any(
                kind.endswith("ForSequenceClassification") for kind in kinds
            ):  # a head of chance would be made up
                raise ValueError(f"it is a {', '.join(kinds)}")
            self.model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1)
            self.tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            said = (str(error).strip() or repr(error)).splitlines()[0]
            raise InputError(f"{path} holds no reward model ({said}); train one: devnull train reward") from None
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def scores(self, sides: Sequence[Weighed]) -> list[float]:
        return expected_scores(self.model, self.tokenizer, sides)
