"""Iterated DPO: roll out, let the evaluator compare, train, and again with the new policy; its drift in each round."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from devnull.agents.episode import Episode
from devnull.rewards.feedback.comparisons import Preference, episode_messages
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.training.data import tokenize_conversation, tokenize_prompt
from devnull.training.dpo import train_dpo
from devnull.training.kl import episode_log_probs
from devnull.training.model_card import NO_FACTS, CardFacts
from devnull.training.models import LoadedPolicy, load_policy
from devnull.training.processes import own_device
from devnull.training.settings import DPOSettings
from devnull.training.token_agent import TokenHistory
from devnull.training.train_result import TrainResult
from devnull.training.trl_run import StepCallback


@dataclass(frozen=True)
class DPORound:
    """The result of one round."""

    result: TrainResult
    drift: float
    """KL(π || π_0) in nats, estimated from the round's episodes: how far the policy that played them had come from
    the first one (0 in the first round)."""


def iterate_dpo(
    settings: DPOSettings,
    rounds: int,
    play: Callable[[Path, int], Sequence[Episode]],
    label: Callable[[Sequence[Episode], int], Iterable[Preference]],
    model_path: Path,
    out: Path,
    *,
    card_facts: CardFacts = NO_FACTS,
    on_step: StepCallback | None = None,
) -> list[DPORound]:
    """Plays, labels and trains `rounds` times; the results are in `out/round-1`, ...

    Each round's reference is the policy that played its episodes. A killed run goes on after the last finished round.

    Args:
        play: (folder of the policy, number of the round from 1) → the round's episodes.
        label: (episodes, number of the round) → the evaluator's preferences among them.
        model_path: The first policy.

    Raises:
        InputError: `rounds` is below 1, or what `train_dpo` raises.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; it must be at least 1")
    done: list[DPORound] = []
    policy = model_path
    for number in range(1, rounds + 1):
        folder = out / f"round-{number}"
        finished, drift_file = TrainResult.read(folder), folder / "drift.json"
        if finished is None or not drift_file.exists():  # killed between the two, it lacks the second
            episodes = play(policy, number)
            drift = estimate_drift(policy, model_path, episodes)
            if finished is None:
                seeded = replace(settings, seed=settings.seed + number)
                pairs = label(episodes, number)
                finished = train_dpo(seeded, pairs, policy, folder, card_facts=card_facts, on_step=on_step)
            write_atomically(drift_file, json.dumps(drift) + "\n")
        done.append(DPORound(finished, float(json.loads(drift_file.read_text()))))
        policy = folder
    return done


def estimate_drift(policy: Path, first: Path, episodes: Sequence[Episode]) -> float:
    """Estimate of KL(π || π_0) in nats: mean over π's episodes of log π/π_0 of the agent's own tokens.

    Args:
        policy: Folder of π, which played `episodes`; those without a message of the agent are left out.
        first: Folder of π_0.
    """
    if policy == first:
        return 0.0
    usable = [episode for episode in episodes if episode.error is None and episode.transcript.turns]
    sums = []
    for path in (policy, first):
        loaded = load_policy(path, adaptation="full")
        with torch.no_grad():
            sums.append(episode_log_probs(loaded.model.to(own_device()), loaded, [_history(loaded, e) for e in usable]))
    return float((sums[0] - sums[1]).mean())


def _history(policy: LoadedPolicy, episode: Episode) -> TokenHistory:
    """An episode as token ids, from its text."""
    chat = episode_messages(episode)
    prompt = tokenize_prompt(policy.tokenizer, chat[:2])
    encoded = tokenize_conversation(policy.tokenizer, chat)
    return TokenHistory(prompt, encoded.ids[len(prompt) :], encoded.mask[len(prompt) :])
