"""A reward model of whole episodes from preferences (Bradley-Terry): a language model with a head of one number."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig

from devnull.agents.agent import Message
from devnull.agents.model_loading import first_line
from devnull.sandbox.errors import InputError
from devnull.training.memory import StepSize
from devnull.training.model_card import NO_FACTS, CardFacts
from devnull.training.models import LoadedPolicy
from devnull.training.processes import own_device
from devnull.training.reward_head import fit_head
from devnull.training.reward_scoring import expected_scores, make_scoring_model
from devnull.training.reward_trainer import PromptSampler, WeightedPreferenceCollator, WeightedRewardTrainer
from devnull.training.settings import RewardSettings
from devnull.training.train_result import TrainResult
from devnull.training.trl_run import (
    ProgressCallback,
    StepCallback,
    context_limit,
    load_for_training,
    run_trainer,
    trl_arguments,
)
from devnull.training.weighted_preferences import SIDES, WeightedConversations, WeightedPreference, reward_rows


@dataclass(frozen=True)
class Failure:
    """An episode that failed, as a reward model reads it."""

    prompt: tuple[Message, ...]
    """Its first two messages."""
    hidden: bool
    """The failure was kept off the terminal."""
    readings: Mapping[str, WeightedConversations]
    """What is scored, by what fills the slot of the ending: `truth`, `believed`; `none` where there is no slot."""


def train_reward(
    settings: RewardSettings,
    preferences: Sequence[WeightedPreference],
    model_path: str | Path,
    out: Path,
    *,
    failures: Sequence[Failure] = (),
    card_facts: CardFacts = NO_FACTS,
    on_step: StepCallback | None = None,
) -> TrainResult:
    """Trains a reward model, which the folder `out` then holds, and measures it on the pairs kept back.

    Logged while training, means over the batch:

    | metric | is |
    | --- | --- |
    | `loss` | -log σ(β (score of the chosen side - score of the rejected side)) |
    | `accuracy` | share of pairs whose chosen side has the higher score |
    | `margin` | score of the chosen side less the rejected one's |

    At the end, on the pairs kept back (share `settings.held_out`; with `by_prompt` of the prompts, so that neither
    pairs nor failures of a prompt that was learnt from are counted):

    | metric | is |
    | --- | --- |
    | `calibration_error` | as `held_out/calibration` |
    | `hidden_gap/SLOT` | mean score of `failures` that were hidden less that of those shown (with SLOT in it) |
    | `head/log_likelihood`, `head/gradient` | with `fit_head`: per comparison (`devnull.training.reward_head`) |
    | `held_out/pairs` | how many |
    | `held_out/accuracy` | as above |
    | `held_out/calibration` | mean distance of the model's choice probabilities from the evaluator's own |
    | `held_out/corr_G`, `held_out/corr_G_obs` | Pearson's correlation of scores with the true and believed returns |

    Args:
        preferences: `plain_preferences` or `marginalised_preferences`.
        failures: To measure `hidden_gap` on, which is in units of the return where `settings.rationality` is the
            evaluator's β. It is left out where failures of either kind are missing.
        card_facts: Further rows of the model card.
        on_step: Called after each optimiser step.

    Raises:
        InputError: Too few pairs, none whose sides differ, or adaptation `qlora` or dtype `bfloat16`.
    """
    if settings.adaptation == "qlora":
        raise InputError("a reward model trains with full weights or lora; its new head does not live in 4 bits")
    if settings.dtype == "bfloat16":
        raise InputError("a reward model's new head learns in float32; leave dtype out")
    policy = load_for_training(settings, model_path, dtype="float32")  # the new head learns in it
    model = make_scoring_model(policy)
    limit = context_limit(settings, policy)
    rows, kept = reward_rows(preferences, policy.tokenizer, limit, settings.too_long)
    prompts = [_prompt_text(preference.preference.prompt) for preference in kept]
    held, used = _split_pairs(prompts, settings)
    trainer = WeightedRewardTrainer(
        model=model,
        args=RewardConfig(
            **trl_arguments(settings, policy, out),
            max_length=None,
            warmup_steps=0.05,
        ),
        train_dataset=Dataset.from_list([rows[i] for i in used]),
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings, "SEQ_CLS"),
        data_collator=WeightedPreferenceCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[ProgressCallback(on_step)],
    )
    trainer.rationality = settings.rationality
    if settings.by_prompt:
        trainer.sampler = PromptSampler([prompts[i] for i in used], settings.seed)
    learnt = {prompts[i] for i in used} if settings.by_prompt else set()
    fresh = [failure for failure in failures if _prompt_text(failure.prompt) not in learnt]

    def finish() -> dict[str, float]:
        scoring = trainer.accelerator.unwrap_model(trainer.model)
        fitted = {}
        if settings.fit_head:
            learnt_from = [kept[i] for i in used]
            fitted = fit_head(scoring, policy.tokenizer, learnt_from, settings.rationality, settings.head_ridge)
        metrics = _held_out_metrics(scoring, policy, [kept[i] for i in held], settings)
        return fitted | metrics | _hidden_gaps(scoring, policy, fresh)

    texts = {tuple(ids) for row in rows for side in SIDES for ids in row[f"{side}_ids"]}  # each is scored once
    of_a_batch = len(texts) * min(1.0, settings.batch_size / len(rows)) if settings.by_prompt else len(texts)
    step = StepSize(min(2 * settings.batch_size, math.ceil(of_a_batch)), max(map(len, texts)), 0)
    facts = {
        **card_facts,
        "pairs": len(used),
        "pairs kept back": len(held),
        "annotations": kept[0].preference.annotations,
        "annotated return": kept[0].preference.annotations != "none" and kept[0].preference.annotated_return,
        "marginalised": kept[0].ending is not None,
        **({"ending": kept[0].ending} if kept[0].ending is not None else {}),
    }
    return run_trainer(trainer, settings, policy, out, kind="reward", facts=facts, step=step, measure=finish)


def _prompt_text(prompt: Sequence[Message]) -> str:
    return "\n".join(message["content"] for message in prompt)


def _split_pairs(prompts: Sequence[str], settings: RewardSettings) -> tuple[list[int], list[int]]:
    """The places of the pairs kept back for measuring, and of those to learn from. `prompts`: of each pair."""
    unit_of: Sequence[str | int] = prompts if settings.by_prompt else range(len(prompts))
    units = list(dict.fromkeys(unit_of))
    random.Random(settings.seed).shuffle(units)
    back = max(1, round(settings.held_out * len(units))) if settings.held_out else 0
    if back >= len(units):
        what = "prompts" if settings.by_prompt else "pairs"
        raise InputError(f"{len(units)} {what} are too few to keep {settings.held_out:.0%} back for measuring")
    rank = {unit: place for place, unit in enumerate(units)}
    order = sorted(range(len(prompts)), key=lambda place: rank[unit_of[place]])
    kept = sum(rank[unit] < back for unit in unit_of)
    return order[:kept], order[kept:]


def _held_out_metrics(
    model: Any, policy: LoadedPolicy, preferences: Sequence[WeightedPreference], settings: RewardSettings
) -> dict[str, float]:
    """The metrics on pairs the model never saw. A correlation with something constant is left out."""
    if not preferences:
        return {}
    chosen = np.array(expected_scores(model, policy.tokenizer, [p.chosen for p in preferences]))
    rejected = np.array(expected_scores(model, policy.tokenizer, [p.rejected for p in preferences]))
    predicted = 1 / (1 + np.exp(-settings.rationality * (chosen - rejected)))
    actual = np.array([p.preference.probability for p in preferences])
    metrics = {
        "held_out/pairs": float(len(preferences)),
        "held_out/accuracy": float(np.mean(chosen > rejected)),
        "held_out/calibration": float(np.mean(np.abs(predicted - actual))),
    }
    metrics["calibration_error"] = metrics["held_out/calibration"]
    scores = np.concatenate([chosen, rejected])
    for name in ("G", "G_obs"):
        returns = np.array([getattr(p.preference, f"{side}_{name}") for side in SIDES for p in preferences])
        if scores.std() > 0 and returns.std() > 0:
            metrics[f"held_out/corr_{name}"] = float(np.corrcoef(scores, returns)[0, 1])
    return metrics


def _hidden_gaps(model: Any, policy: LoadedPolicy, failures: Sequence[Failure]) -> dict[str, float]:
    """`hidden_gap/SLOT` for each way of filling the slot, where there are failures of both kinds."""
    kinds = {hidden: [failure for failure in failures if failure.hidden is hidden] for hidden in (True, False)}
    if not all(kinds.values()):
        return {}
    gaps = {}
    for slot in failures[0].readings:
        hidden, shown = (
            fmean(expected_scores(model, policy.tokenizer, [failure.readings[slot] for failure in kinds[kind]]))
            for kind in (True, False)
        )
        gaps[f"hidden_gap/{slot}"] = hidden - shown
    return gaps


class RewardModel:
    """A trained reward model, for scoring whole conversations."""

    def __init__(self, path: Path) -> None:
        """Loads the folder that `train_reward` left; raises `InputError` if `path` holds no reward model."""
        try:
            kinds = AutoConfig.from_pretrained(path).architectures or []
            # A language model's folder loads too, with a head of random weights.
            if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
                raise ValueError(f"it is a {', '.join(kinds)}")
            self.model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1)
            self.tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            message = f"{path} holds no reward model ({first_line(error)}); train one: devnull train reward"
            raise InputError(message) from None
        self.model.to(own_device())

    def scores(self, sides: Sequence[WeightedConversations]) -> list[float]:
        """The expected score of each side, Σ weight · score; in no unit, and comparable within one model only."""
        return expected_scores(self.model, self.tokenizer, sides)
