"""Supervised fine-tuning on transcripts, with the loss on the agent's tokens only."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from trl import SFTConfig, SFTTrainer

from devnull.agents.episode import Episode
from devnull.sandbox.errors import InputError
from devnull.training.data import sft_dataset
from devnull.training.settings import SFTSettings as SFTSettings
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

_LEARNING_RATE = {"full": 4e-3, "lora": 1e-3, "qlora": 1e-3}
GOOD, BAD = "Rated good.", "Rated bad."


def train_sft(
    settings: SFTSettings,
    episodes: Sequence[Episode],
    model_path: str | Path,
    out: Path,
    *,
    scores: Mapping[tuple[str, str, int, int], float] | None = None,
    about: About = NOTHING,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Trains on every episode that ended without an infrastructure error; `out` then holds the model.

    `scores` (by `Episode.key`) turns on conditional training: a line before the instruction says whether
    the episode scored above the median ("Rated good.") or not ("Rated bad."). `about` goes into the model card.
    """
    policy = prepare(settings, model_path)
    tag = None
    if scores is not None:
        missing = next((episode.key for episode in episodes if episode.key not in scores), None)
        if missing is not None:
            raise InputError(f"no score for the episode {missing}; conditional training needs one for each")
        middle = statistics.median(scores.values())
        known = scores

        def tag(episode: Episode) -> str:
            return GOOD if known[episode.key] > middle else BAD

    dataset = sft_dataset(
        episodes, policy.tokenizer, context_limit(settings, policy), too_long=settings.too_long, tag=tag
    )
    arguments = trl_arguments(settings, policy, out, _LEARNING_RATE[policy.adaptation])
    config = SFTConfig(
        **arguments, max_length=None, warmup_steps=settings.warmup, lr_scheduler_type="cosine", dataset_num_proc=None
    )
    trainer = SFTTrainer(
        model=policy.model,
        args=config,
        train_dataset=dataset,
        processing_class=policy.tokenizer,
        peft_config=policy.adapter(settings.lora_rank),
        callbacks=[Watch(on_step)],
    )
    facts = {**about, "episodes": len(dataset), "conditional": scores is not None}
    return fit(trainer, settings, policy, out, kind="sft", facts=facts)
