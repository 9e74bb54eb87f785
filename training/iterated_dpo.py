"""Iterated DPO: roll out, have it labelled, train, and again with the new policy; how far it drifts each round."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from devnull.agents.episode import Episode
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.errors import InputError
from devnull.training.data import conversation, encode, prompt_ids
from devnull.training.dpo import train_dpo
from devnull.training.grpo import log_probabilities
from devnull.training.models import Policy, load_policy
from devnull.training.settings import DPOSettings
from devnull.training.token_agent import History
from devnull.training.trl_run import NOTHING, About, OnStep, TrainResult


@dataclass(frozen=True)
class Round:
    """What one round made."""

    result: TrainResult
    drift: float
    """Mean over the round's episodes of log π/π_0 of all the agent said, in nats: how far the policy that acted
    had come from the first one (0 in the first round)."""


def iterate_dpo(
    settings: DPOSettings,
    rounds: int,
    play: Callable[[Path, int], Sequence[Episode]],
    label: Callable[[Sequence[Episode], int], Iterable[Preference]],
    model_path: Path,
    out: Path,
    *,
    about: About = NOTHING,
    on_step: OnStep | None = None,
) -> list[Round]:
    """`rounds` times: `play(policy, round)`, `label(episodes, round)`, DPO. Results in `out/round-1`, ...

    Each round's reference is the policy that acted in it. A killed run goes on after the last finished round.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; it must be at least 1")
    done: list[Round] = []
    policy = model_path
    for number in range(1, rounds + 1):
        folder = out / f"round-{number}"
        finished = TrainResult.read(folder)
        if finished is None:
            episodes = play(policy, number)
            drift = drift_between(policy, model_path, episodes)
            pairs = label(episodes, number)
            seeded = replace(settings, seed=settings.seed + number)
            finished = train_dpo(seeded, pairs, policy, folder, about=about, on_step=on_step)
            (folder / "drift.json").write_text(json.dumps(drift) + "\n")
        done.append(Round(finished, float(json.loads((folder / "drift.json").read_text()))))
        policy = folder
    return done


def drift_between(policy: Path, first: Path, episodes: Sequence[Episode]) -> float:
    """Estimate of KL(π || π_0) from episodes of π."""
    if policy == first:
        return 0.0
    histories_of = [episode for episode in episodes if episode.error is None and episode.transcript.turns]
    sums = []
    for path in (policy, first):
        loaded = load_policy(path, adaptation="full")
        with torch.no_grad():
            sums.append(log_probabilities(loaded.model, loaded, [_history(loaded, e) for e in histories_of]))
    return float((sums[0] - sums[1]).mean())


def _history(policy: Policy, episode: Episode) -> History:
    """An episode as tokens, from its text."""
    chat = conversation(episode)
    prompt = prompt_ids(policy.tokenizer, chat[:2])
    encoded = encode(policy.tokenizer, chat)
    return History(prompt, encoded.ids[len(prompt) :], encoded.mask[len(prompt) :])
