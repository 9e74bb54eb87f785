"""A reward model of whole episodes from preferences (Bradley-Terry): a language model with a head of one number."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from devnull.sandbox.errors import InputError
from devnull.training.data import tokenize_conversation
from devnull.training.model_card import NO_FACTS, CardFacts
from devnull.training.models import LoadedPolicy, first_line
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


@dataclass
class WeightedPreferenceCollator(DataCollatorForPreference):  # type: ignore[misc]
    """Flattens the conversations of all sides into one batch: all chosen ones, then all rejected ones.

    Beside `input_ids` and `attention_mask`, (conversations, tokens): `side`, the number of the side that a
    conversation belongs to (pairs, chosen first, then rejected), and `weight`, both (conversations,).
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        flat: dict[str, list[list[int]]] = {side: [] for side in SIDES}
        sides, weights = [], []
        for number, (side, example) in enumerate((side, example) for side in SIDES for example in examples):
            flat[side] += example[f"{side}_ids"]
            weights += example[f"{side}_weights"]
            sides += [number] * len(example[f"{side}_ids"])
        rows = [torch.tensor(ids) for side in SIDES for ids in flat[side]]
        return {
            "input_ids": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            "side": torch.tensor(sides),
            "weight": torch.tensor(weights, dtype=torch.float32),
        }


class WeightedRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """Bradley-Terry on each side's expected score: loss -log σ(β (chosen - rejected)), averaged over the pairs.

    One conversation of weight 1 a side is the plain model. Takes rows as `reward_rows` makes them.
    """

    rationality = 1.0
    """The evaluator's β."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [f"{side}_{what}" for side in SIDES for what in ("ids", "weights")]

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
        logged = self._metrics["train" if self.model.training else "eval"]
        logged["accuracy"].append((margin > 0).float().mean().item())
        logged["margin"].append(margin.mean().item())
        return (loss, outputs) if return_outputs else loss


def train_reward(
    settings: RewardSettings,
    preferences: Sequence[WeightedPreference],
    model_path: str | Path,
    out: Path,
    *,
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

    At the end, on the pairs kept back (share `settings.held_out`):

    | metric | is |
    | --- | --- |
    | `held_out/pairs` | how many |
    | `held_out/accuracy` | as above |
    | `held_out/calibration` | mean distance of the model's choice probabilities from the evaluator's own |
    | `held_out/corr_G`, `held_out/corr_G_obs` | Pearson's correlation of scores with the true and believed returns |

    Args:
        preferences: `plain_preferences` or `marginalised_preferences`.
        card_facts: Further rows of the model card.
        on_step: Called after each optimiser step.

    Raises:
        InputError: Too few pairs, none whose sides differ, or adaptation `qlora`.
    """
    if settings.adaptation == "qlora":
        raise InputError("a reward model trains with full weights or lora; its new head does not live in 4 bits")
    policy = load_for_training(settings, model_path, dtype="float32")  # the new head learns in it
    model = make_scoring_model(policy)
    limit = context_limit(settings, policy)
    rows, kept = reward_rows(preferences, policy.tokenizer, limit, settings.too_long)
    order = list(range(len(rows)))
    random.Random(settings.seed).shuffle(order)
    back = max(1, round(settings.held_out * len(rows))) if settings.held_out else 0
    if back >= len(rows):
        raise InputError(f"{len(rows)} pairs are too few to keep {settings.held_out:.0%} back for measuring")
    held, used = order[:back], order[back:]
    trainer = WeightedRewardTrainer(
        model=model,
        args=RewardConfig(
            **trl_arguments(settings, policy, out),
            max_length=None,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
        ),
        train_dataset=Dataset.from_list([rows[i] for i in used]),
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings.lora_rank, "SEQ_CLS"),
        data_collator=WeightedPreferenceCollator(pad_token_id=policy.tokenizer.pad_token_id),
        callbacks=[ProgressCallback(on_step)],
    )
    trainer.rationality = settings.rationality

    def measure() -> dict[str, float]:
        return _held_out_metrics(
            trainer.accelerator.unwrap_model(trainer.model), policy, [kept[i] for i in held], settings
        )

    facts = {
        **card_facts,
        "pairs": len(used),
        "pairs kept back": back,
        "annotations": kept[0].preference.annotations,
        "annotated return": kept[0].preference.annotations != "none" and kept[0].preference.annotated_return,
        "marginalised": any(len(preference.chosen) > 1 for preference in kept),
    }
    return run_trainer(trainer, settings, policy, out, kind="reward", facts=facts, measure=measure)


def make_scoring_model(policy: LoadedPolicy) -> Any:
    """The policy's body with a new head of one number, read at the last token before the padding."""
    model = AutoModelForSequenceClassification.from_pretrained(
        policy.model.config._name_or_path, num_labels=1, dtype=policy.model.dtype
    )
    model.model.load_state_dict(policy.model.model.state_dict())
    model.config.pad_token_id = policy.tokenizer.pad_token_id
    return model


def expected_scores(model: Any, tokenizer: Any, sides: Sequence[WeightedConversations], batch: int = 16) -> list[float]:
    """Σ weight · score of each side. Runs `batch` conversations at once, without gradients."""
    flat = [
        (number, weight, tokenize_conversation(tokenizer, chat).ids)
        for number, side in enumerate(sides)
        for chat, weight in side
    ]
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
    scores = np.concatenate([chosen, rejected])
    for name in ("G", "G_obs"):
        returns = np.array([getattr(p.preference, f"{side}_{name}") for side in SIDES for p in preferences])
        if scores.std() > 0 and returns.std() > 0:
            metrics[f"held_out/corr_{name}"] = float(np.corrcoef(scores, returns)[0, 1])
    return metrics


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
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def scores(self, sides: Sequence[WeightedConversations]) -> list[float]:
        """The expected score of each side, Σ weight · score; in no unit, and comparable within one model only."""
        return expected_scores(self.model, self.tokenizer, sides)
