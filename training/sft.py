"""Supervised fine-tuning on transcripts, with the loss on the agent's tokens only."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from trl import SFTConfig, SFTTrainer

from devnull.agents.episode import Episode, EpisodeKey
from devnull.sandbox.errors import InputError
from devnull.training.data import sft_dataset
from devnull.training.model_card import NO_FACTS, CardFacts
from devnull.training.settings import SFTSettings
from devnull.training.train_result import TrainResult
from devnull.training.trl_run import (
    ProgressCallback,
    StepCallback,
    context_limit,
    load_for_training,
    run_trainer,
    trl_arguments,
)

_GOOD_TAG, _BAD_TAG = "Rated good.", "Rated bad."


def train_sft(
    settings: SFTSettings,
    episodes: Sequence[Episode],
    model_path: str | Path,
    out: Path,
    *,
    scores: Mapping[EpisodeKey, float] | None = None,
    card_facts: CardFacts = NO_FACTS,
    on_step: StepCallback | None = None,
) -> TrainResult:
    """Trains on every episode that ended without an infrastructure failure; the folder `out` then holds the model.

    Args:
        model_path: The model to start from: a folder, or a name on the Hugging Face hub.
        scores: By `Episode.key`; turns on conditional training, in which a line before the instruction says whether
            the episode scored above the median ("Rated good.") or not ("Rated bad.").
        card_facts: Further rows of the model card.
        on_step: Called after each optimiser step.

    Raises:
        InputError: Nothing to learn from, an episode without a score, or a setting that cannot be.

    Example:
        >>> train_sft(SFTSettings(epochs=2), episodes, "checkpoints/tiny", Path("checkpoints/sft")).metrics["loss"]
    """
    policy = load_for_training(settings, model_path)
    tag = None
    if scores is not None:
        missing = next((episode.key for episode in episodes if episode.key not in scores), None)
        if missing is not None:
            raise InputError(f"no score for the episode {missing}; conditional training needs one for each")
        middle = statistics.median(scores.values())

        def tag(episode: Episode) -> str:
            return _GOOD_TAG if scores[episode.key] > middle else _BAD_TAG

    dataset = sft_dataset(
        episodes, policy.tokenizer, context_limit(settings, policy), too_long=settings.too_long, tag=tag
    )
    arguments = trl_arguments(settings, policy, out)
    config = SFTConfig(
        **arguments, max_length=None, warmup_steps=settings.warmup, lr_scheduler_type="cosine", dataset_num_proc=None
    )
    trainer = SFTTrainer(
        model=policy.model,
        args=config,
        train_dataset=dataset,
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings.lora_rank),
        callbacks=[ProgressCallback(on_step)],
    )
    facts = {**card_facts, "episodes": len(dataset), "conditional": scores is not None}
    return run_trainer(trainer, settings, policy, out, kind="sft", facts=facts)
