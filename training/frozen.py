"""Weights that do not learn: found by name, kept out of the gradient, or of the adapters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch

from devnull.sandbox.errors import InputError, did_you_mean
from devnull.training.models import LoadedPolicy

FROZEN_KEY = "frozen_in_rl"
"""Key of a model's config: the weights that fine-tuning leaves alone unless it is told otherwise."""


def freeze(policy: LoadedPolicy, wanted: Sequence[str] | None) -> LoadedPolicy:
    """The policy with the weights that `wanted` names kept from learning.

    Args:
        wanted: Parts of their dotted names (`self_attn`), or patterns of whole names (`model.layers.0.*`). `None`:
            those that the model's config names, if any.

    Raises:
        InputError: A name that matches no weight, or nothing is left that could learn.
    """
    names = tuple(getattr(policy.model.config, FROZEN_KEY, ())) if wanted is None else tuple(wanted)
    weights = dict(policy.model.named_parameters(remove_duplicate=False))  # tied ones go by both names
    frozen = {name: _matching(name, weights, policy) for name in names}
    kept = {weight for matching in frozen.values() for weight in matching}
    if policy.adaptation == "full":
        for weight in kept:
            weights[weight].requires_grad_(False)
    if kept and not _can_learn(policy, kept):
        raise InputError(f"frozen names all of {policy.source} that could learn ({', '.join(names)}); leave some out")
    return replace(policy, frozen=frozen)


def _matching(name: str, weights: Mapping[str, torch.nn.Parameter], policy: LoadedPolicy) -> tuple[str, ...]:
    found = tuple(weight for weight in weights if name in weight.split(".") or fnmatchcase(weight, name))
    if not found:
        parts = sorted({part for weight in weights for part in weight.split(".") if not part.isdigit()})
        hint = did_you_mean(name, [*parts, *weights]) or f"; there are {', '.join(parts)}"
        raise InputError(f"frozen: no weight of {policy.source} is called {name!r}{hint}")
    return found


def _can_learn(policy: LoadedPolicy, kept: set[str]) -> bool:
    """Whether a weight is left that learns; with adapters, a layer that gets one."""
    if policy.adaptation == "full":
        return any(weight.requires_grad for weight in policy.model.parameters())
    head = policy.model.get_output_embeddings()
    return any(
        isinstance(module, torch.nn.Linear) and module is not head and f"{name}.weight" not in kept
        for name, module in policy.model.named_modules()
    )
